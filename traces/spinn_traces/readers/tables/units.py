"""The unit of a column: from its heading, from the size of times, or the format's usual one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .direction import direction_in, words

TIME = {
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
}
"""Seconds in each."""

FACTORS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
SIZE_UNIT = re.compile(r"([kmg]?)(b|bit|bits|byte|bytes)", re.IGNORECASE)
PER_SECOND = re.compile(r"(ps|/s|/sec|/second| per second)$", re.IGNORECASE)

SINCE_1970 = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"))
"""A time from here on is in this unit since 1970: in the next larger unit it would be the year 5138 or later."""

LATEST_S = 1e11

IN_BRACKETS = re.compile(r"(.*?)\s*[(\[]\s*(.*?)\s*[)\]]\s*")
GAP = re.compile(r"[_\s]+")


class UnknownUnit(ValueError):
    """A unit that cannot be read; its text says what was got and what was expected."""


@dataclass(frozen=True)
class Column:
    """A heading: `Time (ms)`, `throughput_mbps`, `bytes`. name: in small letters; unit: as written, or None."""

    name: str
    unit: str | None = None

    @classmethod
    def of(cls, cell: str) -> Column:
        if match := IN_BRACKETS.fullmatch(cell):
            return cls(match[1].lower(), match[2])
        if is_unit(cell):
            return cls(cell.lower(), cell)
        for gap in GAP.finditer(cell):
            if is_unit(cell[gap.end() :]):
                return cls(cell[: gap.start()].lower(), cell[gap.end() :])
        return cls(cell.lower())

    @property
    def is_time(self) -> bool:
        return self.name in {"time", "t", "timestamp", "elapsed"} or (self.unit or "").lower() in TIME

    @property
    def is_rate(self) -> bool:
        named = {"rate", "bitrate", "bandwidth", "throughput", "capacity"} & set(words(self.name))
        return bool(named or direction_in(self.name)) or PER_SECOND.search(self.unit or "") is not None

    @property
    def is_size(self) -> bool:
        return self.unit is not None and SIZE_UNIT.fullmatch(self.unit) is not None


@dataclass(frozen=True)
class Unit:
    """factor: numbers are multiplied by it. said: the unit and the reason, for the user."""

    factor: float
    said: str


def is_unit(text: str) -> bool:
    return text.lower() in TIME or SIZE_UNIT.fullmatch(PER_SECOND.sub("", text)) is not None


def time_unit(column: Column | None, first: float, usual: str) -> Unit:
    """The unit of a time, converted to seconds. first: the first time of the column; usual: the unit by default.

    Raises:
        UnknownUnit: the heading has another one, or the time would be after the year 5138.
    """
    unit, why = usual, "as is usual in this format"
    large = next((unit for least, unit in SINCE_1970 if first >= least), None)
    if column is not None and column.unit is not None:
        unit, why = column.unit, "as the heading says"
    elif large is not None:
        unit, why = large, "since 1970, as such large numbers are"
    factor = _duration(unit)
    if first * factor >= LATEST_S:
        raise UnknownUnit(f"the time is {first:g} {unit}, {why}: after the year 5138; is it in {large or 'ns'}?")
    return Unit(factor, f"time in {unit}, {why}")


def duration_unit(column: Column | None, usual: str, what: str) -> Unit:
    """The unit of a duration, converted to milliseconds. Raises UnknownUnit."""
    unit, why = _unit_of(column, usual)
    return Unit(_duration(unit) * 1000, f"{what} in {unit}, {why}")


def rate_unit(column: Column | None, usual: str) -> Unit:
    """The unit of a rate, converted to 10^6 bits a second. Raises UnknownUnit."""
    unit, why = _unit_of(column, usual)
    size = PER_SECOND.sub("", unit)
    if size == unit:
        raise UnknownUnit(f"the unit of the rate is {unit!r:.40}, expected one such as Mbps, kbit/s or MB/s")
    if unit.isupper() and SIZE_UNIT.fullmatch(size):  # KBPS
        raise UnknownUnit(f"the unit of the rate is {unit!r:.40}: bits or bytes? write a small b for bits, as in Mbps")
    return Unit(_megabits(size, unit), f"rate in {unit}, {why}")


def size_unit(column: Column | None, usual: str) -> Unit:
    """The unit of a size, converted to 10^6 bits. Raises UnknownUnit."""
    unit, why = _unit_of(column, usual)
    return Unit(_megabits(unit, unit), f"size in {unit}, {why}")


def _unit_of(column: Column | None, usual: str) -> tuple[str, str]:
    if column is None or column.unit is None:
        return usual, "as is usual in this format"
    return column.unit, "as the heading says"


def _duration(unit: str) -> float:
    factor = TIME.get(unit.lower())
    if factor is None:
        raise UnknownUnit(f"the unit of the time is {unit!r:.40}, expected s, ms, us, ns or min")
    return factor


def _megabits(size: str, unit: str) -> float:
    match = SIZE_UNIT.fullmatch(size)
    if match is None:
        raise UnknownUnit(f"the unit is {unit!r:.40}, expected bits or bytes, such as kbit, Mb or MB")
    bytes_ = match[2] == "B" or match[2].lower().startswith("byte")
    return FACTORS[match[1].lower()] * (8 if bytes_ else 1) / 1e6
