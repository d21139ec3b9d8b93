"""The machine that runs are made on, and which of its cores each end gets."""

from __future__ import annotations

import importlib.metadata
import os
import platform

from spinn_stream.runtime.measure.store import processor

from .record import Machine


def cores_for_pinning() -> tuple[int, int] | None:
    """The client's core, and that of server and shaper; None: there are not two cores, or the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    free = sorted(os.sched_getaffinity(0))
    return (free[0], free[1]) if len(free) >= 2 else None


def this_machine(engine: str, cores: tuple[int, int] | None) -> Machine:
    return Machine(
        processor=processor(),
        cores=os.cpu_count() or 1,
        system=platform.system(),
        python=platform.python_version(),
        version=importlib.metadata.version("spinn-stream"),
        engine=engine,
        client_core=None if cores is None else cores[0],
        server_core=None if cores is None else cores[1],
    )
