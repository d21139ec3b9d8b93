"""The rules of the house: who may know whom, and what a device needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "spinn_stream": ROOT / "spinn_stream",
    "spinn_client": ROOT / "client" / "spinn_client",
    "spinn_server": ROOT / "server" / "spinn_server",
    "spinn_traces": ROOT / "traces" / "spinn_traces",
}
MAY_IMPORT = {
    "spinn_stream": set(),
    "spinn_client": {"spinn_stream"},
    "spinn_server": {"spinn_stream"},
    "spinn_traces": {"spinn_stream", "spinn_client", "spinn_server"},
}
LONGEST_MODULE = 400


def imports(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_whom_they_may(package: str) -> None:
    for path in PACKAGES[package].rglob("*.py"):
        ours = set(imports(path)) & PACKAGES.keys() - {package}
        assert ours <= MAY_IMPORT[package], f"{path} imports {ours - MAY_IMPORT[package]}"


def test_the_core_does_no_input_output_and_reads_no_clock() -> None:
    shell = {"cli.py", "cli_options.py"}  # the command line, which is not the core
    for path in PACKAGES["spinn_stream"].rglob("*.py"):
        room = path.relative_to(PACKAGES["spinn_stream"])
        if room.parts[0] in {"model", "runtime"} or room.name in shell:
            continue
        banned = {"asyncio", "socket", "websockets", "time", "datetime", "pathlib", "threading", "torch"}
        if room.name != "frame.py":
            banned.add("cv2")
        found = set(imports(path)) & banned
        assert not found, f"{path} imports {found}"


def test_no_module_is_longer_than_one_reads_in_a_sitting() -> None:
    for folder in PACKAGES.values():
        for path in folder.rglob("*.py"):
            assert len(path.read_text().splitlines()) <= LONGEST_MODULE, path


def test_client_and_server_run_where_torch_and_onnx_are_not() -> None:
    """Every module that they load when they run is imported with these made impossible to import."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'ml_dtypes']))\n"
        "import spinn_client.cli, spinn_client.demo_source, spinn_server.cli\n"
        "import spinn_traces.cli, spinn_traces.trace_cli\n"
        "from spinn_stream.model.bundle import load_bundle\n"
        "from spinn_stream.runtime import open_engine\n"
        "bundle = load_bundle(); open_engine(bundle, 'onnxruntime').prepare(0, bundle.last)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_verb_s_small_products_are_made_in_one_thread() -> None:
    """numpy's threads wait for each other on a busy processor; none of it is imported before they are told."""
    script = (
        "import sys, spinn_stream.cli as cli\n"
        "assert 'numpy' not in sys.modules\n"
        "cli._load = lambda verb: print(__import__('os').environ['OPENBLAS_NUM_THREADS'])\n"
        "sys.argv = ['spinn', 'run']; cli.main()\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    for asked, expected in ({}, "1\n"), ({"OPENBLAS_NUM_THREADS": "3"}, "3\n"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment | asked,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == expected, done.stderr
