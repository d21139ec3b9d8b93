"""The rules of the house: who may know whom, and what a device needs."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "spinn_stream": ROOT / "spinn_stream",
    "spinn_client": ROOT / "client" / "spinn_client",
    "spinn_server": ROOT / "server" / "spinn_server",
    "spinn_traces": ROOT / "traces" / "spinn_traces",
    "spinn_drone": ROOT / "examples" / "drone" / "spinn_drone",
}
MAY_IMPORT = {
    "spinn_stream": set(),
    "spinn_client": {"spinn_stream"},
    "spinn_server": {"spinn_stream"},
    "spinn_traces": {"spinn_stream", "spinn_client", "spinn_server"},
    "spinn_drone": {"spinn_stream", "spinn_client", "spinn_traces"},
}
FLOORS = {
    "spinn_stream": (
        "errors", "text", "frame", "bundle", "profile", "codec", "runtime", "repeat", "wire", "plan", "train", "trace",
        "cli", "__main__",
    ),
    "spinn_stream.runtime": ("machine", "graph", "engines", "exits", "measure", "fallback", "choice", "torch"),
    "spinn_stream.plan": ("plan", "sla", "predict", "link", "policy", "change"),
    "spinn_stream.train": (
        "cut", "backbone", "data", "checkpoint", "views", "training", "adoption", "pack", "generator",
    ),
    "spinn_client": (
        "backoff", "events", "labels", "mailbox", "tasks", "sources", "device", "link", "steering", "frames", "sinks",
        "state", "outlets", "parts", "process", "stream", "sync", "apps",
    ),
    "spinn_server": ("admin", "work", "carriers", "cluster", "connection", "server", "process", "ray", "cli"),
    "spinn_drone": ("world", "perception", "pilot", "robot", "flight", "experiment", "page", "cli"),
    "spinn_server.work": ("request", "undecoded", "tail", "costs", "scheduler", "load", "graphs", "steps", "worker"),
    "spinn_server.ray": ("config", "policy", "parts", "start"),
    "spinn_server.cluster": ("duplex", "messages", "replica", "link", "engine"),
    "spinn_server.admin": ("foreign", "logs", "health", "metrics", "routes"),
}  # fmt: skip
"""Package -> its rooms and modules from the ground up: each knows only what is below it."""

LONGEST_MODULE = 400
LARGEST_ROOM = 13  # a dozen files and the one that introduces them


@cache
def modules() -> dict[str, Path]:
    """Every module of the house by its dotted name."""
    found = {}
    for name, folder in PACKAGES.items():
        for path in folder.rglob("*.py"):
            parts = [name, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imported(module: str) -> frozenset[str]:
    """Modules of the house that a module imports, wherever in it, as dotted names."""
    path, every = modules()[module], modules()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in every}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found |= {f"{base}.{alias.name}"} & every.keys() or {base} & every.keys()
    return frozenset(found - {module})


def is_front_door(module: str) -> bool:
    """Whether it is the file that introduces a package: it names what is inside, and knows nothing itself."""
    return modules()[module].name == "__init__.py"


def outside(path: Path) -> Iterator[str]:
    """Top-level names of the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_only_whom_they_may(package: str) -> None:
    for path in PACKAGES[package].rglob("*.py"):
        ours = set(outside(path)) & PACKAGES.keys() - {package}
        assert ours <= MAY_IMPORT[package], f"{path} imports {ours - MAY_IMPORT[package]}"


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_knows_only_what_is_below_it(package: str) -> None:
    floors = FLOORS[package]

    def floor(module: str) -> int | None:
        """None: not in this package, or its front door."""
        inside = module.removeprefix(f"{package}.")
        return None if inside == module else floors.index(inside.partition(".")[0])

    for module in modules():
        own = floor(module)
        if own is None:
            continue
        for other in imported(module):
            below = floor(other)
            if other == package and not module.startswith("spinn_client.apps"):  # which are built on the public API
                raise AssertionError(f"{module} goes through its own package's front door {package}")
            assert below is None or below <= own, f"{module} imports {other}, which is on a higher floor"


def test_no_two_modules_know_each_other() -> None:
    """No circle among modules, through however many others."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        if module in done:
            return
        assert module not in way, f"a circle: {' -> '.join([*way, module])}"
        for other in imported(module):
            visit(other, (*way, module))
        done.add(module)

    for module in modules():
        visit(module, ())


def test_no_two_rooms_know_each_other() -> None:
    """A room is a folder of modules; its front door is not counted, and a package's own modules have floors instead."""
    knows: dict[str, set[str]] = {}
    for module in modules():
        if not is_front_door(module) and not module.endswith("__main__"):
            rooms = {other if is_front_door(other) else other.rpartition(".")[0] for other in imported(module)}
            knows.setdefault(module.rpartition(".")[0], set()).update(rooms)
    for room in knows.keys() - PACKAGES.keys():
        for other in knows[room] - {room} - PACKAGES.keys():
            assert room not in knows.get(other, ()), f"{room} and {other} import each other"


def test_the_core_does_no_input_output_and_reads_no_clock() -> None:
    for path in PACKAGES["spinn_stream"].rglob("*.py"):
        room = path.relative_to(PACKAGES["spinn_stream"]).parts[0]
        if room in {"bundle", "runtime", "train", "cli", "__main__.py"}:
            continue
        banned = {"asyncio", "socket", "websockets", "time", "datetime", "pathlib", "threading", "torch"}
        if room not in {"frame.py", "codec"}:
            banned.add("cv2")
        found = set(outside(path)) & banned
        assert not found, f"{path} imports {found}"


def test_torch_is_imported_by_training_its_verb_and_its_own_engine_alone() -> None:
    for name, path in modules().items():
        trains = ("spinn_stream.train", "spinn_stream.cli.train", "spinn_drone.perception.network")
        if not name.startswith((*trains, "spinn_stream.runtime.torch")):
            assert "torch" not in set(outside(path)), path


def test_no_module_is_longer_than_one_reads_in_a_sitting_and_no_room_is_crowded() -> None:
    for folder in PACKAGES.values():
        for path in folder.rglob("*.py"):
            assert len(path.read_text().splitlines()) <= LONGEST_MODULE, path
            assert len(list(path.parent.glob("*.py"))) <= LARGEST_ROOM, path.parent


def test_client_and_server_run_where_torch_and_onnx_are_not() -> None:
    """Every module that they load when they run is imported with these made impossible to import."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'onnx', 'ml_dtypes']))\n"
        "import spinn_client.apps.run_cli, spinn_client.sources.demo, spinn_server.cli\n"
        "import spinn_traces.cli.shape, spinn_traces.cli.trace, spinn_traces.replay.run.conduct\n"
        "from spinn_stream.bundle import load_bundle\n"
        "from spinn_stream.runtime import open_engine\n"
        "bundle = load_bundle(); open_engine(bundle, 'onnxruntime').prepare(0, bundle.last)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_verb_s_small_products_are_made_in_one_thread() -> None:
    """numpy's threads wait for each other on a busy processor; none of it is imported before they are told."""
    script = (
        "import sys, spinn_stream.cli.main as cli\n"
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
