"""Measurements of this machine, kept in the user's cache folder, and a lock so that one process measures at a time."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from .timing import Stop, check, never

if sys.platform != "win32":
    import fcntl

log = logging.getLogger(__name__)

ASK_EVERY_S = 0.1
"""Time between two looks whether the other process is done."""

MOST_WAIT_S = 300.0
"""If a process measures for longer, it hangs or is suspended, and others stop waiting for it."""


def processor() -> str:
    """The processor's name, as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine() -> dict[str, Any]:
    """What a measurement depends on besides the bundle and the engine."""
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _folder() -> Path:
    """Raises RuntimeError: the user has no home folder."""
    from platformdirs import user_cache_path  # loaded late: it takes 17 ms, and not every process measures

    return user_cache_path("spinn-stream")


def _path(kind: str, key: dict[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return _folder() / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def load(kind: str, key: dict[str, Any]) -> Any:
    """The value kept under this key; None: missing, unreadable or damaged."""
    try:
        found = json.loads(_path(kind, key).read_text())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return None
    return found["value"] if isinstance(found, dict) and found.get("key") == key and "value" in found else None


def save(kind: str, key: dict[str, Any], value: Any) -> None:
    """Keep a value, whole or not at all. If it cannot be written, it is measured again next time."""
    try:
        path = _path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps({"key": key, "value": value}, indent=1))
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        log.info("cannot keep measurements: %s", error)


@contextmanager
def alone(say: Callable[[str], object], stop: Stop = never) -> Iterator[None]:
    """Measure inside this block: no other process of the user measures then, so none measures the other's load.

    Inside, look again for a kept result: the other process may have measured the same. The system releases the lock
    when its process ends in any way. If there is no folder for the lock, or there are no locks, nothing is waited for.

    Args:
        say: gets a line if there is something to wait for.

    Raises:
        Interrupted: `stop` said so while it waited.
    """
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        file = (_folder() / "measuring.lock").open("a")
    except (OSError, RuntimeError) as error:
        log.info("measuring without a lock: %s", error)
        yield
        return
    with file:
        if not _locked(file):
            say("another process is measuring this machine; waiting for it ...")
            give_up = time.monotonic() + MOST_WAIT_S
            while not _locked(file):
                check(stop)
                if time.monotonic() > give_up:
                    say(f"it has not ended for {MOST_WAIT_S:g} s; measuring beside it")
                    break
                time.sleep(ASK_EVERY_S)
        yield


def _locked(file: IO[str]) -> bool:
    """Whether we have the lock, or this system or disk has no locks."""
    if sys.platform != "win32":
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            log.info("measuring without a lock: %s", error)
    return True
