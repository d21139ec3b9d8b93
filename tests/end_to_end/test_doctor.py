"""`spinn doctor` with real servers: every line says what is, and one that fails leaves the others be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..bundles import DEFAULT
from ..processes import ServerProcess, said, server, spinn

STATES = {"ok", "warning", "failed", "skipped"}
EVERY_CHECK = {"python", "packages", "clock", "bundle", "engine onnxruntime", "runtime", "server", "deadline"}
LONG = ("--deadline-ms", "600000")


def doctor(*options: str, code: int) -> dict[str, list[dict[str, Any]]]:
    """Its lines by name."""
    done = said("doctor", "--json", "--runtime", "onnxruntime", *options)
    assert done.returncode == code, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["ok"] == (code == 0) and "Traceback" not in done.stderr
    lines: dict[str, list[dict[str, Any]]] = {}
    for line in found["checks"]:
        assert line.keys() == {"name", "state", "text", "to_do"} and line["state"] in STATES
        lines.setdefault(line["name"], []).append(line)
    assert lines.keys() >= EVERY_CHECK
    return lines


def failed(lines: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {name for name, found in lines.items() for line in found if line["state"] == "failed"}


def test_all_is_well_with_a_server_and_a_source(serving_default: ServerProcess) -> None:
    lines = doctor("--server", serving_default.address, "--source", "demo", *LONG, code=0)
    assert "the same bundle, engine onnxruntime" in lines["server"][0]["text"]
    assert "kB" in lines["round trip"][0]["text"] and "640x480" in lines["source demo"][0]["text"]
    assert [line["state"] for line in lines["deadline"]] == ["ok"] * 3


def test_a_server_wants_its_token(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open says me\n")
    with server("--token-file", str(right), *DEFAULT) as running:
        lines = doctor("--server", running.address, "--token-file", str(wrong), code=1)
        assert failed(lines) == {"server"} and "unauthorised" in lines["server"][0]["text"]
        assert "--token-file" in lines["server"][0]["to_do"]
        lines = doctor("--server", running.address, "--token-file", str(right), *LONG, code=0)
        assert "token accepted" in lines["server"][0]["text"]


def test_a_server_with_another_bundle_fails(serving: ServerProcess) -> None:
    lines = doctor("--server", serving.address, *LONG, code=1)
    assert failed(lines) == {"server"} and "bundle_mismatch" in lines["server"][0]["text"]
    assert "the same --bundle" in lines["server"][0]["to_do"]


def test_each_thing_that_fails_is_said_and_the_others_are_checked() -> None:
    lines = doctor("--server", "ws://127.0.0.1:1", "--source", __file__, "--deadline-ms", "1", code=1)
    source = f"source {__file__}"
    assert failed(lines) == {"server", source, "deadline"}
    assert "is `spinn serve` running there?" in lines["server"][0]["text"]
    assert "is not a video that can be read" in lines[source][0]["text"]
    first, whole = lines["deadline"]
    assert first["state"] == "failed" and whole["state"] == "warning" and "--deadline-ms" in first["to_do"]


def test_the_table_is_printed_where_something_fails_too() -> None:
    done = spinn("doctor", "--bundle", "nowhere", "--runtime", "abacus", timeout=120)
    assert done.returncode == 1 and done.stderr == ""
    assert "nowhere is not a bundle" in done.stdout and "not checked without a bundle" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("ok: ")


def test_a_deadline_that_is_none_is_one_line() -> None:
    done = said("doctor", "--deadline-ms", "0")
    assert done.returncode == 1 and done.stderr.strip() == "spinn doctor: deadline_ms is 0.0, expected 1 to 600000"
