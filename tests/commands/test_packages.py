"""The four packages as they are shipped: what they carry, and that they run where nothing else is installed."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from email.parser import Parser
from pathlib import Path

import pytest

from benchmarks.client_size import ROOT, copy_checkout

from ..processes import wait_ready

pytestmark = pytest.mark.slow

PROJECTS = {"spinn-stream": ".", "spinn-client": "client", "spinn-server": "server", "spinn-traces": "traces"}
"""Package -> where in the checkout its pyproject.toml is."""

CARRIED = {
    "spinn-stream": ("spinn_stream/bundles/everyday.json", "spinn_stream/bundles/lite-1000/graph.onnx"),
    "spinn-client": ("spinn_client/apps/webcam/static/viewer.js",),
    "spinn-server": (),
    "spinn-traces": ("spinn_traces/models/lte-driving.json", "spinn_traces/replay/report/templates/report.html"),
}  # fmt: skip
"""Some of what is no Python file, and is needed."""

A_MACHINE_S_PATH = re.compile(
    rb"(?<![\w.-])/(?:work|root|tmp|Users/\w+|home/(?!me/)\w+)/|%b" % re.escape(str(ROOT).encode())
)
"""`/home/me/` stands for a user's in examples."""


def project(name: str) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((ROOT / PROJECTS[name] / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make dist` makes."""
    sources, made = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("dist")
    copy_checkout(sources, ("pyproject.toml", "README.md", "LICENSE", "spinn_stream", "client", "server", "traces"))
    for folder in PROJECTS.values():
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(made), str(sources / folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return made


def wheel(dist: Path, name: str) -> Path:
    (found,) = dist.glob(f"{name.replace('-', '_')}-*.whl")
    return found


def files_of(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names within the archive, and what is in the files."""
    data = io.BytesIO(archive.read_bytes())
    if archive.suffix == ".whl":
        with zipfile.ZipFile(data) as packed:
            yield from ((name, packed.read(name)) for name in packed.namelist())
        return
    with tarfile.open(fileobj=data) as unpacked:
        for member in unpacked.getmembers():
            if (file := unpacked.extractfile(member)) is not None:
                yield member.name.partition("/")[2], file.read()


def test_all_four_have_the_version_of_the_core_and_ask_each_other_for_it() -> None:
    version = project("spinn-stream")["version"]
    for name, folder in PROJECTS.items():
        assert project(name)["version"] == version, f"{name}: make version TO={version}"
        asked = set(re.findall(r'"spinn-\w+==([^"]+)"', (ROOT / folder / "pyproject.toml").read_text()))
        assert asked <= {version}, f"{name}: make version TO={version}"


@pytest.mark.parametrize("name", PROJECTS)
def test_a_package_carries_what_it_needs(dist: Path, name: str) -> None:
    module = name.replace("-", "_")
    files = dict(files_of(wheel(dist, name)))
    python = {str(path.relative_to(ROOT / PROJECTS[name])) for path in (ROOT / PROJECTS[name] / module).rglob("*.py")}
    assert files.keys() >= {*python, f"{module}/py.typed", *CARRIED[name]}
    assert not [path for path in files if path.startswith(("tests/", "build/")) or path.endswith(".pyc")]
    information = f"{module}-{project(name)['version']}.dist-info"
    assert files[f"{information}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    about = Parser().parsestr(files[f"{information}/METADATA"].decode())
    assert about["Summary"] and about["License-Expression"] == "Apache-2.0" and str(about.get_payload()).strip()
    assert "Typing :: Typed" in (about.get_all("Classifier") or [])
    (archive,) = dist.glob(f"{module}-*.tar.gz")
    assert {path for path, _ in files_of(archive)} >= {path for path in files if ".dist-info" not in path}


@pytest.mark.parametrize("name", PROJECTS)
def test_no_path_of_the_machine_where_it_was_made_is_in_it(dist: Path, name: str) -> None:
    found = [
        f"{archive.name}: {path}: {match[0].decode()}"
        for archive in dist.glob(f"{name.replace('-', '_')}-*")
        for path, data in files_of(archive)
        if (match := A_MACHINE_S_PATH.search(data))
    ]
    assert found == []


# In an empty environment, without the checkout: needs a package index


def install(dist: Path, folder: Path, *names: str) -> Path:
    """An environment with these of our packages and what they ask for; its folder of programs."""
    tried = subprocess.run(
        [sys.executable, "-m", "pip", "--retries", "0", "--timeout", "15", "download", "--quiet", "--no-deps", "--dest",
         str(folder / "mdurl"), "mdurl"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    if tried.returncode != 0:
        pytest.skip("pip reaches no package index here: it could not download mdurl")
    pins = [line for line in (ROOT / "requirements-run.txt").read_text().splitlines() if "==" in line]
    (folder / "constraints.txt").write_text("\n".join(pins) + "\n")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "environment")], check=True, timeout=120)
    programs = folder / "environment" / "bin"
    run(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--find-links", str(dist),
        "--constraint", str(folder / "constraints.txt"), *names)  # fmt: skip
    return programs


def alone(folder: Path) -> Mapping[str, str]:
    """The environment's variables, without what would bring other packages in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | {
        "XDG_CACHE_HOME": str(folder / "cache")
    }


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, timeout=600, check=False, cwd=program.parent,
        env=alone(program.parent),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def says_what_its_verbs_do(programs: Path, *verbs: str) -> None:
    for verb in verbs:
        assert f"spinn {verb}" in run(programs / "spinn", verb, "--help")


def installed(programs: Path) -> set[str]:
    return {line.split()[0] for line in run(programs / "spinn", "--version").splitlines() if line.startswith("spinn-")}


def test_the_core_alone_plans(dist: Path, tmp_path: Path) -> None:
    programs = install(dist, tmp_path, "spinn-stream")
    assert installed(programs) == {"spinn-stream"}
    says_what_its_verbs_do(programs, "plan", "profile", "evaluate")
    assert '"split"' in run(
        programs / "spinn", "plan", "--bandwidth-mbps", "5", "--rtt-ms", "20", "--json", "--runtime", "onnxruntime"
    )


def test_the_traces_alone_are_made_and_read(dist: Path, tmp_path: Path) -> None:
    programs = install(dist, tmp_path, "spinn-traces")
    assert installed(programs) == {"spinn-stream", "spinn-traces"}
    says_what_its_verbs_do(programs, "trace", "shape")
    out = str(tmp_path / "made.csv")
    run(programs / "spinn", "trace", "generate", "--model", "lte-driving", "--duration", "20", "--out", out)
    assert "spinn-csv" in run(programs / "spinn", "trace", "info", out)


def test_a_server_alone_begins_and_ends_well_and_a_client_beside_it_is_answered(dist: Path, tmp_path: Path) -> None:
    programs = install(dist, tmp_path, "spinn-server")
    assert installed(programs) == {"spinn-stream", "spinn-server"}
    says_what_its_verbs_do(programs, "serve")
    command = [str(programs / "spinn"), "serve", "--port", "0", "--runtime", "onnxruntime"]
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=alone(programs), cwd=tmp_path
    )
    try:
        address = wait_ready(server)
        run(programs / "python", "-m", "pip", "install", "--quiet", "--no-compile", "--find-links", str(dist),
            "--constraint", str(tmp_path / "constraints.txt"), "spinn-client[mqtt]")  # fmt: skip
        assert installed(programs) == {"spinn-stream", "spinn-server", "spinn-client"}
        says_what_its_verbs_do(programs, "run", "doctor")
        said = run(programs / "spinn", "run", "--source", str(ROOT / "examples" / "toys" / "circle"),
                   "--server", address, "--split", "block7", "--threshold", "none", "--deadline-ms", "10000",
                   "--fps", "2", "--runtime", "onnxruntime", "--quiet", "--jsonl", "-")  # fmt: skip
        assert said.count('"where": "server"') == said.count('"kind": "final"') == 6
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=15) == 0
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
