"""A text file, plain or gzipped, in pieces of bounded size, and errors that name its lines."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from spinn_stream.errors import TraceError

LONGEST_LINE = 64 * 1024
"""Most characters of a line. No format here needs a thousandth of it."""

MAY_BE_ONE_LINE = ("[", "{")

PIECE = 1 << 20
MOST_TEXT = 1 << 33
"""Most characters of a text: room for the longest Mahimahi file, and a limit for a small file that unpacks to a huge
one."""

KINDS = {
    b"PK\x03\x04": "a zip archive; unpack it first",
    b"BZh": "bzip2; unpack it first",
    b"\xfd7zXZ": "xz; unpack it first",
    b"\x28\xb5\x2f\xfd": "zstandard; unpack it first",
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"%PDF": "a PDF",
}
GZIP = b"\x1f\x8b"


class TextFile:
    """Reads once, from its beginning. `head` shows the first lines before that."""

    def __init__(self, path: Path, text: IO[str]) -> None:
        self.path = path
        self._text = text
        self._line = 1
        self._head = self._read()
        if "\0" in self._head:
            next(self.chunks())  # which says where

    def error(self, line: int, reason: str) -> TraceError:
        return TraceError(f"{self.path}:{line}: {reason}")

    def head(self) -> list[tuple[int, str]]:
        """The first lines with their numbers, without comments and empty ones; the last may be cut off."""
        lines = enumerate(self._head[: 4 * LONGEST_LINE].split("\n"), start=1)
        found = [(n, line) for n, line in lines if has_data(line)]
        if found and len(found[0][1]) > LONGEST_LINE and not found[0][1].lstrip().startswith(MAY_BE_ONE_LINE):
            raise self._too_long(found[0][0])
        return found

    def chunks(self) -> Iterator[str]:
        """The text in pieces, cut anywhere.

        Raises:
            TraceError: bytes that are not text, damaged compression, or too much text.
        """
        total, chunk, self._head = 0, self._head, ""
        while chunk:
            total += len(chunk)
            if total > MOST_TEXT:
                raise self.error(self._line, f"more than {MOST_TEXT >> 30} GiB of text; cut the file into pieces")
            at = chunk.find("\0")
            if at >= 0:
                raise self.error(self._line + chunk.count("\n", 0, at), "a zero byte; expected a text file")
            yield chunk
            self._line += chunk.count("\n")
            chunk = self._read()

    def pieces(self) -> Iterator[tuple[int, str]]:
        """The text in pieces of whole lines, each with the number of its first line. A last line may lack its end.

        Raises:
            TraceError: as `chunks`, and a line that is too long.
        """
        rest, first = "", 1
        for chunk in self.chunks():
            whole, newline, tail = chunk.rpartition("\n")
            if newline:
                text = f"{rest}{whole}\n"
                yield first, text
                first += text.count("\n")
                rest = tail
            else:
                rest += tail
            if len(rest) > LONGEST_LINE:
                raise self._too_long(first)
        if rest:
            yield first, rest

    def lines(self) -> Iterator[tuple[int, str]]:
        """Every line with its number, without its end."""
        for first, text in self.pieces():
            for number, line in enumerate(text.removesuffix("\n").split("\n"), start=first):
                if len(line) > LONGEST_LINE:
                    raise self._too_long(number)
                yield number, line

    def rows(self) -> Iterator[tuple[int, str]]:
        """Lines without comments and empty ones."""
        return ((number, line) for number, line in self.lines() if has_data(line))

    def _read(self) -> str:
        try:
            return self._text.read(PIECE)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self.error(self._line, f"the compressed data is damaged or cut off: {error}") from error
        except OSError as error:
            raise self.error(self._line, f"cannot be read: {error.strerror or error}") from error

    def _too_long(self, line: int) -> TraceError:
        return self.error(line, f"longer than {LONGEST_LINE} characters; no trace has such a line")


def has_data(line: str) -> bool:
    stripped = line.lstrip()
    return bool(stripped) and not stripped.startswith("#")


@contextmanager
def open_bytes(path: Path) -> Iterator[io.BufferedReader]:
    """Raises TraceError: there is no such file, or it cannot be read."""
    try:
        if path.is_dir():
            raise TraceError(f"{path} is a folder, expected a trace file")
        with path.open("rb") as raw:
            yield raw
    except FileNotFoundError as error:
        raise TraceError(f"there is no file {path}") from error
    except OSError as error:
        raise TraceError(f"cannot read {path}: {error.strerror or error}") from error


@contextmanager
def as_text(path: Path, raw: io.BufferedReader) -> Iterator[TextFile]:
    """UTF-8 with any line ends, with or without a byte order mark; gzip is unpacked on the way.

    Raises:
        TraceError: it is empty, or not text.
    """
    start = raw.peek(8)[:8]
    for magic, kind in KINDS.items():
        if start.startswith(magic):
            raise TraceError(f"{path}:1: {kind}")
    if not start:
        raise TraceError(f"{path}:1: the file is empty")
    binary = cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if start.startswith(GZIP) else raw
    with io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace") as text:
        yield TextFile(path, text)


@contextmanager
def open_text(path: Path) -> Iterator[TextFile]:
    """Raises TraceError: as `open_bytes` and `as_text`."""
    with open_bytes(path) as raw, as_text(path, raw) as text:
        yield text
