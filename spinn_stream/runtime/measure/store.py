"""What was measured on this machine, kept between runs in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

log = logging.getLogger(__name__)


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


def _path(kind: str, key: dict[str, Any]) -> Path:
    text = json.dumps(key, sort_keys=True)
    return user_cache_path("spinn-stream") / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def load(kind: str, key: dict[str, Any]) -> Any:
    """What was kept under this key, or None: never there, unreadable or damaged."""
    try:
        found = json.loads(_path(kind, key).read_text())
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no home folder
        return None
    return found["value"] if isinstance(found, dict) and found.get("key") == key and "value" in found else None


def save(kind: str, key: dict[str, Any], value: Any) -> None:
    """Keep it, whole or not at all. Where nothing can be written, it is measured again next time."""
    try:
        path = _path(kind, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps({"key": key, "value": value}, indent=1))
        partial.replace(path)
    except (OSError, RuntimeError) as error:
        log.info("cannot keep measurements: %s", error)
