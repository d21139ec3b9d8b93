"""The text form of an SLA.

    sla         [constraint {(","|"and") constraint} ";"] targets     (constraints alone: the default targets)
    constraint  metric ("<="|">="|"<"|">") number [unit]
    targets     ("minimize"|"maximize") target {("," ["then"]|"then") ["minimize"|"maximize"] target}
    target      metric ["within" number [unit]]

    latency_ms.p95 <= 100, accuracy_drop <= 1%; minimize server_cost within 5%, then device_energy

`latency_ms.mean` is `latency_ms`. A tolerance in % is a share of the best, and points for the two accuracies;
with a unit it is a difference. `<` means `<=`. Upper and lower case are the same but in units.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from decimal import Decimal
from typing import NamedTuple

from spinn_stream.errors import SlaError

from .sla import METRICS, Constraint, Metric, Sla, Target

DEFAULT_SLA = "accuracy_drop <= 1%; minimize latency_ms, then server_cost"

MAX_CHARACTERS = 1000

_TOKEN = re.compile(
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)|(?P<word>[A-Za-z_][A-Za-z_0-9.]*(?:/s\b)?)"
    r"|(?P<sign><=|>=|=<|=>|[<>\u2264\u2265,;%]|/s\b)|(?P<other>\S)",
    re.ASCII,
)
_UPPER, _LOWER = ("<=", "<", "=<", "\u2264"), (">=", ">", "=>", "\u2265")
_VERBS = {"minimize": False, "minimise": False, "min": False, "maximize": True, "maximise": True, "max": True}
_NAMES = {**{name: name for name in METRICS}, "latency_ms.mean": "latency_ms"}


def parse_sla(text: str) -> Sla:
    """The SLA that a text states.

    Raises:
        SlaError: the text is not an SLA; points at the first wrong word, and says what was expected there.
    """
    if len(text) > MAX_CHARACTERS:
        raise SlaError(text, MAX_CHARACTERS, f"more than {MAX_CHARACTERS} characters")
    return _Parser(text).sla()


class _Token(NamedTuple):
    kind: str  # number, word, sign, other or end
    text: str
    lower: str
    at: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        tokens = [_Token(str(m.lastgroup), m[0], m[0].lower(), m.start()) for m in _TOKEN.finditer(text)]
        for token in tokens:
            if token.kind == "other":
                raise SlaError(text, token.at, f"{token.text!r} means nothing here")
        self._tokens = iter(tokens)
        self._token = _Token("", "", "", 0)  # the next one
        self._take()

    def _take(self) -> _Token:
        token, end = self._token, _Token("end", "the end", "", len(self._text.rstrip()))
        self._token = next(self._tokens, end)
        return token

    def _accepts(self, *texts: str) -> bool:
        """Whether the next token is one of these; it is taken then."""
        return self._token.lower in texts and bool(self._take())

    def _wrong(self, token: _Token, expected: str, choices: Collection[str] = ()) -> SlaError:
        close = difflib.get_close_matches(token.lower, choices, 1, 0.5) if token.kind == "word" else []
        meant = f"; did you mean {close[0]}?" if close else ""
        got = token.text if token.kind == "end" else repr(token.text)
        return SlaError(self._text, token.at, f"got {got}, expected {expected}{meant}")

    def sla(self) -> Sla:
        constraints: list[Constraint] = []
        if self._token.lower not in _VERBS:
            constraints.append(self._constraint([]))
            while self._accepts(",", "and"):
                constraints.append(self._constraint([c.metric.name for c in constraints]))
            if not self._accepts(";") and self._token.kind != "end":
                raise self._wrong(self._token, "',' and a constraint, or ';' and what to minimize or maximize", ["and"])
        targets = parse_sla(DEFAULT_SLA).targets if self._token.kind == "end" and constraints else self._targets()
        return Sla(tuple(constraints), targets)

    def _metric(self, used: Collection[str]) -> Metric:
        token = self._take()
        name = _NAMES.get(token.lower)
        if name is None:
            raise self._wrong(token, f"a metric: {', '.join(METRICS)}", [*_NAMES, *_VERBS])
        if name in used:
            raise SlaError(self._text, token.at, f"{name} a second time")
        return METRICS[name]

    def _constraint(self, used: Collection[str]) -> Constraint:
        metric = self._metric(used)
        sign = self._take()
        good, bad = (_LOWER, _UPPER) if metric.rises else (_UPPER, _LOWER)
        if sign.text not in good:
            more = f", as {'more' if metric.rises else 'less'} {metric.name} is better" if sign.text in bad else ""
            raise self._wrong(sign, f"{good[0]!r}{more}")
        at = self._token.at
        value, _ = self._quantity(metric)
        if value > metric.largest:
            percent = " (1% is one hundredth)" if "%" in metric.units else ""
            raise SlaError(self._text, at, f"got {value:g}, expected at most {metric.largest:g}{percent}")
        return Constraint(metric, value)

    def _quantity(self, metric: Metric, *, share: bool = False) -> tuple[float, bool]:
        """A number, and whether it is in the metric's canonical unit. share: it may be a share of the best, in %."""
        token, units = self._take(), [unit for unit in metric.units if unit]
        if token.kind != "number":
            raise self._wrong(token, f"a number in {' or '.join(units)}")
        number = Decimal(token.text)
        if number.adjusted() > 12:
            raise SlaError(self._text, token.at, f"got {token.text}, expected less than 1e13")
        unit, allowed = self._token, list(dict.fromkeys([*units, *(["%"] if share else [])]))
        if unit.text in allowed:
            self._take()
            if unit.text == "%":
                return float(number.scaleb(-2)), "%" in units
            return float(number) * metric.units[unit.text], True
        if unit.text == "%" or (unit.kind == "word" and unit.lower not in ("and", "then", "within")):
            raise self._wrong(unit, f"a unit of {metric.name}: {', '.join(allowed)}", allowed)
        if share and "%" not in units:
            raise self._wrong(unit, f"% or a unit of {metric.name}: {', '.join(units)}")
        return float(number), True

    def _targets(self) -> tuple[Target, ...]:
        targets: list[Target] = []
        rises = False
        while True:
            first = self._token
            if first.lower in _VERBS:
                rises = _VERBS[self._take().lower]
            elif not targets:
                raise self._wrong(first, "'minimize' or 'maximize'", _VERBS)
            metric = self._metric([t.metric.name for t in targets])
            if metric.rises != rises:
                raise self._wrong(first, f"'{metric.verb} {metric.name}'")
            tolerance = self._quantity(metric, share=True) if self._accepts("within") else (None, False)
            targets.append(Target(metric, *tolerance))
            if self._token.kind == "end":
                return tuple(targets)
            if not (self._accepts(",") or self._token.lower == "then"):
                raise self._wrong(self._token, "'within', ', then' and a metric, or the end", ["within", "then"])
            self._accepts("then")
