"""The matrix of faults: in virtual time, and what real processes are measured against."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.runtime import Engine
from spinn_traces.simulator import MemoEngine

from ..processes import ClientProcess
from .matrix import Matrix
from .real import Scene


@pytest.fixture(autouse=True)
def no_client_is_left_behind() -> Iterator[None]:
    yield
    ClientProcess.kill_all()


@pytest.fixture(scope="session")
def matrix(bundle: Bundle, engine: Engine, photographs: list[npt.NDArray[np.uint8]]) -> Matrix:
    return Matrix(bundle, MemoEngine(engine), photographs)


@pytest.fixture(scope="session")
def scene(matrix: Matrix, photographs: list[npt.NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return Scene(matrix.right, photographs, tmp_path_factory.mktemp("scene"))
