"""How many cores a process may use: what it is bound to, who shares a core, and what its control groups allow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from spinn_stream.cli.options import MAX_THREADS, read_threads
from spinn_stream.errors import ConfigError
from spinn_stream.runtime.machine.cores import MOST_THREADS, default_threads, usable_cores


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")


def siblings(*pairs: tuple[int, ...]) -> dict[str, str]:
    """The files of processors that share a core."""
    name = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {name.format(n): ",".join(map(str, pair)) for pair in pairs for n in pair}


@pytest.fixture
def eight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)


@pytest.mark.usefixtures("eight")
@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        (siblings((0, 4), (1, 5), (2, 6), (3, 7)), 4),
        (siblings(*((n,) for n in range(8))), 8),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/b/cpu.max": "300000 100000"}, 3),
        ({"proc/self/cgroup": "0::/a/b", "sys/fs/cgroup/a/cpu.max": "150000 100000"}, 1),  # of the group above
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "max 100000"}, 8),
        ({"proc/self/cgroup": "0::/away", "sys/fs/cgroup/cpu.max": "200000 100000"}, 2),  # as a container sees it
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "50000 100000"}, 1),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "1600000 100000"}, 8),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/a\n3:cpuset:/\n0::/",
                "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "250000",
                "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        ({"proc/self/cgroup": "0::/a", "sys/fs/cgroup/a/cpu.max": "much 0"}, 8),
    ],
    ids=[
        "nothing known", "two threads a core", "one thread a core", "a quota", "a quota above", "no quota",
        "in a container", "half a processor", "more than there is", "version 1", "nonsense",
    ],
)  # fmt: skip
def test_cores_are_what_a_process_can_really_keep_busy(tmp_path: Path, files: dict[str, str], cores: int) -> None:
    write(tmp_path, files)
    assert usable_cores(tmp_path) == cores


def test_a_process_counts_the_cores_that_it_is_bound_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, siblings((0, 4), (1, 5), (2, 6), (3, 7)))
    for bound, cores in (({0, 4}, 1), ({0, 1, 4}, 2), ({3}, 1)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, bound=bound: bound, raising=False)
        assert usable_cores(tmp_path) == cores


def test_one_core_is_left_to_the_rest_and_more_than_a_few_gain_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    for cores in (1, 2, 3, 4, 5, 6, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, n=cores: set(range(n)), raising=False)
        threads.append(default_threads(tmp_path))
    assert threads == [1, 1, 2, 3, MOST_THREADS, MOST_THREADS, MOST_THREADS]


def test_this_machine_has_a_core() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert read_threads("auto") == default_threads() >= 1


def test_threads_are_a_number_or_auto() -> None:
    assert read_threads("3") == 3 and read_threads(str(MAX_THREADS)) == MAX_THREADS
    for text in ("0", "-1", "", "many", "1.5", "\u0663", str(MAX_THREADS + 1), "9" * 5000):
        with pytest.raises(ConfigError, match=f"expected a number from 1 to {MAX_THREADS}, or auto"):
            read_threads(text)
