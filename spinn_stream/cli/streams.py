"""Standard streams, which may be closed from the start, or lose their reader at any time."""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Stream(io.FileIO):
    """A standard stream of this process. After its first failure it takes everything and writes nothing.

    So nothing that is left in buffers fails again when the process ends. tell: raise the first failure; not for stderr,
    since its failure cannot be shown.
    """

    def __init__(self, fd: int, *, tell: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self._tell = tell
        self.failure: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        rest = memoryview(data).cast("B")
        length = len(rest)
        while rest and self.failure is None:
            try:
                written = super().write(rest)
                if written is None:  # another process made it non-blocking
                    select.select([], [self], [])
                rest = rest[written or 0 :]
            except OSError as error:
                self.failure = error
                if self._tell:
                    raise
        return length


def mend() -> None:
    """Replace the standard streams by ones that cannot end the process; to be called before anything is printed or
    opened.

    A closed descriptor becomes the null device: otherwise the next opened file would get its number, and a library's
    output would go into that file. A broken stderr is ignored. A broken stdout raises once; `stdout_failure` says so
    afterwards. Streams that were replaced already are left alone.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdout is None or sys.stdout is sys.__stdout__:
        out = _Stream(1, tell=True)
        sys.stdout = _text(io.BufferedWriter(out), sys.stdout, line_buffering=out.isatty())
    if sys.stderr is None or sys.stderr is sys.__stderr__:
        # Without a buffer, as a thread that waits for a slow reader would hold the buffer's lock at the exit.
        sys.stderr = _text(_Stream(2, tell=False), sys.stderr, write_through=True)


def _text(
    binary: io.BufferedWriter | _Stream,
    before: TextIO | None,
    *,
    line_buffering: bool = False,
    write_through: bool = False,
) -> io.TextIOWrapper:
    encoding = "utf-8" if before is None else before.encoding
    return io.TextIOWrapper(
        binary, encoding, "backslashreplace", line_buffering=line_buffering, write_through=write_through
    )


def stdout_failure() -> OSError | None:
    """Why stdout could not be written; None: it could."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.failure if isinstance(raw, _Stream) else None
