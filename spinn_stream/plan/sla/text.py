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
from dataclasses import dataclass
from decimal import Decimal

from spinn_stream.errors import SlaError

from .sla import METRICS, Constraint, Metric, Sla, Target

DEFAULT_SLA = "accuracy_drop <= 1%; minimize latency_ms, then server_cost"

MAX_CHARACTERS = 1000

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?)|(?P<word>[A-Za-z_][A-Za-z_0-9.]*(?:/s\b)?)"
    r"|(?P<sign><=|>=|=<|=>|[<>\u2264\u2265,;%]|/s\b))",
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


@dataclass(frozen=True)
class _Token:
    kind: str  # number, word, sign or end
    text: str
    at: int

    @property
    def lower(self) -> str:
        return self.text.lower()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[_Token] = []
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                at += len(text[at:]) - len(text[at:].lstrip())
                raise SlaError(text, at, f"{text[at]!r} means nothing here")
            kind = found.lastgroup
            assert kind is not None
            self._tokens.append(_Token(kind, found[kind], found.start(kind)))
            at = found.end()
        self._tokens.append(_Token("end", "the end", len(text.rstrip())))
        self._next = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += token.kind != "end"
        return token

    def _wrong(self, token: _Token, expected: str, choices: Collection[str] = ()) -> SlaError:
        close = difflib.get_close_matches(token.lower, choices, 1, 0.5) if token.kind == "word" else []
        meant = f"; did you mean {close[0]}?" if close else ""
        got = token.text if token.kind == "end" else repr(token.text)
        return SlaError(self._text, token.at, f"got {got}, expected {expected}{meant}")

    def sla(self) -> Sla:
        constraints: list[Constraint] = []
        if self._token.lower not in _VERBS:
            while True:
                constraints.append(self._constraint([c.metric.name for c in constraints]))
                token = self._take()
                if token.text == ";" or token.kind == "end":
                    break
                if token.text != "," and token.lower != "and":
                    raise self._wrong(token, "',' and a constraint, or ';' and what to minimize or maximize", ["and"])
        if self._token.kind == "end":
            return Sla(tuple(constraints), parse_sla(DEFAULT_SLA).targets)
        return Sla(tuple(constraints), self._targets())

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
            raise SlaError(self._text, at, f"got {value:g}, expected at most {metric.largest:g}{_percent(metric)}")
        return Constraint(metric, value)

    def _quantity(self, metric: Metric, *, share: bool = False) -> tuple[float, bool]:
        """A number, and whether it is in the metric's canonical unit. share: it may also be a share of the best, in
        %."""
        token = self._take()
        if token.kind != "number":
            raise self._wrong(token, f"a number in {' or '.join(u for u in metric.units if u)}")
        number = Decimal(token.text)
        if number.adjusted() > 12:
            raise SlaError(self._text, token.at, f"got {token.text}, expected less than 1e13")
        unit = self._token
        if unit.text == "%" and (share or "%" in metric.units):
            self._take()
            return float(number.scaleb(-2)), "%" in metric.units
        if unit.text in metric.units:
            self._take()
            return float(number) * metric.units[unit.text], True
        if unit.text == "%" or (unit.kind == "word" and unit.lower not in ("and", "then", "within")):
            names = [name for name in (*metric.units, *(("%",) if share else ())) if name]
            raise self._wrong(unit, f"a unit of {metric.name}: {', '.join(dict.fromkeys(names))}", names)
        if share and "%" not in metric.units:
            raise self._wrong(unit, f"% or a unit of {metric.name}: {', '.join(u for u in metric.units if u)}")
        return float(number), True

    def _targets(self) -> tuple[Target, ...]:
        targets: list[Target] = []
        rises = False
        while True:
            verb = self._token
            if verb.lower in _VERBS:
                rises = _VERBS[self._take().lower]
            elif not targets:
                raise self._wrong(verb, "'minimize' or 'maximize'", _VERBS)
            name = self._token
            metric = self._metric([t.metric.name for t in targets])
            if metric.rises != rises:
                place, right = (verb if verb.lower in _VERBS else name), "maximize" if metric.rises else "minimize"
                raise self._wrong(place, f"'{right} {metric.name}'")
            tolerance: tuple[float, bool] | tuple[None, bool] = None, False
            if self._token.lower == "within":
                self._take()
                tolerance = self._quantity(metric, share=True)
            targets.append(Target(metric, *tolerance))
            token = self._take()
            if token.kind == "end":
                return tuple(targets)
            if token.text != "," and token.lower != "then":
                raise self._wrong(token, "'within', ', then' and a metric, or the end", ["within", "then"])
            if token.text == "," and self._token.lower == "then":
                self._take()


def _percent(metric: Metric) -> str:
    return " (1% is one hundredth)" if "%" in metric.units else ""
