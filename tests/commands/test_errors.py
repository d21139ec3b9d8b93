"""What goes wrong is one clear line and exit code 1; wrong usage is exit code 2."""

from __future__ import annotations

import http.server
import json
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from spinn_stream.bundle import MANIFEST, load_bundle

from ..bundles import LITE2_200, SMALL
from ..processes import ServerProcess, said, server, spinn


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


AT_9 = ("--source", "demo", "--server", "ws://127.0.0.1:1", "--split", "9")
AT_0 = (*AT_9[:-1], "0")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--source", "nowhere.mp4"], "no file 'nowhere.mp4'"),
        (["--source", "[/x]"], "no file '[/x]'"),
        (["--source", str(Path(__file__).parent)], "no image in"),
        (["--source", __file__], "is not a video that can be read"),
        (["--source", "97"], "camera 97 cannot be opened"),
        (["--source", "20240501123000"], "no file 20240501123000, and no camera: expected a camera's number"),
        (["--source", "rtsp://me:secret@127.0.0.1:1/x"], "rtsp://me:***@127.0.0.1:1/x: Connection refused"),
        (["--source", "http://no-such-host.invalid/x"], "unknown host no-such-host.invalid"),
        (["--source", "demo", "--server", "http://localhost:1"], "expected ws://HOST:PORT"),
        (["--source", "demo", "--server", "nonsense"], "expected ws://HOST:PORT"),
        (["--source", "demo", "--server", "ws://"], "expected ws://HOST:PORT"),
        (["--source", "demo", "--server", "ws://[/x]"], "'ws://[/x]' is not a server's address"),
        (["--source", "demo", "--server", "ws://[fe80::1...]"], "'ws://[fe80::1...]' is not a server's address"),
        (["--source", "demo", "--server", "ws://no-such-host.invalid:1"], "cannot reach ws://no-such-host.invalid:1"),
        (["--source", "demo", "--server", "ws://127.0.0.1:1"], "is `spinn serve` running there?"),
        (["--source", "demo", "--bundle", "nowhere"], "nowhere is not a bundle"),
        (["--source", "demo", "--split", "nowhere"], "or one of input, stem"),
        (["--source", "demo", "--split", "4"], "add --server"),
        (["--source", "demo", "--threshold", "high"], "expected a number from 0 to 1, or none"),
        (["--source", "demo", "--threshold", "nan"], "expected a number from 0 to 1, or none"),
        (["--source", "demo", "--deadline-ms", "0"], "expected 1 to 600000"),
        (["--source", "demo", "--runtime", "abacus"], "expected one of auto, onnxruntime"),
        (["--source", "demo", "--jsonl", "/no/such/folder/x"], "cannot write /no/such/folder/x"),
        (["--source", "demo", "--summary", "/no/such/folder/x"], "cannot write /no/such/folder/x"),
        ([*AT_0, "--record-trace", "/no/such/folder/x"], "cannot write /no/such/folder/x"),
        (["--source", "demo", "--jsonl", "/"], "cannot write /: it is a folder"),
        (["--source", "demo", "--token-file", "nowhere", "--server", "ws://x:1"], "cannot read the token file"),
        (["--source", "demo", "--fps", "30", "--unpaced"], "exclude each other"),
        ([*AT_9, "--codec", "zip"], "--codec: codec 'zip', expected one of transform, cnn-co, jpeg, png"),
        ([*AT_9, "--codec", ""], "--codec: codec '', expected one of transform, cnn-co, jpeg, png"),
        ([*AT_9, "--codec", "transform"], "--codec: transform, expected transform:2 to transform:"),
        ([*AT_9, "--codec", "transform:99"], "--codec: transform:99, expected transform:2 to transform:"),
        ([*AT_9, "--codec", "cnn-co:1"], "--codec: cnn-co:1, expected cnn-co:2 to cnn-co:8"),
        ([*AT_9, "--codec", "cnn-co:fine"], "--codec: codec 'cnn-co:fine', expected a whole number behind the colon"),
        ([*AT_9, "--codec", "jpeg:85"], "codec jpeg:85 does not go with split 9, expected one of transform, cnn-co"),
        ([*AT_9, "--codec", "png"], "codec png does not go with split 9, expected one of transform, cnn-co"),
        ([*AT_0, "--codec", "jpeg:101"], "--codec: jpeg:101, expected jpeg:1 to jpeg:100"),
        ([*AT_0, "--codec", "transform:7"], "codec transform:7 does not go with split 0, expected one of jpeg, png"),
    ],
)
def test_run_says_in_one_line_what_is_wrong(options: list[str], expected: str) -> None:
    done = said("run", *options)
    assert done.returncode == 1
    assert expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""


def test_a_folder_is_named_as_it_is(tmp_path: Path) -> None:
    """Its name is no markup for the terminal."""
    folder = tmp_path / "[red]" / "[" / "x]"
    folder.mkdir(parents=True)
    done = said("run", "--source", str(folder))
    assert done.returncode == 1 and f"no image in {folder}, expected" in done.stderr


@pytest.mark.parametrize(
    "fails", [["--source", "nowhere.mp4"], AT_9, ["--source", "demo", "--split", "nowhere"], ["--nonsense"]]
)
def test_a_start_that_fails_empties_no_file(fails: list[str], tmp_path: Path) -> None:
    outputs = [("--jsonl", tmp_path / "a"), ("--summary", tmp_path / "b"), ("--record-trace", tmp_path / "c")]
    for _, path in outputs:
        path.write_text("old\n")
    server = () if "--server" in fails else ("--server", "ws://127.0.0.1:1")
    done = said("run", *fails, *server, *(str(part) for output in outputs for part in output))
    assert done.returncode in {1, 2}
    assert [path.read_text() for _, path in outputs] == ["old\n"] * 3


def test_one_file_for_two_outputs_is_refused(tmp_path: Path) -> None:
    same = str(tmp_path / "x")
    done = said("run", "--source", "demo", "--jsonl", same, "--summary", same)
    assert done.returncode == 1 and f"--jsonl and --summary name the same file: {same}" in done.stderr


@pytest.mark.parametrize("arguments", [["run"], ["run", "--source", "demo", "--nonsense"], ["nonsense"], []])
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    assert said(*arguments).returncode == 2


@pytest.fixture
def other_bundle(tmp_path: Path) -> Path:
    """The small bundle with other temperatures: the same graph, another hash."""
    folder = Path(shutil.copytree(LITE2_200, tmp_path / "other"))
    manifest = json.loads((folder / MANIFEST).read_text())
    for exit_ in manifest["exits"]:
        exit_["temperature"] = 1.5
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_a_bundle_of_another_hash_is_refused_and_both_are_named(serving: ServerProcess, other_bundle: Path) -> None:
    done = said("run", "--source", "demo", "--server", serving.address, "--bundle", str(other_bundle),
                "--runtime", "onnxruntime")  # fmt: skip
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    for folder in (other_bundle, LITE2_200):
        assert load_bundle(folder).hash[:12] in done.stderr
    assert serving.get("/healthz") == "ok\n"


def test_a_token_is_asked_for(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text("open sesame\n")
    wrong.write_text("open says me\n")
    common = ("run", "--source", "demo", "--frames", "5", "--split", "9", "--quiet", "--runtime", "onnxruntime", *SMALL)
    with server("--token-file", str(right)) as running:
        to = ("--server", running.address)
        assert spinn(*common, *to, "--token-file", str(right)).returncode == 0
        for options in ((), ("--token-file", str(wrong))):
            done = said(*common, *to, *options)
            assert done.returncode == 1 and "unauthorised" in done.stderr


def test_a_web_server_is_not_a_spinn_server() -> None:
    web = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        done = said("run", "--source", "demo", "--server", f"ws://127.0.0.1:{web.server_port}")
    finally:
        web.shutdown()
    assert done.returncode == 1 and "is not a spinn server" in done.stderr


def test_a_port_that_is_taken_is_named(serving: ServerProcess) -> None:
    done = spinn("serve", "--port", str(serving.port), "--runtime", "onnxruntime")
    assert done.returncode == 1 and f"cannot listen on 127.0.0.1:{serving.port}" in done.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--max-batch-size", "0"], "max_batch_size >= 1"),
        (["--bundle", "nowhere"], "nowhere is not a bundle"),
        (["--tls-cert", "x"], "go together"),
        (["--tls-cert", "x", "--tls-key", "y"], "for TLS"),
        (["--token-file", "/dev/null"], "expected a token"),
        (["--port", "70000"], "a port from 0 to 65535"),
    ],
)
def test_serve_says_in_one_line_what_is_wrong(options: list[str], expected: str) -> None:
    done = said("serve", *options)
    assert done.returncode == 1
    assert expected in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_http_paths(serving: ServerProcess) -> None:
    assert serving.get("/healthz") == serving.get("/readyz") == "ok\n"
    assert serving.metric("spinn_sessions") == 0
    with pytest.raises(OSError, match="404"):
        serving.get("/nowhere")


def test_begin_without_the_server_when_so_asked() -> None:
    done = spinn("run", *SMALL, "--source", "demo", "--frames", "30", "--unpaced", "--deadline-ms", "10000",
                 "--split", "9", "--allow-offline", "--jsonl", "-", "--server", f"ws://127.0.0.1:{free_port()}",
                 "--quiet", "--runtime", "onnxruntime")  # fmt: skip
    assert done.returncode == 0
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 30 and {r["reason"] for r in results} <= {"disconnected", "confident"}


def test_tls_with_a_certificate_of_ones_own(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes the certificate, is not here")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    with server("--tls-cert", str(cert), "--tls-key", str(key)) as running:
        assert running.address.startswith("wss://")
        common = ("run", "--source", "demo", "--frames", "5", "--split", "9", "--quiet", "--server", running.address,
                  "--runtime", "onnxruntime", *SMALL)  # fmt: skip
        assert spinn(*common, "--tls-ca", str(cert)).returncode == 0
        untrusted = said(*common)
        assert untrusted.returncode == 1 and "certificate" in untrusted.stderr


def test_recording_needs_a_server_and_a_file() -> None:
    alone = said("run", "--source", "demo", "--record-trace", "x.csv")
    assert alone.returncode == 1 and "add --server ws://HOST:PORT" in alone.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--trace", "nowhere.csv"), "nowhere.csv"),
        (("--offset", "3"), "--offset, --no-loop and --format are about a trace: add --trace FILE"),
        (("--no-loop",), "add --trace FILE"),
        (("--up-mbps", "-1"), "up_mbps is -1.0, expected 0 to 100000"),
        (("--loss", "2"), "loss is 2.0, expected 0 to 1"),
        (("--queue-bytes", "10"), "queue_bytes is 10, expected 1448"),
        (("--control", "8000"), "--control is '8000', expected HOST:PORT"),
        (("--control", "127.0.0.1:1x"), "expected HOST:PORT"),
    ],
)
def test_what_cannot_be_imposed_is_told_in_one_line(options: tuple[str, ...], expected: str) -> None:
    done = said("shape", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", *options)
    assert done.returncode == 1 and expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout
