"""A device's environment, made as a user makes it: the client alone, without torch and onnx. Needs a package index."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import client_size
from benchmarks.client_size import FRAMES, LIMIT_MB, Environment

from ..bundles import DEFAULT
from ..processes import server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("client")
    small = ("download", "--quiet", "--no-deps", "--dest", str(folder / "mdurl"), "mdurl")
    command = [sys.executable, "-m", "pip", "--retries", "0", "--timeout", "15", *small]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if tried.returncode != 0:
        pytest.skip("pip reaches no package index here: it could not download mdurl")
    return client_size.make_environment(folder)


def test_torch_and_onnx_are_really_absent(environment: Environment) -> None:
    for package in ("torch", "onnx"):
        done = environment.run("python", "-c", f"import {package}", check=False)
        assert done.returncode == 1 and f"No module named '{package}'" in done.stderr
    assert not environment.has_torch and environment.distributions.keys() >= set(client_size.OURS)


def test_the_device_alone_answers_every_frame_and_all_of_it_is_under_the_limit(
    environment: Environment, tmp_path: Path
) -> None:
    results = client_size.play(environment, tmp_path)
    assert {r["where"] for r in results} == {"device"}
    assert client_size.answered(results) == len(results) == FRAMES
    client_size.compile_all(environment)
    size = client_size.installed_mb(environment)
    print(f"{size:.1f} MB")
    assert size < LIMIT_MB


def test_device_and_server_answer_every_frame(environment: Environment, tmp_path: Path) -> None:
    with server(*DEFAULT) as running:
        options = ("--server", running.address, "--split", "block7", "--threshold", "none")
        results = client_size.play(environment, tmp_path, *options)
    assert client_size.answered(results) == len(results) == FRAMES
    assert {r["where"] for r in results} == {"server"}


def test_every_verb_says_what_it_does(environment: Environment) -> None:
    assert "run" in environment.verbs
    for verb in environment.verbs:
        assert f"spinn {verb}" in environment.run("spinn", verb, "--help").stdout


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["run", "--source", "demo"], "pip install 'spinn-client[demo]'"),
        (["train", "--backbone", "resnet18", "--data", ".", "--out", "toys-bundle"], "spinn-stream[train]"),
    ],
)  # fmt: skip
def test_what_is_not_installed_is_named(environment: Environment, command: list[str], said: str) -> None:
    done = environment.run("spinn", *command, check=False)
    assert done.returncode == 1
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_arm64_finds_a_wheel_of_every_package(environment: Environment) -> None:
    wheels = client_size.arm64_wheels(environment)
    assert wheels.keys() >= {"numpy", "opencv-python", "onnxruntime", "lz4", "msgpack", "uvloop", "websockets"}
    assert [name for name, wheel in wheels.items() if wheel is None] == []
    assert all(wheel.endswith(("-any.whl", "aarch64.whl")) for wheel in wheels.values() if wheel)
