"""What an operator is given beside the server fits it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from spinn_server.admin.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "server" / "deploy"


def exported() -> set[str]:
    """The names of all samples that the server may have."""
    names = set()
    for metric in Metrics().registry.collect():
        ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(metric.type, ("",))
        names |= {metric.name + end for end in ends}
    return names


def asked_for() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    texts.append((DEPLOY / "alerts.yml").read_text())
    return sorted({name for text in texts for name in re.findall(r"\bspinn_[a-z_]+", text)})


@pytest.mark.parametrize("name", asked_for())
def test_dashboard_and_alerts_ask_for_figures_that_there_are(name: str) -> None:
    assert name in exported()


def test_the_dashboard_shows_every_outcome_of_a_request() -> None:
    assert {f"spinn_{name}_total" for name in ("answers", "rejects", "cancelled", "abandoned")} <= set(asked_for())


def test_options_that_are_used_are_those_of_the_verb() -> None:
    import inspect

    from spinn_server.cli import serve

    known = {"--" + name.replace("_", "-") for name in inspect.signature(serve).parameters}
    for name in ("Dockerfile", "compose.yaml", "spinn-server.service", "nginx.conf"):
        lines = [line for line in (DEPLOY / name).read_text().splitlines() if re.search(r"\bserve\b|command:", line)]
        used = {option for line in lines for option in re.findall(r"--[a-z-]+", line)}
        assert used <= known, f"{name}: {used - known}"


def test_files_that_are_named_are_there() -> None:
    root = DEPLOY.parents[1]
    copied = [line.split()[1:-1] for line in (DEPLOY / "Dockerfile").read_text().splitlines() if line[:5] == "COPY "]
    sources = [name for names in copied for name in names if not name.startswith(("-", "/"))]
    mounted = re.findall(r"- (\./[^:\n]+):", (DEPLOY / "compose.yaml").read_text())
    assert sources and all((root / name).exists() for name in sources)
    assert mounted and all((DEPLOY / name).exists() for name in mounted)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """With a program that is there."""
    unit = tmp_path / "spinn-server.service"
    unit.write_text((DEPLOY / unit.name).read_text().replace("/opt/spinn/bin/spinn", sys.executable))
    command = ["systemd-analyze", "verify", str(unit)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.stderr == "" and done.returncode == 0
