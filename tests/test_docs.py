"""What is written about the house: every link leads somewhere, every command can be typed, and the words are plain."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer

from spinn_stream.cli.main import VERBS, _app, _load

ROOT = Path(__file__).parent.parent
ROOMS = ("spinn_stream", "client", "server", "traces", "examples", "benchmarks", "docs", "tests")
HIDDEN = {".venv", "site", "build", "dist", "__pycache__"}

RIDDLES = re.compile(r"\bso\s+(?:many|long)\b", re.IGNORECASE)
"""A reader has to find out how many or how long; a name or a number says it."""


@cache
def found(*endings: str) -> list[Path]:
    """Files of the house, not of a virtual environment beside them."""
    files = [*ROOT.glob("*"), *(path for room in ROOMS for path in (ROOT / room).rglob("*"))]
    return sorted(p for p in files if p.name.endswith(endings) and not HIDDEN & set(p.relative_to(ROOT).parts))


PAGES = found(".md")


FENCE = re.compile(r"^```.*?^```", re.M | re.S)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def without_code(text: str) -> str:
    """Fenced blocks and inline code hold no links and no headings."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Of a page's headings, as GitHub makes them: https://github.com/gjtorikian/html-pipeline, toc_filter."""
    text = FENCE.sub("", page.read_text())
    seen: Counter[str] = Counter()
    made = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        made.add(slug if not seen[slug] else f"{slug}-{seen[slug]}")
        seen[slug] += 1
    return frozenset(made)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading_of_it(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.is_relative_to(ROOT.resolve()) and there.exists(), f"{target}: there is no such file"
        if anchor:
            assert anchor in anchors(there), f"{target}: no such heading, expected one of {sorted(anchors(there))}"


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\((\d{4}-[^)]+)\)", (folder / "README.md").read_text())
    assert listed == [path.name for path in sorted(folder.glob("0*.md"))]


@cache
def options(verb: str, subverb: str) -> dict[str, bool]:
    """Option -> whether it takes a value."""
    function = _load(verb)
    assert function is not None, f"spinn {verb} is not installed"
    command = typer.main.get_command(_app(verb, function))
    if subverb:
        command = command.commands[subverb]  # type: ignore[attr-defined]
    made = {"-h": False, "--help": False, "--version": False}
    for param in command.params:
        for name in [*param.opts, *param.secondary_opts]:
            if name.startswith("-"):
                made[name] = not getattr(param, "is_flag", False)
    return made


SUBVERBS = {"trace": ("info", "plot", "generate", "fit", "derive")}


def commands(page: Path) -> Iterator[str]:
    """Lines of code that begin with `spinn`, and what inline code says of it, one command each."""
    text = re.sub(r"\\\n\s*", " ", page.read_text())
    prose = FENCE.sub("", text)
    fenced = [line for block in re.findall(r"(?ms)^```(?:sh|bash|)\n(.*?)^```", text) for line in block.splitlines()]
    indented = [line for line in prose.splitlines() if line.startswith("    ")]
    inline = [code for paragraph in prose.split("\n\n") for code in re.findall(r"`([^`]+)`", paragraph)]
    for line in [*fenced, *indented, *inline]:
        words = " ".join(line.split())
        if re.match(r"spinn [a-z]", words):
            yield words


def checked(command: str) -> str | None:
    """What is wrong with a command; None: nothing."""
    words = shlex.split(re.sub(r"[\[\]]", " ", command), comments=True)
    words = words[: next((at for at, word in enumerate(words) if word in {"|", ">", "&", "&&", ";"}), None)]
    verb = words[1]
    if verb not in VERBS:
        return f"no verb {verb}"
    subverb = words[2] if len(words) > 2 and words[2] in SUBVERBS.get(verb, ()) else ""
    known = options(verb, subverb)
    rest = iter(words[3 if subverb else 2 :])
    for word in rest:
        name, equals, _ = word.partition("=")
        if name.startswith("-") and name != "-":
            if name not in known:
                return f"no option {name}"
            value = None if equals or not known[name] else next(rest, None)
            if value is not None and value.startswith("--"):
                return f"{name} needs a value, got {value}"
    return None


def test_commands_that_cannot_be_typed_are_found() -> None:
    assert checked("spinn run --source demo --threshold none") is None
    assert checked("spinn trace generate --seed 7") is None
    assert checked("spinn run --sauce demo") == "no option --sauce"
    assert checked("spinn trace generate --deadline-ms 7") == "no option --deadline-ms"
    assert checked("spinn run --source --loop") == "--source needs a value, got --loop"
    assert checked("spinn fly") == "no verb fly"


@pytest.mark.parametrize("page", [page for page in PAGES if list(commands(page))], ids=named)
def test_every_command_of_a_page_has_the_options_that_it_is_given(page: Path) -> None:
    wrong = {command: why for command in commands(page) if (why := checked(command)) is not None}
    assert not wrong


def test_every_script_and_target_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = set()
    for page in PAGES:
        text = page.read_text()
        for script, rest in re.findall(r"\bpython ((?:benchmarks|examples|docs)/[\w/]+\.py)([^`\n]*)", text):
            assert (ROOT / script).is_file(), f"{named(page)}: {script}"
            source = "".join(p.read_text() for p in (ROOT / script).parent.glob("*.py"))
            for option in re.findall(r" (--[a-z-]+)", rest):
                assert f'"{option}"' in source, f"{named(page)}: {script} {option}"
        asked |= set(re.findall(r"`make ([a-z0-9-]+)", text))
    assert asked <= targets


@pytest.mark.parametrize("room", (".", *ROOMS))
def test_no_sentence_asks_the_reader_how_many_or_how_long(room: str) -> None:
    """Docs, docstrings, messages, help texts: `n bytes`, `k times as long`."""
    endings = (".md", ".py", ".js", ".html", ".css", ".sh", ".toml", ".yml", "Makefile")
    for path in found(*endings):
        inside = path.relative_to(ROOT).parts
        if path != Path(__file__) and (inside[0] == room or (room == "." and len(inside) == 1)):
            riddle = RIDDLES.search(path.read_text())
            assert riddle is None, f"{named(path)}: {path.read_text()[riddle.start() - 40 : riddle.end() + 40]!r}"


class Fetched(HTMLParser):
    """What a browser gets for a page without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get("src") or (
            values.get("href") if tag == "link" and values.get("rel") != "canonical" else None
        )
        if address:
            self.addresses.append(address)


def test_the_site_builds_without_a_warning_and_fetches_nothing_from_elsewhere(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0 and not done.stdout + done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "glossary.html", "scheduler.html"} <= {page.name for page in pages}
    for page in pages:
        fetched = Fetched()
        fetched.feed(page.read_text())
        assert fetched.addresses and not [a for a in fetched.addresses if re.match(r"(?:https?:)?//", a)], page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", sheet.read_text()), sheet
