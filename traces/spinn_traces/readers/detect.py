"""Finds the format of a text file from its first lines."""

from __future__ import annotations

from .tables.cells import DECIMAL_COMMA, delimiter_of, is_heading, number_in, shown, split
from .tables.text_file import TextFile
from .tables.units import Column

HEADINGS = (
    ({"timestamp", "dl_bitrate"}, "irish-5g"),
    ({"pub_time", "delay"}, "cicv5g"),
    ({"seq_num", "throughput", "nrstatus"}, "5gophers"),
)
FEWEST_BYTES = 10_000
"""Whole numbers after a comma that never reach this are more likely Mb/s than bytes a second (0.08 Mb/s)."""

EPOCH_MS = 1e12


def detect(source: TextFile, formats: list[str]) -> str:
    """The name of the format.

    Raises:
        TraceError: no format fits, or two do; shows the first line and names the formats.
    """
    lines = source.head()
    if not lines:
        raise source.error(1, "no rows of data; the trace is empty")
    number, first = lines[0]
    found = _by_mark(first) or _by_columns([line for _, line in lines[:200]])
    if found in formats:
        return found
    raise source.error(
        number, f"{found or 'no known format'}: {shown(first.strip())}; expected one of {', '.join(formats)}; "
        "--format NAME names it"
    )  # fmt: skip


def _by_mark(first: str) -> str | None:
    """By a bracket, or the names in a heading."""
    if first.lstrip().startswith(("[", "{")):
        return "sabre"
    cells = split(first, delimiter_of(first))
    columns = [Column.of(cell) for cell in cells] if is_heading(cells) else []
    names = {column.name for column in columns}
    for known, name in HEADINGS:
        if known <= names:
            return name
    if "time_s" in (cell.lower() for cell in cells):
        return "spinn-csv"
    if len(columns) == 2 and any(column.is_time for column in columns):
        if any(column.is_rate for column in columns):
            return _rates(delimiter_of(first))
        return "mp-traces" if any(column.is_size for column in columns) else None
    return None


def _rates(delimiter: str | None) -> str:
    return "pensieve" if delimiter == "\t" else "seconds-mbps"


def _by_columns(lines: list[str]) -> str | None:
    """By the number of cells in a line, and what separates them."""
    delimiter = delimiter_of(lines[0])
    cells = split(lines[0], delimiter)
    numbers = [value for cell in cells if (value := number_in(cell)) is not None]
    if any(DECIMAL_COMMA.fullmatch(cell) for cell in cells):
        return "decimal commas are not read, write points"
    sent, received, delay = (number_in(cell) or 0.0 for cell in [*cells, "", "", ""][:3])
    if sent > EPOCH_MS and received - sent == delay:
        return "cicv5g"
    if len(numbers) < len(cells):
        return None
    if len(cells) == 2:
        return _two_columns(lines, delimiter)
    return "mahimahi" if len(cells) == 1 else None


def _two_columns(lines: list[str], delimiter: str | None) -> str:
    if delimiter != ",":
        return _rates(delimiter)
    cells = [row[1] for line in lines if len(row := split(line, delimiter)) == 2]
    known = [value for cell in cells if (value := number_in(cell)) is not None]
    if any(not value.is_integer() for value in known):
        return "seconds-mbps"
    return "mp-traces" if max(known) >= FEWEST_BYTES else "either mp-traces or seconds-mbps"
