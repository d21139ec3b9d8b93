"""Our own forms (docs/traces.md): CSV, and Parquet with the same columns."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from typing import Any

from spinn_stream.errors import ConfigError, TraceError
from spinn_stream.trace import FIELDS, MAX_SAMPLES, Rows, Trace, parse_csv

from .reading import Reading
from .tables.text_file import TextFile

CSV, PARQUET = "spinn-csv", "spinn-parquet"
TIME = "time_s"
END, MEASURED = b"spinn.duration_s", b"spinn.measured"
MAGIC = b"PAR1"
BATCH = 65_536


def read_csv(source: TextFile) -> Reading:
    trace, rows = parse_csv(source.lines(), str(source.path))
    return _reading(source.path, CSV, trace, rows)


def write_parquet(trace: Trace, path: Path) -> None:
    """Writes the columns time_s and the recorded fields; the metadata have the end and the measured fields.

    Raises:
        ConfigError: pyarrow is missing, or the file cannot be written.
    """
    _need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {TIME: trace.times_s, **{name: trace.values(name) for name in trace.recorded}}
    metadata = {END: repr(trace.duration_s).encode(), MEASURED: " ".join(sorted(trace.measured)).encode()}
    try:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error


def read_parquet(path: Path) -> Reading:
    """Rows count from 1, as lines do elsewhere. A null repeats the value before; a row of nulls at the end is the end.

    Raises:
        TraceError: it is not such a file; names the row and the reason.
        ConfigError: pyarrow is missing.
    """
    _need_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return _read_parquet(path, file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise TraceError(f"{path}: Parquet that cannot be read: {reason[:200]}") from error


def _read_parquet(path: Path, file: Any) -> Reading:
    import pyarrow as pa

    schema = file.schema_arrow
    names = [name for name in schema.names if name in FIELDS]
    if TIME not in schema.names or not names or len(set(schema.names)) < len(schema.names):
        raise TraceError(f"{path}: the columns are {schema.names}, expected {TIME} and some of {', '.join(FIELDS)}")
    for name in (TIME, *names):
        kind = schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise TraceError(f"{path}: {name} is of the type {kind}, expected numbers")
    if file.metadata.num_rows > MAX_SAMPLES:
        raise TraceError(f"{path}: {file.metadata.num_rows} rows, expected at most {MAX_SAMPLES}")
    rows = Rows(str(path), names)
    end: float | None = None
    number = 0
    for batch in file.iter_batches(BATCH, columns=[TIME, *names]):
        for t_s, *values in zip(*(batch.column(name).to_pylist() for name in (TIME, *names)), strict=True):
            number += 1
            if end is not None:
                raise rows.error(number, f"a row behind the end, which is in row {number - 1}")
            if t_s is None or not math.isfinite(t_s):
                raise rows.error(number, f"{TIME} is {t_s}, expected a number of seconds")
            if any(value is not None for value in values):
                rows.add(number, t_s, values)
            else:
                end = t_s
    said = schema.metadata or {}
    end = _said_end(path, said[END]) if END in said else end
    measured = said[MEASURED].decode().split() if MEASURED in said else None
    trace = rows.finish(end_s=end, measured=measured)
    return _reading(path, PARQUET, trace, rows)


def _reading(path: Path, format_name: str, trace: Trace, rows: Rows) -> Reading:
    units = tuple(f"{name}, as the heading says" for name in (TIME, *trace.recorded))
    median = rows.medians.get("rtt_ms")
    return Reading((path,), format_name, trace, tuple(rows.notes), rtt_median_ms=median, units=units)


def _said_end(path: Path, text: bytes) -> float:
    try:
        end = float(text)
    except ValueError:
        end = math.nan
    if not math.isfinite(end):
        raise TraceError(f"{path}: {END.decode()} is {text!r:.40}, expected a number of seconds")
    return end


def _need_pyarrow() -> None:
    if importlib.util.find_spec("pyarrow") is None:
        raise ConfigError("Parquet needs pyarrow: pip install 'spinn-traces[parquet]'")
