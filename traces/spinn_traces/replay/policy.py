"""The policies of a replay, as text and as arguments of `spinn run`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from spinn_client.steering.guide import Asked, default_split
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting, default_setting
from spinn_stream.errors import CodecError, ConfigError
from spinn_stream.plan import DEFAULT_SLA, POLICIES, Plan, parse_sla
from spinn_stream.plan import policy as policy_of

FIXED = "fixed"
KNOWN = (*POLICIES, FIXED)

EXPECTED = (
    f"{', '.join(POLICIES)}, each as `spinn run --policy` has it and with what is asked for behind a colon, "
    "or fixed:split=NAME|N,threshold=T|none,codec=C, one plan"
)
_PARTS = ("split", "threshold", "codec")


@dataclass(frozen=True)
class Policy:
    """text: as given. name: for people. plan: the fixed plan, or a policy with its goal."""

    text: str
    name: str
    plan: Plan | Asked


def parse_policy(text: str, bundle: Bundle) -> Policy:
    """A policy from its text form: `POLICY` or `NAME=POLICY`, which gives it a name of its own.

    >>> parse_policy("early=fixed:split=block7,threshold=0.9", bundle).name
    'early'

    Raises:
        ConfigError: no such policy, or a plan that the bundle does not have.
    """
    name, equals, rest = text.partition("=")
    if not equals or ":" in name:
        name, rest = text, text
    name = name.strip()
    if not name or len(name) > 80:
        raise ConfigError(f"--policy {text!r:.100}: the name has {len(name)} characters, expected 1 to 80")
    kind, colon, parts = rest.partition(":")
    if kind not in KNOWN:
        raise ConfigError(f"--policy {text!r:.100}: no policy {kind!r:.40}, expected one of {EXPECTED}")
    if kind == FIXED:
        return Policy(text, name, _fixed(text, parts, bundle))
    try:
        return Policy(text, name, Asked(policy_of(kind), parse_sla(parts if colon else DEFAULT_SLA)))
    except ConfigError as error:
        raise ConfigError(f"--policy {text!r:.100}: {error}") from error


def parse_policies(texts: Sequence[str], bundle: Bundle) -> list[Policy]:
    """Raises ConfigError: no policy, or two of one name; and see `parse_policy`."""
    if not texts:
        raise ConfigError(f"no policy is given: add --policy NAME, one of {', '.join(KNOWN)}")
    policies = [parse_policy(text, bundle) for text in texts]
    for at, policy in enumerate(policies):
        if policy.name in [p.name for p in policies[:at]]:
            raise ConfigError(f"policy {policy.name!r:.100} is given twice; expected each once, or NAME=POLICY")
    return policies


def client_arguments(policy: Policy, bundle: Bundle) -> list[str]:
    """The options of `spinn run` that make it treat frames by this policy."""
    plan = policy.plan
    if isinstance(plan, Asked):
        return ["--policy", plan.policy.name, "--sla", str(plan.sla)]
    threshold = "none" if plan.confidence_threshold is None else repr(plan.confidence_threshold)
    arguments = ["--split", bundle.cut_points[plan.split].name, "--threshold", threshold]
    return arguments if plan.codec is None else [*arguments, "--codec", str(plan.codec)]


def _fixed(text: str, parts: str, bundle: Bundle) -> Plan:
    given: dict[str, str] = {}
    for part in filter(None, re.split(r"\s*,\s*", parts.strip())):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or key not in _PARTS or key in given:
            raise ConfigError(f"--policy {text!r:.100}: got {part!r:.60}, expected each once of {', '.join(_PARTS)}")
        given[key] = value
    try:
        threshold: float | None = bundle.default_threshold
        if "threshold" in given:
            threshold = None if given["threshold"] == "none" else float(given["threshold"])
        split = bundle.split_index(given["split"]) if "split" in given else default_split(bundle, threshold)
        setting = default_setting(bundle, split) if split < bundle.last else None
        if "codec" in given:
            setting = CodecSetting.parse(given["codec"])
            if split == bundle.last:
                raise ConfigError(f"a codec, but split {given['split']} sends nothing")
            setting.prepare(bundle, split)
        return Plan(1, split, threshold, setting)
    except (ConfigError, CodecError) as error:
        raise ConfigError(f"--policy {text!r:.100}: {error}") from error
    except ValueError:
        raise ConfigError(
            f"--policy {text!r:.100}: the threshold is {given['threshold']!r:.40}, expected 0 to 1, or none"
        ) from None
