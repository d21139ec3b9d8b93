"""The parameters of a generated network, and their JSON form (docs/traces.md).

Time goes in steps. A slow Markov chain moves between a few regimes, from poor to good. In a regime, each quantity has a
distribution, given by quantiles. A normal score says which quantile it has: the sum of a part that continues from step
to step, as a Gaussian AR(1) process, and a part that is new in each step.
Outages begin at whole seconds with a probability that depends on the regime. Their lengths have a distribution of their
own, and they stop both directions. The regime does not change meanwhile.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

from spinn_stream.errors import ConfigError
from spinn_stream.trace import LIMITS

FOLDER = resources.files("spinn_traces") / "models"
MODELS = tuple(sorted(entry.name.removesuffix(".json") for entry in FOLDER.iterdir() if entry.name.endswith(".json")))
"""Names of the models that are built in."""

PARTS = (0.0, 0.01, *(i / 20 for i in range(1, 20)), 0.99, 1.0)
"""Quantiles that give every distribution: 0 %, 1 %, 5 %, 10 %, ... 95 %, 99 %, 100 %."""

QUANTILES = len(PARTS)

MOST_REGIMES = 16


@dataclass(frozen=True)
class Flow:
    """One quantity: capacity of a direction in Mb/s, or the round trip in ms.

    regimes: quantiles in each regime. outage: quantiles during outages. lasting: share of the normal score's variance
    that continues from step to step, 0 to 1. correlation: of that part from one step to the next, 0 to below 1. source:
    measured, or how it was assumed.
    """

    regimes: tuple[tuple[float, ...], ...]
    outage: tuple[float, ...]
    lasting: float
    correlation: float
    source: str

    def check(self, name: str, regimes: int) -> None:
        if len(self.regimes) != regimes:
            raise ValueError(f"{name} has {len(self.regimes)} regimes, expected {regimes}")
        for quantiles in (*self.regimes, self.outage):
            _check_quantiles(name, quantiles, LIMITS[name])
        if not 0 <= self.correlation < 1 or not 0 <= self.lasting <= 1:
            got = f"{self.lasting} that lasts and a correlation of {self.correlation}"
            raise ValueError(f"{name} has {got}, expected 0 to 1 and 0 to below 1")


@dataclass(frozen=True)
class Outages:
    """begin: probability in each second of each regime (each step, if that is longer). seconds: how long, quantiles."""

    begin: tuple[float, ...]
    seconds: tuple[float, ...]

    def check(self, regimes: int) -> None:
        if len(self.begin) != regimes or not all(0 <= p <= 1 for p in self.begin):
            raise ValueError(f"outages begin with {self.begin}, expected {regimes} probabilities")
        _check_quantiles("the length of outages", self.seconds, 86_400)


@dataclass(frozen=True)
class Model:
    """One kind of network.

    made_by: the command. sources: the files it was fitted to, or the models it was derived from.
    moves: from regime (row) to regime, probabilities of one step.
    """

    name: str
    made_by: str
    sources: tuple[str, ...]
    step_s: float
    moves: tuple[tuple[float, ...], ...]
    up_mbps: Flow
    down_mbps: Flow
    rtt_ms: Flow
    outages: Outages

    def __post_init__(self) -> None:
        if not 0.01 <= self.step_s <= 10:
            raise ValueError(f"a step is {self.step_s} s, expected 0.01 to 10")
        count = len(self.moves)
        if not 1 <= count <= MOST_REGIMES:
            raise ValueError(f"{count} regimes, expected 1 to {MOST_REGIMES}")
        for row in self.moves:
            if len(row) != count or not all(0 <= p <= 1 for p in row) or abs(sum(row) - 1) > 1e-6:
                raise ValueError(f"moves of a regime are {row}, expected {count} probabilities that sum to 1")
        for name in ("up_mbps", "down_mbps", "rtt_ms"):
            getattr(self, name).check(name, count)
        self.outages.check(count)

    def as_json(self) -> str:
        """Numbers of four digits, lists of them on one line."""
        return _written(_rounded(asdict(self))) + "\n"

    @classmethod
    def from_json(cls, text: str, name: str) -> Model:
        """Raises ConfigError: it is no model; `name` is the file."""
        try:
            said = json.loads(text)
            flows = {
                key: Flow(
                    tuple(_numbers(row) for row in said[key]["regimes"]), _numbers(said[key]["outage"]),
                    float(said[key]["lasting"]), float(said[key]["correlation"]), str(said[key]["source"]),
                )
                for key in ("up_mbps", "down_mbps", "rtt_ms")
            }  # fmt: skip
            return cls(
                str(said["name"]), str(said["made_by"]), tuple(map(str, said["sources"])), float(said["step_s"]),
                _normal([_numbers(row) for row in said["moves"]]), **flows,
                outages=Outages(_numbers(said["outages"]["begin"]), _numbers(said["outages"]["seconds"])),
            )  # fmt: skip
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ConfigError(f"{name} is not a model of a network: {reason:.200}") from error


def load_model(name: str) -> Model:
    """A built-in model by name, or one from a file of `spinn trace fit`.

    Raises:
        ConfigError: there is no such model, or the file is not a model.
    """
    if name in MODELS:
        return Model.from_json((FOLDER / f"{name}.json").read_text(), name)
    if not name.endswith(".json"):
        raise ConfigError(f"the model is {name!r:.60}, expected a file.json or one of {', '.join(MODELS)}")
    try:
        return Model.from_json(Path(name).read_text(), name)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the model {name}: {error}") from error


def _check_quantiles(name: str, quantiles: tuple[float, ...], limit: float) -> None:
    rising = all(a <= b for a, b in pairwise(quantiles))
    if len(quantiles) != QUANTILES or not rising or not all(0 <= q <= limit for q in quantiles):
        raise ValueError(f"{name} has {len(quantiles)} quantiles, expected {QUANTILES} that rise, from 0 to {limit:g}")


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values)
    if not all(math.isfinite(number) for number in numbers):
        raise ValueError("a number that is not finite")
    return numbers


def _normal(rows: list[tuple[float, ...]]) -> tuple[tuple[float, ...], ...]:
    """Rows scaled to a sum of 1, which rounding in the file may have changed."""
    return tuple(tuple(p / sum(row) for p in row) if abs(sum(row) - 1) < 0.01 else row for row in rows)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _written(value: Any, indent: str = "") -> str:
    """JSON with one line for each list of numbers."""
    inner = indent + " "
    if isinstance(value, dict):
        items = [f"{inner}{json.dumps(key)}: {_written(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(items) + f"\n{indent}}}"
    if isinstance(value, list) and value and not isinstance(value[0], int | float):
        return "[\n" + ",\n".join(f"{inner}{_written(item, inner)}" for item in value) + f"\n{indent}]"
    return json.dumps(value)
