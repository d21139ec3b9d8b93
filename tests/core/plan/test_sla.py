"""Agreements: what their text means, and what is said of a text that means nothing."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spinn_stream.errors import ConfigError, SlaError
from spinn_stream.plan import DEFAULT_SLA, METRICS, Constraint, Sla, Target, parse_sla

NAMES = list(METRICS)
NUMBERS = (
    st.floats(0, 1e9, allow_nan=False) | st.integers(0, 10**6).map(float) | st.integers(0, 1000).map(lambda n: n / 100)
)


@st.composite
def targets(draw: st.DrawFn, name: str) -> Target:
    metric = METRICS[name]
    absolute = metric.absolute or draw(st.booleans())
    tolerance = draw(st.none() | NUMBERS)
    return Target(metric, tolerance, absolute and tolerance is not None)


@st.composite
def slas(draw: st.DrawFn) -> Sla:
    constrained = draw(st.lists(st.sampled_from(NAMES), unique=True))
    wanted = draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=1))
    return Sla(
        tuple(Constraint(METRICS[n], min(draw(NUMBERS), METRICS[n].largest)) for n in constrained),
        tuple(draw(targets(n)) for n in wanted),
    )


@given(slas())
@example(Sla((Constraint(METRICS["accuracy"], 2.2250738585e-313),), (Target(METRICS["accuracy"], 5e-324, True),)))
@settings(max_examples=80, deadline=None)
def test_what_is_written_reads_as_it_was(sla: Sla) -> None:
    assert parse_sla(str(sla)) == sla


WORDS = [
    *NAMES, "latency_ms.mean",
    "<=", ">=", "<", ";", ",", "minimize", "maximize", "then", "within", "and", "%", "ms", "fps",
    "Mb/s", "/s", "1", "0.5", "1e400", "1e-40", "-", "\u2264", "\u00e9", "\n", "\x00", ".",
]  # fmt: skip


@given(st.text(max_size=60) | st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join))
@settings(max_examples=250, deadline=None)
def test_any_text_is_an_agreement_or_an_error_that_points_into_it(text: str) -> None:
    try:
        assert isinstance(parse_sla(text), Sla)
    except SlaError as error:
        assert 0 <= error.position <= len(text)
        assert len(str(error).splitlines()) == 3 and str(error).endswith("^")


def test_an_agreement_is_its_constraints_and_its_targets_in_their_order() -> None:
    sla = parse_sla("latency_ms.p95 <= 100, accuracy_drop <= 1%; minimize server_cost, then device_energy")
    assert sla.constraints == (Constraint(METRICS["latency_ms.p95"], 100), Constraint(METRICS["accuracy_drop"], 0.01))
    assert sla.targets == (Target(METRICS["server_cost"]), Target(METRICS["device_energy"]))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("minimize latency_ms.mean", "minimize latency_ms"),
        ("MINIMISE Latency_MS within 2 ms", "minimize latency_ms within 2 ms"),
        ("uplink <= 3 Mb/s", "uplink <= 375000 B/s; minimize latency_ms, then server_cost"),
        ("uplink<3kB/s and throughput_fps>20; max throughput_fps then min uplink within 10%",
         "uplink <= 3000 B/s, throughput_fps >= 20 fps; maximize throughput_fps, then minimize uplink within 10%"),
        ("accuracy >= 0.7", "accuracy >= 70%; minimize latency_ms, then server_cost"),
        ("maximize accuracy within 0.3%, then minimize latency_ms",
         "maximize accuracy within 0.3%, then minimize latency_ms"),
        ("device_energy \u2264 0.1 J; minimize latency_ms", "device_energy <= 100 mJ; minimize latency_ms"),
        (DEFAULT_SLA, DEFAULT_SLA),
    ],
)  # fmt: skip
def test_units_and_spellings(text: str, canonical: str) -> None:
    assert str(parse_sla(text)) == canonical


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("latency_ms <= 2 s", 2000), ("latency_ms <= 500 us", 0.5), ("server_cost <= 3 ms", 3),
        ("throughput_fps >= 5 Hz", 5), ("throughput_fps >= 5 /s", 5),
        ("uplink <= 7 B/s", 7), ("uplink <= 7 MB/s", 7e6), ("uplink <= 8 b/s", 1), ("uplink <= 8 kb/s", 1000),
        ("uplink <= 8 Gb/s", 1e9), ("device_energy <= 2 uJ", 0.002), ("device_energy <= 2 J", 2000),
    ],
)  # fmt: skip
def test_every_unit_is_its_part_of_the_canonical_one(text: str, bound: float) -> None:
    (constraint,) = parse_sla(text).constraints
    assert constraint.bound == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "word", "says"),
    [
        ("latncy_ms <= 3", "latncy_ms", "did you mean latency_ms?"),
        ("latency_ms >= 3", ">=", "expected '<=', as less latency_ms is better"),
        ("latency_ms <= 3 kB", "kB", "expected a unit of latency_ms: ms, us, s"),
        ("latency_ms <= 3; minimize", "", "got the end, expected a metric"),
        ("latency_ms <= 3; server_cost", "server_cost", "expected 'minimize' or 'maximize'"),
        ("minimize accuracy", "minimize", "expected 'maximize accuracy'"),
        ("minimize latency_ms, throughput_fps", "throughput_fps", "expected 'maximize throughput_fps'"),
        ("accuracy_drop <= 30", "30", "expected at most 1 (1% is one hundredth)"),
        ("latency_ms <= 1, latency_ms <= 2", "latency_ms <= 2", "a second time"),
        ("minimize latency_ms wihin 3%", "wihin", "did you mean within?"),
        ("minimize latency_ms within 3", "", "expected % or a unit of latency_ms"),
        ("latency_ms <= 5 @", "@", "means nothing here"),
        ("", "", "expected a metric"),
    ],
)
def test_errors_point_at_the_wrong_word(text: str, word: str, says: str) -> None:
    with pytest.raises(SlaError) as caught:
        parse_sla(text)
    assert text[caught.value.position :].startswith(word) and says in caught.value.detail
    if not word:
        assert caught.value.position == len(text)
    assert isinstance(caught.value, ConfigError)


def test_values_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        Constraint(METRICS["accuracy"], 1.5)
    with pytest.raises(ValueError, match="not a share of the best"):
        Target(METRICS["accuracy"], 0.1)
    with pytest.raises(ValueError, match="one target or more"):
        Sla((), ())


@pytest.mark.parametrize(
    ("name", "bound", "value", "violation"),
    [
        ("latency_ms", 40, 60, 0.5),  # a share of the bound
        ("latency_ms", 40, 40, 0.0),
        ("latency_ms", 40, 30, 0.0),
        ("latency_ms", 0, 3, 3.0),  # or of the metric's scale, if that is larger
        ("throughput_fps", 20, 15, 0.25),
        ("throughput_fps", 20, 25, 0.0),
        ("accuracy", 0.8, 0.6, 0.25),
        ("accuracy_drop", 0.01, 0.03, 0.2),
        ("uplink", 500, 1500, 1.0),
    ],
)
def test_a_violation_is_in_units_of_the_bound(name: str, bound: float, value: float, violation: float) -> None:
    assert Constraint(METRICS[name], bound).violation(value) == pytest.approx(violation)


@pytest.mark.parametrize(
    ("target", "best", "limit"),
    [
        (Target(METRICS["latency_ms"]), 40.0, 42.0),  # 5 %, if nothing is said
        (Target(METRICS["throughput_fps"]), 40.0, 38.0),
        (Target(METRICS["latency_ms"], 0.1), 40.0, 44.0),
        (Target(METRICS["latency_ms"], 3.0, True), 40.0, 43.0),
        (Target(METRICS["throughput_fps"], 3.0, True), 40.0, 37.0),
        (Target(METRICS["accuracy"]), 0.8, 0.795),  # half a point
        (Target(METRICS["accuracy_drop"]), -0.01, -0.005),
    ],
)
def test_what_is_as_good_as_the_best_is_within_the_tolerance(target: Target, best: float, limit: float) -> None:
    assert target.limit(best) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("accuracy_drop <= 1%; minimize latency_ms", 0.01),
        ("accuracy >= 80%; minimize latency_ms", 0.1),  # of the whole network's 90 %
        ("accuracy >= 95%; minimize latency_ms", 0.0),
        ("accuracy >= 80%, accuracy_drop <= 2%; minimize latency_ms", 0.02),
        ("latency_ms <= 50; minimize latency_ms", None),
    ],
)
def test_how_much_accuracy_may_be_lost(text: str, allowed: float | None) -> None:
    found = parse_sla(text).most_lost(whole=0.9)
    assert found == (None if allowed is None else pytest.approx(allowed))
