"""Lines of a table: cells, headings and numbers, with any separator."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator

from .text_file import TextFile
from .units import Column

DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")


def delimiter_of(line: str) -> str | None:
    """The separator of the cells of a line: ; tab , or (None) white space."""
    for delimiter in ";\t":
        if delimiter in line:
            return delimiter
    words = line.split()
    spaced = len(words) > 1 and any(DECIMAL_COMMA.fullmatch(word) for word in words)
    return "," if "," in line and not spaced else None


def split(line: str, delimiter: str | None) -> list[str]:
    """The cells of a line, without the white space around them."""
    if delimiter is None:
        return line.split()
    if '"' in line:
        try:
            return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter))]
        except csv.Error:
            return [line]
    return [cell.strip() for cell in line.split(delimiter)]


def number_in(cell: str) -> float | None:
    """A finite number in usual notation, or None."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) and cell.isascii() and "_" not in cell else None


def is_heading(cells: list[str]) -> bool:
    """Whether the cells are words, without any number."""
    return any(cell[:1].isalpha() for cell in cells) and all(
        number_in(cell) is None and not DECIMAL_COMMA.fullmatch(cell) for cell in cells
    )


class Cells:
    """The rows of a table: line numbers and cells. Every row must have the number of cells of the first one.

    headings: the columns' names and units; empty if the first line is data.
    """

    def __init__(self, source: TextFile, *, columns: int | None = None) -> None:
        self._source = source
        self._rows = source.rows()
        self.headings: list[Column] = []
        self._columns = columns
        self._delimiter: str | None = None
        self._waiting: tuple[int, str] | None = next(self._rows, None)
        if self._waiting is not None:
            line = self._waiting[1]
            self._delimiter = delimiter_of(line)
            cells = split(line, self._delimiter)
            if is_heading(cells):
                self.headings = [Column.of(cell) for cell in cells]
                self._columns = len(cells)
                self._waiting = None

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        if self._waiting is not None:
            yield self._checked(*self._waiting)
        for number, line in self._rows:
            yield self._checked(number, line)

    def _checked(self, number: int, line: str) -> tuple[int, list[str]]:
        cells = split(line, self._delimiter)
        if self._columns is None:
            self._columns = len(cells)
        if len(cells) != self._columns:
            raise self._source.error(
                number, f"{len(cells)} column{'s' * (len(cells) != 1)} in {shown(line)}, expected {self._columns}"
            )
        return number, cells

    def place(self, name: str) -> int | None:
        """The index of the column of that name; None: there is none."""
        return next((i for i, column in enumerate(self.headings) if column.name == name), None)

    def number(self, line: int, cell: str, what: str) -> float:
        """A cell as a number.

        Raises:
            TraceError: it is not a number.
        """
        value = number_in(cell)
        if value is None:
            hint = "; a decimal comma? write a point" if DECIMAL_COMMA.fullmatch(cell) else ""
            raise self._source.error(line, f"{what} is {shown(cell)}, expected a number such as 0.5{hint}")
        return value


def shown(text: str) -> str:
    """A value for a message, shortened to fit on a line."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
