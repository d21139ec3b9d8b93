"""`spinn plan`: what it prints and draws, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from spinn_stream.bundle import Bundle
from spinn_stream.cli.plan import plan
from spinn_stream.errors import ConfigError, SlaError
from spinn_stream.profile import Profile

from ...bundles import SMALL

APP = typer.Typer()
APP.command()(plan)


@pytest.fixture
def profile_file(made: Profile, tmp_path: Path) -> str:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"profile": made.as_json()}))
    return str(path)


def run(profile_file: str, *arguments: str) -> Result:
    both = ("--device-profile", profile_file, "--server-profile", profile_file, *SMALL)
    return CliRunner().invoke(APP, [*arguments, *both], env={"COLUMNS": "110"})


def as_json(profile_file: str, *arguments: str) -> dict[str, Any]:
    done = run(profile_file, "--json", *arguments)
    assert done.exit_code == 0, done.exception
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_plan_and_its_figures_as_json(profile_file: str, bundle: Bundle) -> None:
    fast = as_json(profile_file, "--bandwidth-mbps", "20", "--rtt-ms", "20", "--device-slowdown", "8", "--explain")
    assert fast["bundle"] == bundle.hash and fast["plans"] >= 2000 and fast["feasible"]
    assert fast["plan"]["split_index"] < bundle.last and fast["predicted"]["accuracy_drop"] <= 0.01
    assert fast["binding"]["constraint"] == "accuracy_drop <= 1%" and fast["runner_up"]["why"]
    front = [(row["latency_ms"], row["accuracy"]) for row in fast["front"]]
    assert front == sorted(front) and len(set(front)) == len(front) > 5
    slow = as_json(profile_file, "--bandwidth-mbps", "0.1", "--rtt-ms", "200", "--device-slowdown", "8")
    assert slow["plan"]["split"] == "final" and slow["plan"]["codec"] is None and "front" not in slow
    assert as_json(profile_file, "--bandwidth-mbps", "0")["plan"] == slow["plan"]


def test_every_policy_plans(profile_file: str) -> None:
    for name in ("device-only", "server-only", "neurosurgeon", "edgent", "dyno"):
        found = as_json(profile_file, "--bandwidth-mbps", "5", "--rtt-ms", "20", "--policy", name)
        assert found["policy"] == name


def test_it_explains_itself_in_words_and_a_picture(profile_file: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "plans.png"
    done = run(profile_file, "--bandwidth-mbps", "20", "--rtt-ms", "20", "--explain", "--plot", str(picture))
    assert done.exit_code == 0, done.exception
    for word in ("split", "an estimate", "binding", "runner-up", "Pareto front of latency and accuracy"):
        assert word in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("--sla", "minimize acuracy"), SlaError, "did you mean accuracy"),
        (("--policy", "best"), ConfigError, "expected one of spinn"),
        (("--rtt-ms", "-1"), ConfigError, "from 0 ms"),
        (("--fps", "0"), ConfigError, "more than 0"),
        (("--plot", "/no/such/folder/p.png"), ConfigError, "no folder"),
        (("--device-profile", "/no/such"), ConfigError, "is no profile"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    profile_file: str, arguments: tuple[str, ...], error: type[Exception], says: str
) -> None:
    both = ["--device-profile", profile_file, "--server-profile", profile_file]
    done = CliRunner().invoke(APP, ["--bandwidth-mbps", "5", *both, *arguments])
    assert isinstance(done.exception, error) and says in str(done.exception)
