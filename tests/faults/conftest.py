"""The matrix of faults in virtual time."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Engine
from spinn_traces.simulator import MemoEngine

from .matrix import Matrix


@pytest.fixture(scope="session")
def matrix(bundle: Bundle, engine: Engine, photographs: list[npt.NDArray[np.uint8]]) -> Matrix:
    return Matrix(bundle, MemoEngine(engine), photographs)
