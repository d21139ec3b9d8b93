"""Readers of recorded traces. `read_trace` finds out the format of a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spinn_stream.errors import ConfigError

from . import cicv5g, five_gophers, irish_5g, mahimahi, mp_traces, rates, sabre, spinn_files
from .detect import detect
from .reading import Reading
from .tables.text_file import TextFile, as_text, open_bytes
from .tables.units import UnknownUnit

__all__ = ["FORMATS", "Reading", "read_trace", "write_parquet"]

write_parquet = spinn_files.write_parquet

TEXT: dict[str, Callable[[TextFile], Reading]] = {
    mahimahi.FORMAT: mahimahi.read,
    sabre.FORMAT: sabre.read,
    rates.PENSIEVE: rates.read_pensieve,
    rates.PLAIN: rates.read_plain,
    irish_5g.FORMAT: irish_5g.read,
    cicv5g.FORMAT: cicv5g.read,
    mp_traces.FORMAT: mp_traces.read,
    five_gophers.FORMAT: five_gophers.read,
    spinn_files.CSV: spinn_files.read_csv,
}

FORMATS = (*TEXT, spinn_files.PARQUET)


def read_trace(path: Path, format_name: str | None = None) -> Reading:
    """The trace in a file.

    format_name: one of `FORMATS`; None: found out from the first lines.

    Raises:
        TraceError: the file cannot be read; names the line and the reason.
        ConfigError: no such format, or pyarrow is missing for Parquet.
    """
    if format_name is not None and format_name not in FORMATS:
        raise ConfigError(f"the format is {format_name!r:.40}, expected one of {', '.join(FORMATS)}")
    with open_bytes(path) as raw:  # once, so that a pipe can be read
        if format_name == spinn_files.PARQUET or (format_name is None and raw.peek(4)[:4] == spinn_files.MAGIC):
            return spinn_files.read_parquet(path)
        with as_text(path, raw) as source:
            first = next((line for line, _ in source.head()), 1)
            try:
                return TEXT[format_name or detect(source, list(TEXT))](source)
            except UnknownUnit as error:
                raise source.error(first, str(error)) from error
