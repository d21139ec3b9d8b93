"""The default number of an engine's threads: see docs/decisions/0022-threads.md."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path

MOST_THREADS = 4
"""Each further thread gains less for one frame, since a layer takes only a tenth of a millisecond."""

ROOT = Path("/")


def default_threads(root: Path = ROOT) -> int:
    """All cores but one, which is for the camera, the codec and the event loop; at least 1, at most MOST_THREADS."""
    return max(1, min(usable_cores(root) - 1, MOST_THREADS))


def usable_cores(root: Path = ROOT) -> int:
    """Cores that this process may use: physical ones that it is bound to, within its container's limit.

    Args:
        root: where /proc and /sys are looked for.
    """
    if hasattr(os, "sched_getaffinity"):
        processors: Collection[int] = os.sched_getaffinity(0)
    else:
        processors = range(os.cpu_count() or 1)
    return max(1, int(min(len(_cores(processors, root)), _quota(root))))


def _cores(processors: Collection[int], root: Path) -> set[str]:
    """A name for each core. Processors that share a core count once: together they run a network no faster."""
    topology = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {_read(root / topology.format(n)) or str(n) for n in processors}


def _quota(root: Path) -> float:
    """Processor time that this process's control groups allow, in processors; inf: no limit."""
    least = math.inf
    for folder in _groups(root):
        quota, _, period = _read(folder / "cpu.max").partition(" ")  # version 2: both in one file
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):  # otherwise "max" or -1
            least = min(least, int(quota) / int(period))
    return least


def _groups(root: Path) -> Iterator[Path]:
    """Folders of this process's control groups that may limit its time, each with all above it.

    In a container, its own group may be mounted as the root. Missing folders are harmless.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        group = mount / path.lstrip("/")
        yield from (folder for folder in (group, *group.parents) if folder.is_relative_to(mount))


def _read(path: Path) -> str:
    """A file's text, stripped; empty if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
