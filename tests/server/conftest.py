"""What tests of the server share."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spinn_stream.bundle import Bundle
from spinn_stream.codec import cnn_co
from spinn_stream.runtime import Engine

from .worlds import SPLIT, World, Worlds, running_world


@pytest.fixture
def over_asgi() -> bool:
    """Whether the sessions of `world` come through an ASGI application."""
    return False


@pytest.fixture
def world(bundle: Bundle, engine: Engine, inputs: npt.NDArray[np.float32], over_asgi: bool) -> Worlds:
    """Makes a server that runs until the block ends, around the given engine (the real one by default)."""
    heads = engine.run(0, SPLIT, inputs, exit=False)[0].copy()
    payloads = [cnn_co.encode(head) for head in heads]

    def made(with_engine: Engine = engine, **more: Any) -> AbstractAsyncContextManager[World]:
        return running_world(bundle, with_engine, payloads, over_asgi=over_asgi, **more)

    return made
