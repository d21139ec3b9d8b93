"""What a network did over time: the trace type, the way from rows to a trace, and its own CSV form. No files."""

from .csv_form import csv_end, csv_head, csv_row, format_csv, parse_csv
from .rows import Rows
from .trace import BYTES_PER_MBIT, DIRECTIONS, FIELDS, LIMITS, MAX_DURATION_S, MAX_SAMPLES, Assumptions, Trace

__all__ = [
    "BYTES_PER_MBIT",
    "DIRECTIONS",
    "FIELDS",
    "LIMITS",
    "MAX_DURATION_S",
    "MAX_SAMPLES",
    "Assumptions",
    "Rows",
    "Trace",
    "csv_end",
    "csv_head",
    "csv_row",
    "format_csv",
    "parse_csv",
]
