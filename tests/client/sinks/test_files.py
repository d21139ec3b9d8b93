"""Files that are written: checked before the run, touched once it really runs."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from spinn_client.sinks.files import LineWriter, OutputFile, check_outputs
from spinn_stream.errors import ConfigError, ReaderGone

not_root = pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")


def made(make: Callable[[Path], object], path: Path) -> Path:
    make(path)
    return path


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("no/such/x", "there is no folder .*/no/such"),
        (".", "it is a folder, expected a file"),
        ("file/x", "Not a directory"),
        ("n" * 300, "File name too long"),
        ("loop", "Too many levels of symbolic links"),
        ("dangling", "there is no folder .*/nowhere"),
        ("zero\0byte", "null byte"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere/x")
    with pytest.raises(ConfigError, match=f"(?s)^cannot write .*: .*{why}") as raised:
        OutputFile(tmp_path / name).check()
    assert "\n" not in str(raised.value)


@not_root
def test_what_may_not_be_written_is_told(tmp_path: Path) -> None:
    file = made(Path.touch, tmp_path / "file")
    file.chmod(0o400)
    with pytest.raises(ConfigError, match="it may not be written"):
        OutputFile(file).check()
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match=r"the folder .* may not be written"):
        OutputFile(tmp_path / "new").check()


def test_a_check_neither_creates_nor_empties(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("old\n")
    check_outputs([OutputFile(old, "--jsonl"), OutputFile(new, "--summary")])
    assert old.read_text() == "old\n" and not new.exists()


def same(folder: Path) -> Path:
    return folder / "x"


def other_way(folder: Path) -> Path:
    return folder / ".." / folder.name / "x"


def symbolic(folder: Path) -> Path:
    return made(lambda p: p.symlink_to("x"), folder / "symbolic")


def hard(folder: Path) -> Path:
    (folder / "x").touch()
    return made(lambda p: p.hardlink_to(folder / "x"), folder / "hard")


@pytest.mark.parametrize("second", [same, other_way, symbolic, hard])
def test_two_options_that_name_one_file_are_refused(tmp_path: Path, second: Callable[[Path], Path]) -> None:
    one, two = OutputFile(tmp_path / "x", "--jsonl"), OutputFile(second(tmp_path), "--summary")
    with pytest.raises(ConfigError, match="--jsonl and --summary name the same file"):
        check_outputs([one, two])
    with pytest.raises(ConfigError, match="--source and --summary name the same file"):
        check_outputs([two], inputs={"--source": one.path})


def test_stdout_goes_to_one_option_and_the_null_device_to_any_number() -> None:
    check_outputs([OutputFile(Path("/dev/null"), "--jsonl"), OutputFile(Path("/dev/null"), "--summary")])
    with pytest.raises(ConfigError, match="name the same file: -"):
        check_outputs([OutputFile(Path("-"), "--jsonl"), OutputFile(Path("-"), "--summary")])


def test_a_summary_takes_the_place_of_the_old_one_with_its_permissions(tmp_path: Path) -> None:
    file = made(lambda p: p.write_text("old, and longer than the new one\n"), tmp_path / "summary.json")
    file.chmod(0o640)
    link = made(lambda p: p.symlink_to(file), tmp_path / "link")
    reader = file.open()
    OutputFile(link).write_whole("new\n")
    assert file.read_text() == "new\n" and stat.S_IMODE(file.stat().st_mode) == 0o640 and link.is_symlink()
    assert reader.read() == "old, and longer than the new one\n", "who reads the old one finds all of it"
    reader.close()
    OutputFile(tmp_path / "fresh").write_whole("new\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fresh", "link", "summary.json"], "nothing is left over"


def test_a_summary_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = made(lambda p: p.write_text("old\n"), tmp_path / "summary.json")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ConfigError, match=r"summary.json: No space left on device"):
        OutputFile(file).write_whole("new\n")
    assert file.read_text() == "old\n" and list(tmp_path.iterdir()) == [file]


def test_a_summary_goes_to_what_is_no_file_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    OutputFile(Path("/dev/null")).write_whole("new\n")
    OutputFile(Path("-")).write_whole("new\n")
    assert capfd.readouterr().out == "new\n"
    assert Path("/dev/null").is_char_device()
    with pytest.raises(ConfigError, match="cannot write /dev/full: No space left on device"):
        OutputFile(Path("/dev/full")).write_whole("new\n")


def test_a_line_writer_touches_its_file_when_it_begins(tmp_path: Path) -> None:
    file = made(lambda p: p.write_text("old\n"), tmp_path / "lines")
    writer: LineWriter[int] = LineWriter(OutputFile(file), "{}\n".format)
    assert file.read_text() == "old\n"
    writer.close()
    assert file.read_text() == "old\n", "a start that fails empties nothing"
    writer = LineWriter(OutputFile(file), "{}\n".format)
    writer.begin()
    writer.close()
    assert file.read_text() == ""


def test_a_line_writer_writes_all_in_order(tmp_path: Path) -> None:
    writer: LineWriter[int] = LineWriter(OutputFile(tmp_path / "lines"), "{}\n".format)
    for k in range(5000):
        writer.add(k)
    writer.close()
    assert (tmp_path / "lines").read_text() == "".join(f"{k}\n" for k in range(5000))


def test_a_full_disk_is_told_at_the_end(tmp_path: Path) -> None:
    writer: LineWriter[int] = LineWriter(OutputFile(Path("/dev/full")), "{}\n".format)
    writer.add(1)
    with pytest.raises(ConfigError, match="cannot write /dev/full: No space left on device"):
        writer.close()
    writer.close()  # it was told once


def test_a_reader_who_left_ends_it_and_is_no_error_at_the_close(tmp_path: Path) -> None:
    fifo = made(os.mkfifo, tmp_path / "fifo")
    writer: LineWriter[int] = LineWriter(OutputFile(fifo), "{}\n".format)
    writer.begin()
    with fifo.open() as reader:
        writer.add(1)
        assert reader.readline() == "1\n"
    writer.add(2)
    writer._thread._thread.join(10)
    with pytest.raises(ReaderGone, match=r"nobody reads .*fifo any more"):
        writer.add(3)
    writer.close()


def test_a_reader_who_reads_nothing_holds_up_nobody_and_the_loss_is_told(tmp_path: Path) -> None:
    fifo = made(os.mkfifo, tmp_path / "fifo")
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writer: LineWriter[str] = LineWriter(OutputFile(fifo), str)
    with pytest.raises(ConfigError, match="takes lines too slowly: 10000 are waiting"):
        while True:
            writer.add("x" * 1000)
    with pytest.raises(ConfigError, match=r"the last ones were not written within 0.1 s"):
        writer.close(0.1)
    os.close(reader)


def test_a_pipe_without_a_reader_holds_up_nobody(tmp_path: Path) -> None:
    fifo = made(os.mkfifo, tmp_path / "fifo")
    writer: LineWriter[str] = LineWriter(OutputFile(fifo), str)
    writer.begin()
    writer.add("x")
    with pytest.raises(ConfigError, match="too slowly"):
        writer.close(0.1)
    os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # lets the thread go
