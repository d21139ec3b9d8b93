"""What tests of several rooms use."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before numpy and torch are there: threads of several test processes wait for each other, and spin meanwhile. A small
# network is trained five times as fast by one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from spinn_client.sources.base import pixels_of
from spinn_client.sources.demo import DemoSource
from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.frame import crop, normalise
from spinn_stream.profile import Profile
from spinn_stream.runtime import Engine, open_engine, stored_profile

from .bundles import DEFAULT, LITE2_200
from .processes import ServerProcess, server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background by a script
    signal.signal(signal.SIGINT, signal.default_int_handler)
"""Programs under test are interrupted as by Ctrl-C; they would inherit that it is ignored."""

if "PYTEST_XDIST_WORKER" not in os.environ:  # workers have it from the process that starts them
    if "SPINN_TESTS_CACHE" in os.environ:  # of `make test`, for both of its halves
        os.environ["XDG_CACHE_HOME"] = os.environ["SPINN_TESTS_CACHE"]
    else:
        os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="spinn-tests-")
        atexit.register(shutil.rmtree, os.environ["XDG_CACHE_HOME"], ignore_errors=True)
"""What tests measure while others run is kept away from the user's own figures; every process of the run has it."""

LONGEST = ("webcam/test_browser.py", "faults/test_network.py", "end_to_end/test_readme.py", "faults/test_servers.py")
"""Files that take longest. They come first, so that none of them is what one of two processes is left with."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, the others in their order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


SHARED = Path(__file__).parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of clips and images; tests that need it skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED


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
def short_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of the demo's first three seconds, for programs that play their source to its end."""
    path = tmp_path_factory.mktemp("clips") / "demo.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (640, 480))
    for picture in itertools.islice(pixels_of(DemoSource()), 90):
        writer.write(picture)
    writer.release()
    return path


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
