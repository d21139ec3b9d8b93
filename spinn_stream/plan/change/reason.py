"""What a plan does with a frame, what is expected of it, and why it was chosen, in plain sentences."""

from __future__ import annotations

from collections.abc import Sequence

from spinn_stream.plan.plan import Plan
from spinn_stream.plan.predict.predictor import Figures
from spinn_stream.plan.sla.sla import Constraint, Metric

from .choice import Binding, shown

FIRST = "as the first plan"
ASKED = "as the best plan under these conditions"
AGREED = "because something else is asked for now"
SERVER_AWAY = "because the server cannot be reached"
SERVER_BACK = "because the server can be reached"


def in_words(plan: Plan, cuts: Sequence[str]) -> str:
    """What is done with a frame. cuts: names of the bundle's cut points.

    The threshold is no exit's confidence: the bundle says what each exit needs under it (`Bundle.needed`).
    """
    if plan.split == len(cuts) - 1:
        what = "everything runs on the device"
    elif plan.split == 0:
        what = "the picture goes to the server"
    else:
        what = f"the device computes up to {cuts[plan.split]}, the server the rest"
    details = []
    if plan.codec is not None:
        details.append(f"sent as {plan.codec}")
    if plan.confidence_threshold is not None:
        details.append(f"early exits may answer, at threshold {plan.confidence_threshold:g}")
    return f"{what} ({'; '.join(details)})" if details else what


def repaired(constraint: Constraint, value: float) -> str:
    """The plan before it breaks a constraint. value: its figure."""
    return f"because the plan before breaks the goal: {_against(constraint, value)}"


def gained(metric: Metric, ours: float, theirs: float) -> str:
    """The plan is better than the one before. ours: the figure of the plan before; theirs: of the new one."""
    verb = "rises" if theirs > ours else "falls"
    return f"because {metric.said} {verb} from {shown(metric.name, ours)} to {shown(metric.name, theirs)}"


def reason(
    plan: Plan, cuts: Sequence[str], why: str, figures: Figures, binding: Binding | None, first: Metric, value: float
) -> str:
    """One line for people. why: a clause. first: the metric of the first target; value: the plan's figure in it."""
    what = in_words(plan, cuts)
    sentences = [
        f"{what[0].upper()}{what[1:]}, {why}.",
        f"Expected: answers after {figures.latency_ms:.0f} ms, {figures.throughput_fps:.0f} a second, "
        f"{100 * figures.accuracy:.1f} % of them right.",
    ]
    if binding is not None and binding.broken:
        sentences.append(f"No plan keeps the goal: {_against(binding.constraint, binding.value)}.")
    elif binding is not None:
        best = value + binding.gain if first.rises else value - binding.gain
        sentences.append(
            f"Without the limit ({_limit(binding.constraint)} for {binding.constraint.metric.said}), "
            f"{first.said} could be {shown(first.name, best)}."
        )
    return " ".join(sentences)


def _against(constraint: Constraint, value: float) -> str:
    metric = constraint.metric
    return f"{metric.said} is {shown(metric.name, value)}, and {_limit(constraint)} is asked for"


def _limit(constraint: Constraint) -> str:
    return f"{'at least' if constraint.metric.rises else 'at most'} {shown(constraint.metric.name, constraint.bound)}"
