"""Policies: text -> plan -> arguments of `spinn run`."""

from __future__ import annotations

import re

import pytest

from spinn_client.steering.guide import Asked
from spinn_stream.bundle import Bundle
from spinn_stream.codec import CodecSetting
from spinn_stream.errors import ConfigError
from spinn_stream.plan import Plan
from spinn_traces.replay.policy import client_arguments, parse_policies, parse_policy


def test_a_fixed_plan_says_what_it_names_and_takes_the_rest_as_spinn_run_does(bundle: Bundle) -> None:
    full = parse_policy("fixed:split=block9,threshold=0.9,codec=transform:6", bundle)
    assert full.plan == Plan(1, 11, 0.9, CodecSetting("transform", 6)) and full.name == full.text
    assert client_arguments(full, bundle) == ["--split", "block9", "--threshold", "0.9", "--codec", "transform:6"]
    plain = parse_policy("fixed", bundle)
    assert plain.plan == Plan(1, bundle.exits[0].cut, bundle.default_threshold, CodecSetting("transform", 10))
    assert parse_policy("fixed:threshold=none, split=0", bundle).plan.confidence_threshold is None


def test_a_policy_may_have_a_name_of_its_own(bundle: Bundle) -> None:
    policy = parse_policy("early one=fixed:split=block7", bundle)
    assert policy.name == "early one" and policy.plan.split == 9 and policy.text == "early one=fixed:split=block7"


def test_the_ends_are_the_device_alone_and_the_frame_sent_whole(bundle: Bundle) -> None:
    device, server = parse_policies(["device-only", "server-only"], bundle)
    assert client_arguments(device, bundle)[:3] == ["--policy", "device-only", "--sla"]
    assert client_arguments(server, bundle)[:2] == ["--policy", "server-only"]


def test_what_is_asked_of_a_policy_stands_behind_a_colon(bundle: Bundle) -> None:
    asked = "latency_ms.p95 <= 100 ms; minimize server_cost"
    cheap = parse_policy(f"cheap=spinn:{asked}", bundle)
    assert cheap.name == "cheap" and client_arguments(cheap, bundle) == ["--policy", "spinn", "--sla", asked]
    plain = parse_policy(f"dyno:{asked}", bundle)
    assert isinstance(plain.plan, Asked) and plain.plan.policy.name == "dyno" and str(plain.plan.sla) == asked


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            [],
            "no policy is given: add --policy NAME, one of spinn, device-only, .*, dyno, fixed",
        ),
        (["magic"], "no policy 'magic', expected one of spinn, device-only, server-only, .* or fixed:split"),
        (["device-only:speed <= 3"], "'speed'"),
        (["fixed:split=block99"], "split 'block99' is not in bundle"),
        (["fixed:depth=3"], "got 'depth=3', expected each once of split, threshold, codec"),
        (["fixed:split=1,split=2"], "got 'split=2', expected each once"),
        (["fixed:threshold=high"], "the threshold is 'high', expected 0 to 1, or none"),
        (["fixed:threshold=2"], "the threshold is '2', expected 0 to 1, or none"),
        (["fixed:codec=zip"], "codec 'zip', expected one of"),
        (["fixed:split=0,codec=transform:6"], "codec transform:6 does not go with split 0"),
        (["fixed:split=final,codec=transform:6"], "split final sends nothing"),
        (["device-only", "device-only"], "policy 'device-only' is given twice"),
        (["a=fixed", "a=server-only"], "policy 'a' is given twice"),
        (["=fixed"], "the name has 0 characters"),
    ],
)
def test_what_is_no_policy_is_told_with_what_would_be(texts: list[str], said: str, bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        parse_policies(texts, bundle)
    assert not re.search("\n", str(error.value)) or "^" in str(error.value)  # a caret below what is wrong
