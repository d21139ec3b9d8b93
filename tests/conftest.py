"""What tests of several rooms use."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

# As `spinn` sets it, before numpy is there: the threads of two test processes on two cores wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, stored_profile

from .bundles import DEFAULT, LITE2_200
from .processes import ServerProcess, server

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have it from the process that starts them
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="spinn-tests-")
    atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
"""What tests measure while others run is kept away from the user's own figures; every process of the run has it."""

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
"""torch's threads that wait for each other spin; two trainings at once on two cores then take three times as long."""

SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips and images; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED


@pytest.fixture(scope="module")
def one_torch_thread() -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return load_bundle(LITE2_200)


@pytest.fixture(scope="session")
def engine(bundle: Bundle) -> Engine:
    return open_engine(bundle, "onnxruntime")


@pytest.fixture(scope="session")
def profile(bundle: Bundle, engine: Engine) -> Profile:
    return stored_profile(bundle, engine, threads=1)


@pytest.fixture(scope="session")
def serving() -> Iterator[ServerProcess]:
    """`spinn serve` with the small bundle, for all tests that change nothing of it."""
    with server() as running:
        yield running


@pytest.fixture(scope="session")
def serving_default() -> Iterator[ServerProcess]:
    """The same with the bundle that a user has by default."""
    with server(*DEFAULT) as running:
        yield running


@pytest.fixture(scope="session")
def photographs() -> list[npt.NDArray[np.uint8]]:
    """Photographs that scikit-image ships, (H, W, 3) BGR."""
    from skimage import data

    names = ("chelsea", "coffee", "rocket", "astronaut")
    return [cv2.cvtColor(np.asarray(getattr(data, name)(), np.uint8), cv2.COLOR_RGB2BGR) for name in names]


@pytest.fixture(scope="session")
def inputs(bundle: Bundle, photographs: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float32]:
    """The photographs as the network sees them, (4, 3, size, size)."""
    return np.concatenate([normalise(crop(p, bundle.input.size), bundle.input) for p in photographs])
