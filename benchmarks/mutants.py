"""How many errors that are put into the code do the tests of its room find?

    python benchmarks/mutants.py [--each 20] [--seed 1] [--room plan] [--before COMMIT] [--json]

Draws places in each room at random, changes one of them at a time in a copy of the checkout, and runs the room's tests:
a mutant is killed if they fail, or never end, and survives if they pass. What survives is listed: an error that no test
sees, or a change that makes no difference. Some minutes for a room on one core.

With --before the same changes are made in an earlier commit, too, and judged there by its own tests. They are drawn
from the lines that both have, so that a difference is one of the tests.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import difflib
import io
import json
import math
import os
import platform
import random
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

ROOT = Path(__file__).parent.parent
ROOMS = {
    "wire": ("spinn_stream/wire", "tests/core/wire"),
    "plan": ("spinn_stream/plan", "tests/core/plan"),
    "frames": ("client/spinn_client/frames", "tests/client/frames"),
}
"""Name -> its code, and its tests."""

MOST_CPU_S, MOST_S = 100, 300
"""Several times what the tests of a room take: of the processor, which does not depend on other work, and in all."""

PATHS = ("", "client", "server", "traces", "examples/drone")
NOT_COPIED = shutil.ignore_patterns(".*", "site", "*.work", "__pycache__", "results")

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult,
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: of the node that a walk through the file comes to as the `nth`."""

    path: str
    line: int
    nth: int
    what: str


def changed(node: ast.AST) -> tuple[str, ast.AST] | None:
    """What to say of a node's change, and the node in its place; None: it stays."""
    new = copy.deepcopy(node)
    match new:
        case ast.Compare(ops=[op, *rest]) if type(op) in SWAPS:
            new.ops = [SWAPS[type(op)](), *rest]  # type: ignore[list-item]
        case ast.BoolOp(op=op) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            new.op = SWAPS[type(op)]()  # type: ignore[assignment]
        case ast.UnaryOp(op=ast.Not()):
            return f"{ast.unparse(node)} -> {ast.unparse(new.operand)}", new.operand
        case ast.If() | ast.While() | ast.IfExp():
            new.test = ast.UnaryOp(ast.Not(), new.test)
            return f"if not: {ast.unparse(node.test)}", new  # type: ignore[attr-defined]
        case ast.Constant(value=bool(value)):
            new.value = not value
        case ast.Constant(value=int(value) | float(value)):
            new.value = value + 1
        case ast.Return(value=ast.expr() as value) if ast.unparse(value) != "None":
            new.value = ast.Constant(None)
        case ast.Expr(value=ast.Call()) | ast.Raise():
            return f"without: {ast.unparse(node)}", ast.Pass()
        case _:
            return None
    return f"{ast.unparse(node)} -> {ast.unparse(new)}", new


def code(tree: ast.Module) -> Iterator[ast.AST]:
    """All nodes in a fixed order, but for what is not run: annotations."""
    skipped: set[ast.AST] = set()
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            if isinstance(found := getattr(node, name, None), ast.AST):
                skipped.update(ast.walk(found))
        yield node if node not in skipped else ast.Pass()


class Put(ast.NodeTransformer):
    """Puts one node in another's place."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else self.generic_visit(node)


def mutants(tree: Path, room: str) -> list[Mutant]:
    """Every change that there is in a room."""
    found = []
    for path in sorted((tree / room).rglob("*.py")):
        for nth, node in enumerate(code(ast.parse(path.read_text()))):
            change = changed(node)
            if change is not None:
                found.append(Mutant(str(path.relative_to(tree)), node.lineno, nth, change[0]))  # type: ignore[attr-defined]
    return found


def shared(before: Path, now: Path, room: str) -> list[tuple[Mutant, Mutant]]:
    """The changes of lines that two trees have, as they are made in each."""
    pairs = []
    places = [mutants(tree, room) for tree in (before, now)]
    for path in sorted({m.path for m in places[0]} & {m.path for m in places[1]}):
        lines = [(tree / path).read_text().splitlines() for tree in (before, now)]
        found: list[dict[tuple[int, str], list[Mutant]]] = [defaultdict(list), defaultdict(list)]
        for mine, every in zip(found, places, strict=True):
            for mutant in (m for m in every if m.path == path):
                mine[mutant.line, mutant.what].append(mutant)
        for block in difflib.SequenceMatcher(None, *lines, autojunk=False).get_matching_blocks():
            for (line, what), there in found[0].items():
                if block.a < line <= block.a + block.size:
                    here = found[1].get((line - block.a + block.b, what), [])
                    pairs += zip(there, here, strict=True) if len(there) == len(here) else []
    return pairs


def mutated(text: str, nth: int) -> str:
    """The file with one change, without its comments."""
    tree = ast.parse(text)
    node = list(code(tree))[nth]
    change = changed(node)
    assert change is not None
    return ast.unparse(ast.fix_missing_locations(Put(node, change[1]).visit(tree)))


def passes(tree: Path, tests: str) -> bool:
    """Whether a room's tests pass in this tree."""
    paths = os.pathsep.join(str(tree / path) for path in PATHS)
    process = subprocess.Popen(
        ["sh", "-c", f'ulimit -t {MOST_CPU_S} && exec "$@"', "sh",
         sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests],
        cwd=tree, env={**os.environ, "PYTHONPATH": paths, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(MOST_S):  # in small parts: a time in which this process too is stopped does not count
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(1) == 0
        return False
    finally:
        process.kill()
        process.wait()


def killed(tree: Path, mutant: Mutant, tests: str) -> bool:
    """Whether a room's tests find a change of this tree, which is as before afterwards."""
    path = tree / mutant.path
    before = path.read_text()
    path.write_text(mutated(before, mutant.nth))
    try:
        return not passes(tree, tests)
    finally:
        path.write_text(before)


def checked_out(commit: str, folder: Path) -> Path:
    """The tree of a commit, without what belongs to git."""
    done = subprocess.run(["git", "archive", "--format=tar", commit], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def interval(hits: int, of: int) -> tuple[float, float]:
    """Where the share of all lies with 95 % confidence, if `hits` of `of` were drawn (Wilson 1927)."""
    z = 1.96
    middle, reach = hits + z * z / 2, z * math.sqrt(hits * (of - hits) / of + z * z / 4)
    return round((middle - reach) / (of + z * z), 3), round((middle + reach) / (of + z * z), 3)


def commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=20, help="mutants of each room")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--room", choices=ROOMS, help="this one alone")
    parser.add_argument("--before", metavar="COMMIT", help="the same changes with the tests of that commit, too")
    parser.add_argument("--json", action="store_true", help="one object on stdout")
    options = parser.parse_args()
    console = Console(stderr=True, highlight=False, markup=False)
    rooms: dict[str, Any] = {}
    of = commit()
    with tempfile.TemporaryDirectory() as folder:
        trees = {"now": Path(shutil.copytree(ROOT, Path(folder) / "now", ignore=NOT_COPIED))}
        if options.before:
            trees["before"] = checked_out(options.before, Path(folder) / "before")
        for room in [options.room] if options.room else ROOMS:
            place, tests = ROOMS[room]
            for tree in trees.values():
                if not passes(tree, tests):
                    sys.exit(f"{tests} fail without any change")
            if options.before:
                every = [{"before": a, "now": b} for a, b in shared(trees["before"], trees["now"], place)]
            else:
                every = [{"now": mutant} for mutant in mutants(trees["now"], place)]
            drawn = random.Random(f"{options.seed} {room}").sample(every, options.each)
            lived: dict[str, list[str]] = {when: [] for when in trees}
            for mutant in drawn:
                what = f"{mutant['now'].path}:{mutant['now'].line} {mutant['now'].what}"
                for when, tree in trees.items():
                    found = killed(tree, mutant[when], tests)
                    console.print(f"{when:6} {'killed  ' if found else 'survived'}  {what}", soft_wrap=True)
                    if not found:
                        lived[when].append(what)
            rooms[room] = {"of": len(every), "drawn": len(drawn)} | {
                when: {"killed": len(drawn) - len(survived), "survived": survived} for when, survived in lived.items()
            }
    total = sum(room["drawn"] for room in rooms.values())
    sums = {when: sum(room[when]["killed"] for room in rooms.values()) for when in trees}
    for when, count in sums.items():
        console.print(f"{when}: {count} of {total} killed, 95 % confident: {interval(count, total)}")
    if options.json:
        said = {
            "command": shlex.join(["python", *sys.argv]),
            "commit": of,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            "before": options.before,
            "killed": {
                when: {"share": round(n / total, 3), "interval": interval(n, total)} for when, n in sums.items()
            },
            "rooms": rooms,
        }
        print(json.dumps(said, indent=1))


if __name__ == "__main__":
    main()
