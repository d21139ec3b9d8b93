"""Output files of options: `--jsonl`, `--summary`, `--record-trace`."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Generic

from spinn_stream.errors import ConfigError, ReaderGone

from .background import Background, Item

MAX_UNWRITTEN = 10_000
"""Most lines that may wait for a slow disk: some minutes' answers."""

LAST_LINES_S = 10.0


class OutputFile:
    """An output file: checked before the run, created or emptied when the run begins. `-` is stdout.

    option: that named it, for messages. Writing blocks, and does not use Python's buffers: a thread that is stuck in
    one could not be left behind when the process ends.
    """

    def __init__(self, path: Path, option: str = "") -> None:
        self.path = path
        self.option = option
        self._fd: int | None = None

    @property
    def is_stdout(self) -> bool:
        return str(self.path) == "-"

    def check(self) -> None:
        """Find out whether it can be written, without touching it.

        Raises:
            ConfigError: it cannot be; says why.
        """
        if self.is_stdout:
            return
        try:
            why = _obstacle(_target(self.path))
        except (OSError, ValueError) as error:
            why = _reason(error)
        if why is not None:
            raise ConfigError(f"cannot write {self.path}: {why}")

    def open(self) -> None:
        """Create or empty it. A named pipe waits for its reader.

        Raises:
            ConfigError: it cannot be opened.
        """
        with self._translated():
            if not self.is_stdout:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            elif sys.stdout is None:  # closed before this process began
                self._fd = os.open(os.devnull, os.O_WRONLY)
            else:
                sys.stdout.flush()
                self._fd = os.dup(sys.stdout.fileno())

    def write(self, text: str) -> None:
        """Hand all of it to the system.

        Raises:
            ReaderGone: it is a pipe, and its reader has left.
            ConfigError: it cannot be written.
        """
        assert self._fd is not None, "opened before"
        rest = memoryview(text.encode())
        with self._translated():
            while rest:
                try:
                    rest = rest[os.write(self._fd, rest) :]
                except BlockingIOError:  # another process made it non-blocking
                    select.select([], [self._fd], [])

    def close(self) -> None:
        """Raises ConfigError: some systems report only now that the file could not be written."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with self._translated():
                os.close(fd)

    def write_whole(self, text: str) -> None:
        """Write the file as a whole: a reader finds all of the text, or the old content.

        Raises:
            ReaderGone, ConfigError: as `write`.
        """
        if not self.is_stdout:
            with self._translated():
                if _replace(_target(self.path), text.encode()):
                    return
        self.open()
        try:
            self.write(text)
        finally:
            self.close()

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError as error:
            raise ReaderGone(f"nobody reads {self.path} any more") from error
        except (OSError, ValueError) as error:
            raise ConfigError(f"cannot write {self.path}: {_reason(error)}") from error


def check_outputs(outputs: Iterable[OutputFile], inputs: Mapping[str, Path] | None = None) -> None:
    """Check each, and that no two options name the same file. inputs: option -> what will be read.

    Raises:
        ConfigError: one cannot be written, or would overwrite another one or an input.
    """
    taken: dict[object, str] = {}
    for option, path in (inputs or {}).items():
        if (identity := _identity(path)) is not None:
            taken[identity] = option
    for output in outputs:
        output.check()
        identity = _identity(output.path)
        if identity is None:
            continue
        if identity in taken:
            raise ConfigError(f"{taken[identity]} and {output.option} name the same file: {output.path}")
        taken[identity] = output.option


class LineWriter(Generic[Item]):
    """Writes lines in a thread of its own, so that a slow disk delays no answer, and loses none silently.

    as_text: an item's lines, each with its end.

    Raises:
        ConfigError: the file cannot be written; it was not touched.
    """

    def __init__(self, output: OutputFile, as_text: Callable[[Item], str]) -> None:
        output.check()
        self._output = output
        self._as_text = as_text
        self._opened = False
        self._closed = False
        self._thread: Background[Item | None] = Background(
            self._write, name=f"writes {output.path}", bound=MAX_UNWRITTEN, at_once=MAX_UNWRITTEN
        )

    def begin(self) -> None:
        """Create or empty the file; in the thread, too, since a named pipe may have no reader yet. Raises as `add`."""
        self._put(None)

    def add(self, item: Item) -> None:
        """Queue its lines.

        Raises:
            ReaderGone: the reader of the pipe has left.
            ConfigError: the file cannot be written, or not fast enough.
        """
        self._put(item)

    def close(self, within_s: float = LAST_LINES_S) -> None:
        """Write what is left. A second call does nothing.

        Raises:
            ConfigError: the file could not be written, or not in time. A reader who left is no error.
        """
        if self._closed:
            return
        self._closed = True
        path = self._output.path
        if not self._thread.close(within_s):
            raise ConfigError(f"{path} takes lines too slowly: the last ones were not written within {within_s:g} s")
        if self._thread.failure is not None and not isinstance(self._thread.failure, ReaderGone):
            raise self._thread.failure
        with contextlib.suppress(ReaderGone):
            self._output.close()

    def _put(self, item: Item | None) -> None:
        if not self._thread.put(item):
            raise ConfigError(f"{self._output.path} takes lines too slowly: {MAX_UNWRITTEN} are waiting")

    def _write(self, items: list[Item | None]) -> None:
        if not self._opened:
            self._output.open()
            self._opened = True
        self._output.write("".join(self._as_text(item) for item in items if item is not None))


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _target(path: Path) -> Path:
    """The file at the end of symbolic links."""
    return Path(os.path.realpath(path))


def _obstacle(path: Path) -> str | None:
    """Why the file cannot be written; None: nothing is known to be in the way."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}"
        return None if os.access(path.parent, os.W_OK | os.X_OK) else f"the folder {path.parent} may not be written"
    if stat.S_ISDIR(mode):
        return "it is a folder, expected a file"
    return None if os.access(path, os.W_OK) else "it may not be written"


def _identity(path: Path) -> object:
    """Equal for two names of one file; None if it cannot be overwritten: devices, pipes, unreadable files."""
    is_stdout = str(path) == "-"
    try:
        found = os.fstat(sys.stdout.fileno()) if is_stdout else path.stat()
    except FileNotFoundError:
        return _target(path)
    except (AttributeError, OSError, ValueError):  # a stdout that is closed, or none of the system's
        return "-" if is_stdout else None
    if stat.S_ISREG(found.st_mode):
        return found.st_dev, found.st_ino
    return "-" if is_stdout else None


def _replace(path: Path, data: bytes) -> bool:
    """Replace the old file by a new one. False: not possible here, but writing into the old one may be."""
    mode = path.stat().st_mode if path.exists() else None
    if mode is not None and not stat.S_ISREG(mode):
        return False
    new = path.with_name(f".spinn-{os.getpid()}-{id(data):x}")  # a name that is no longer than any system takes
    try:
        with new.open("xb") as file:
            file.write(data)
        if mode is not None:
            new.chmod(stat.S_IMODE(mode))
        new.replace(path)
        return True
    except OSError as error:
        # A folder that may not be written, or a single file that is mounted into a container.
        if mode is None or error.errno not in {errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY}:
            raise
        return False
    finally:
        new.unlink(missing_ok=True)
