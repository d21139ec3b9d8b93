"""How large is the client on a device, does it run there without torch, and does arm64 find a wheel of everything?

    python benchmarks/client_size.py [--json]

Installs the core and the client of this checkout into a fresh virtual environment: pinned, not editable, no torch, no
byte code. Then plays a clip there, and asks pip (a dry run) what an arm64 machine would install. Needs a package index.

MB are 10^6 bytes: sums of file sizes, not of blocks on a disk. pip and setuptools count only where it says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
PARTS = ("pyproject.toml", "README.md", "LICENSE", "spinn_stream", "client")
"""The parts of the checkout that the two packages are built from."""

LIMIT_MB = 540  # PyAV takes 107 of them: docs/decisions/0024-clips-and-streams.md
FRAMES = 30
OURS = ("spinn-stream", "spinn-client")
TOOLS = ("pip", "setuptools")
ARM64 = (*(f"manylinux_2_{minor}_aarch64" for minor in range(28, 16, -1)), "manylinux2014_aarch64")
"""Platform tags for glibc 2.28 and later (Debian 10), the best first."""

LISTING = """
import importlib.metadata as metadata, importlib.util, json, sysconfig
print(json.dumps({
    "site": sysconfig.get_paths()["purelib"],
    "torch": importlib.util.find_spec("torch") is not None,
    "verbs": sorted(entry.name for entry in metadata.entry_points(group="spinn.verbs")),
    "distributions": {
        d.name: {"version": d.version, "files": [str(d.locate_file(file)) for file in d.files or ()]}
        for d in metadata.distributions()
    },
}))
"""
"""A program for the environment's own Python: it lists what is installed."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and what lies in it.

    verbs: of the `spinn` command. distributions: name -> its version and its files, without byte code.
    """

    folder: Path
    site: Path
    has_torch: bool
    verbs: tuple[str, ...]
    distributions: dict[str, tuple[str, list[Path]]]

    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment to its end, with a cache of its own, as on a new device."""
        cache = {"XDG_CACHE_HOME": str(self.folder.parent / "cache")}
        return _run([str(self.folder / "bin" / program), *arguments], check=check, variables=cache)

    @property
    def pinned(self) -> dict[str, str]:
        """Name -> version of what came from the package index."""
        return {n: version for n, (version, _) in self.distributions.items() if n not in (*OURS, *TOOLS)}


def _run(
    command: list[str], *, check: bool = True, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command without PYTHONPATH, which would add packages, and PYTHONDONTWRITEBYTECODE, which would hide some
    MB."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | dict(variables or {})
    done = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=600, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done


def _pip(python: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return _run([str(python), "-m", "pip", "--disable-pip-version-check", *arguments], check=check)


def copy_checkout(to: Path, parts: Iterable[str] = PARTS) -> None:
    """Copy these parts, so that building leaves nothing here: files that git does not ignore, or all files without
    git."""
    listed = ""
    if shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *parts]
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    if listed:
        files = {ROOT / name for name in listed.split("\0") if name}
    else:
        built = {"build", "dist", "__pycache__"}
        under = [path for part in parts for path in (ROOT / part, *(ROOT / part).rglob("*"))]
        files = {p for p in under if not any(q in built or q.endswith(".egg-info") for q in p.relative_to(ROOT).parts)}
    for file in files:
        if file.is_file():
            target = to / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def make_environment(folder: Path) -> Environment:
    """A device's environment in `folder`, which is made; the versions are those of requirements-run.txt.

    Raises:
        RuntimeError: pip or venv failed; with all they said.
    """
    sources = folder / "sources"
    copy_checkout(sources)
    pins = [line for line in (ROOT / "requirements-run.txt").read_text().splitlines() if "==" in line]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins) + "\n")
    home = folder / "environment"
    _run([sys.executable, "-m", "venv", str(home)])
    python = home / "bin" / "python"
    packages = (str(sources), str(sources / "client"))
    _pip(python, "install", "--quiet", "--no-compile", "--constraint", str(constraints), *packages)
    found = json.loads(_run([str(python), "-c", LISTING]).stdout)
    distributions = {
        name: (about["version"], [p for p in map(Path, about["files"]) if p.suffix != ".pyc" and p.is_file()])
        for name, about in found["distributions"].items()
    }
    return Environment(home, Path(found["site"]), found["torch"], tuple(found["verbs"]), distributions)


def megabytes(paths: Iterable[Path]) -> float:
    """Sum of the sizes of files; links do not count."""
    return sum(p.stat().st_size for p in paths if p.is_file() and not p.is_symlink()) / 1e6


def installed_mb(environment: Environment) -> float:
    """Size of all files in site-packages, byte code included, without pip and setuptools."""
    site = environment.site
    owned = (path for tool in TOOLS for path in environment.distributions.get(tool, ("", []))[1])
    tools = {path.relative_to(site).parts[0] for path in owned if ".." not in path.parts}
    return megabytes(path for path in site.rglob("*") if path.relative_to(site).parts[0] not in tools)


def compile_all(environment: Environment) -> None:
    """Write the byte code that pip writes without --no-compile."""
    environment.run("python", "-m", "compileall", "-q", str(environment.site), check=False)  # some files are templates


def write_clip(path: Path, frames: int = FRAMES) -> None:
    """A disc that crosses a brightening picture, Motion JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (320, 240))
    assert writer.isOpened(), f"OpenCV writes no {path}"
    for i in range(frames):
        picture = np.full((240, 320, 3), 255 * i // frames, np.uint8)
        writer.write(cv2.circle(picture, (320 * i // frames, 120), 50, (0, 0, 255), -1))
    writer.release()


def play(environment: Environment, folder: Path, *options: str) -> list[dict[str, Any]]:
    """The results that `spinn run` there writes for a clip of FRAMES frames, each of which is taken."""
    folder.mkdir(parents=True, exist_ok=True)
    clip, results = folder / "clip.avi", folder / "results.jsonl"
    write_clip(clip)
    environment.run("spinn", "run", "--quiet", "--source", str(clip), "--frames", str(FRAMES), "--unpaced",
                    "--deadline-ms", "60000", "--jsonl", str(results), *options)  # fmt: skip
    return [json.loads(line) for line in results.read_text().splitlines()]


def answered(results: list[dict[str, Any]]) -> int:
    """How many frames of the clip have exactly one final result, and a label in it."""
    finals = [r for r in results if r["kind"] == "final"]
    frames = [r["frame"] for r in finals]
    return sum(frames.count(r["frame"]) == 1 and r["label"] is not None for r in finals)


def arm64_wheels(environment: Environment) -> dict[str, str | None]:
    """Name -> file of the wheel that an arm64 Linux machine would install of the same version, None: not found."""
    pinned = {name: version for name, version in environment.pinned.items() if name not in _elsewhere()}
    found = _dry_run(environment, pinned)
    if found is None:  # pip does not say all that it misses
        each = {n: _dry_run(environment, {n: version}) for n, version in pinned.items()}
        return {name: one[name] if one else None for name, one in each.items()}
    return found


def _elsewhere() -> set[str]:
    """Packages that our own requirements leave out on arm64 Linux; the client does without."""
    arm64 = {"platform_system": "Linux", "platform_machine": "aarch64", "sys_platform": "linux"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(text) for text in project["dependencies"]]
    return {r.name for r in wanted if r.marker is not None and not r.marker.evaluate(arm64)}


def _dry_run(environment: Environment, packages: dict[str, str]) -> dict[str, str | None] | None:
    """Name -> wheel; None if pip finds no wheel of one of them."""
    wanted = [f"{name}=={version}" for name, version in packages.items()]
    platforms = [f"--platform={tag}" for tag in ARM64]
    report = environment.folder / "report.json"
    done = _pip(
        environment.folder / "bin" / "python", "install", "--quiet", "--dry-run", "--no-deps", "--ignore-installed",
        "--only-binary=:all:", *platforms, f"--python-version={sys.version_info[0]}.{sys.version_info[1]}",
        "--implementation=cp", f"--target={environment.folder / 'arm64'}", f"--report={report}", *wanted, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        return None
    items = json.loads(report.read_text())["install"]
    report.unlink()
    files = {_plain(i["metadata"]["name"]): i["download_info"]["url"].rpartition("/")[2] for i in items}
    return {name: files[_plain(name)] for name in packages}


def _plain(name: str) -> str:
    """A package's name, however it is spelt."""
    return name.lower().replace("_", "-").replace(".", "-")


def could_shrink(environment: Environment, folder: Path) -> dict[str, float]:
    """Parts that could go without changing any answer -> MB, of files as they are in wheels."""
    site = environment.site

    def size(*names: str) -> float:
        return sum(megabytes(environment.distributions[name][1]) for name in names)

    def under(*patterns: str) -> float:
        """Byte code is counted apart."""
        return megabytes({p for pattern in patterns for p in site.glob(pattern) if p.suffix != ".pyc"})

    rows = {
        "a build of OpenCV without BLAS": under("opencv_python.libs/libopenblas*"),
        "libonnxruntime.so, which its Python module does not load": under("onnxruntime/capi/libonnxruntime.so*"),
        "a build of numpy without BLAS": under("numpy.libs/*"),
        "the tests of numpy": under("numpy/**/tests/**/*"),
        "tools of onnxruntime for models": under(
            *(f"onnxruntime/{n}/**/*" for n in ("transformers", "quantization", "tools"))
        ),
        "pydantic, which typer asks for": size("pydantic", "pydantic_core", "annotated-types", "typing-inspection"),
    }
    stripped = _strippable(site, folder)
    if stripped is not None:
        rows["debug symbols of uvloop, lz4 and msgpack"] = stripped
    headless = _wheel_mb(environment, "opencv-python-headless", environment.pinned["opencv-python"], folder)
    if headless is not None:
        rows["opencv-python-headless: no windows, which nothing here opens"] = size("opencv-python") - headless
    return rows


def _strippable(site: Path, folder: Path) -> float | None:
    """MB that `strip` would save; None: there is no `strip`."""
    if shutil.which("strip") is None:
        return None
    libraries = [p for name in ("uvloop", "lz4", "msgpack") for p in (site / name).rglob("*.so")]
    saved = 0.0
    for library in libraries:
        copy = folder / "stripped.so"
        _run(["strip", "-o", str(copy), str(library)])
        saved += megabytes([library]) - megabytes([copy])
    return saved


def _wheel_mb(environment: Environment, name: str, version: str, folder: Path) -> float | None:
    """Unpacked size of a wheel that is not installed; None if the index has none."""
    python, to = environment.folder / "bin" / "python", folder / "wheels"
    download = ("download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(to), f"{name}=={version}")
    if _pip(python, *download, check=False).returncode != 0:
        return None
    (wheel,) = to.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        return sum(entry.file_size for entry in packed.infolist()) / 1e6


def measure(folder: Path) -> dict[str, Any]:
    """Everything, in a folder that may be thrown away afterwards."""
    console = Console(stderr=True)
    console.print("installing the client into a fresh environment ...")
    environment = make_environment(folder)
    mb = {"installed": installed_mb(environment)}
    console.print("playing a clip there ...")
    results = play(environment, folder / "play")
    mb["after_a_run"] = installed_mb(environment)
    compile_all(environment)
    mb["with_all_byte_code"] = installed_mb(environment)
    mb["with_pip_and_setuptools"] = megabytes(environment.folder.rglob("*"))
    console.print("asking for wheels for arm64 ...")
    wheels = arm64_wheels(environment)
    shrink = could_shrink(environment, folder)
    shrink["byte code that a run does not need"] = mb["with_all_byte_code"] - mb["after_a_run"]
    return {
        "mb": {name: round(value, 1) for name, value in mb.items()},
        "limit_mb": LIMIT_MB,
        "torch": environment.has_torch,
        "frames": FRAMES,
        "answered": answered(results),
        "distributions": {
            name: {"version": version, "mb": round(megabytes(files), 1)}
            for name, (version, files) in sorted(
                environment.distributions.items(), key=lambda item: megabytes(item[1][1]), reverse=True
            )
            if name not in TOOLS
        },
        "arm64_wheels": dict(sorted(wheels.items(), key=lambda item: item[0].lower())),
        "arm64_not_found": sum(wheel is None for wheel in wheels.values()),
        "could_shrink_mb": dict(sorted(((n, round(v, 1)) for n, v in shrink.items()), key=lambda row: -row[1])),
    }


def _tag(wheel: str | None) -> str:
    """The oldest platform that a wheel's name lists, which is the first."""
    return "not found here" if wheel is None else wheel.removesuffix(".whl").rpartition("-")[2].partition(".")[0]


def show(figures: dict[str, Any]) -> None:
    console = Console()
    mb, wheels = figures["mb"], figures["arm64_wheels"]
    table = Table("package", "version", "MB", "wheel for arm64", title="A client's environment")
    for name, about in figures["distributions"].items():
        wheel = "ours: any" if name in OURS else _tag(wheels[name])
        table.add_row(name, about["version"], f"{about['mb']:.1f}", wheel)
    console.print(table)
    total = Table("counted", "MB")
    total.add_row("installed with --no-compile", f"{mb['installed']:.1f}")
    total.add_row("the same after a run, which writes byte code", f"{mb['after_a_run']:.1f}")
    total.add_row(
        f"with all byte code, as pip writes it by default (limit {LIMIT_MB})", f"{mb['with_all_byte_code']:.1f}"
    )
    total.add_row("the whole environment, with pip and setuptools, too", f"{mb['with_pip_and_setuptools']:.1f}")
    console.print(total)
    shrink = Table("what could shrink it", "MB")
    for name, value in figures["could_shrink_mb"].items():
        shrink.add_row(name, f"{value:.1f}")
    console.print(shrink)
    console.print(f"torch is {'there' if figures['torch'] else 'absent'}; {figures['answered']} of {figures['frames']} "
                  f"frames answered; {figures['arm64_not_found']} packages without a wheel for arm64")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder))
    if not args.json:
        show(figures)
        return
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    about = {
        "command": "python benchmarks/client_size.py --json",
        "commit": commit.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }
    print(json.dumps({**about, **figures}, indent=1))


if __name__ == "__main__":
    main()
