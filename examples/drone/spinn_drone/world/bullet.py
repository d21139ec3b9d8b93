"""The drone's camera: PyBullet's software renderer draws the forest. No window, no GPU."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from spinn_drone.world.forest import Forest
from spinn_drone.world.looks import Looks
from spinn_stream.errors import SpinnError
from spinn_stream.frame import Pixels

PICTURE = 96
"""Side of the camera's picture in pixels."""

FIELD_OF_VIEW = 100.0
"""Of the camera, in degrees, across and down."""

HEIGHT_M = 1.5
"""The drone flies at this height."""

TREE_HEIGHT_M = 8.0

VISIBLE_M = 16.0
"""Mist: what is farther away is not drawn."""

JITTER_DEGREES = 2.0
"""Standard deviation of the stabilised camera's pitch and roll."""

SIDES = 10
"""Of a trunk."""


class BulletCamera:
    """Looks forward in a forest. `close` lets PyBullet go.

    Args:
        seed: of the camera's jitter and noise.
    """

    def __init__(self, forest: Forest, looks: Looks, *, seed: int) -> None:
        self._forest, self._looks = forest, looks
        self._rng = np.random.default_rng([seed, 2])
        self._bullet, self._client = _connected()
        self._bark = [self._texture(picture) for picture in looks.bark]
        self._ground = self._mesh(_ground(), self._texture(looks.ground), (0.0, 0.0))
        self._standing: dict[int, int] = {}  # index of a tree that may be seen -> its body
        self._projection = self._bullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, 1.0, 0.05, VISIBLE_M)

    def close(self) -> None:
        """Idempotent."""
        if self._bullet.isConnected(self._client):
            self._bullet.disconnect(physicsClientId=self._client)

    def picture(self, x: float, y: float) -> Pixels:
        """The picture from a place in metres: (PICTURE, PICTURE, 3) uint8 BGR."""
        self._show_near(x, y)
        pitch, roll = np.radians(self._rng.normal(0, JITTER_DEGREES, 2))
        view = self._bullet.computeViewMatrix(
            (x, y, HEIGHT_M), (x + math.cos(pitch), y, HEIGHT_M + math.sin(pitch)), (0, math.sin(roll), math.cos(roll))
        )
        image = self._bullet.getCameraImage(
            PICTURE, PICTURE, view, self._projection, shadow=0, lightDirection=self._looks.sun,
            lightAmbientCoeff=self._looks.ambient, lightDiffuseCoeff=self._looks.diffuse, lightSpecularCoeff=0.0,
            renderer=self._bullet.ER_TINY_RENDERER, flags=self._bullet.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            physicsClientId=self._client,
        )  # fmt: skip
        pixels = np.asarray(image[2], np.uint8).reshape(PICTURE, PICTURE, 4)[..., 2::-1].astype(np.float32)
        nothing = np.asarray(image[4], np.int32).reshape(PICTURE, PICTURE) < 0
        pixels[nothing] = self._looks.sky
        pixels *= self._looks.brightness
        pixels += self._rng.normal(0, self._looks.noise, pixels.shape)
        return np.clip(pixels, 0, 255).astype(np.uint8)

    def _show_near(self, x: float, y: float) -> None:
        """Add the trees that the camera may see and remove the others: each tree costs drawing time, wherever it is."""
        trees = self._forest.trees
        dx, dy = trees[:, 0] - x, trees[:, 1] - y
        edge = math.tan(math.radians(FIELD_OF_VIEW / 2))
        seen = (dx > -1) & (dx < VISIBLE_M + 1) & (np.abs(dy) < edge * np.maximum(dx, 0) + 2)
        wanted = set(np.flatnonzero(seen).tolist())
        for gone in self._standing.keys() - wanted:
            self._bullet.removeBody(self._standing.pop(gone), physicsClientId=self._client)
        for new in sorted(wanted - self._standing.keys()):
            tx, ty, radius = (float(v) for v in trees[new])
            self._standing[new] = self._mesh(_trunk(radius), self._bark[new % len(self._bark)], (tx, ty))
        self._bullet.resetBasePositionAndOrientation(
            self._ground, (x, y, 0), (0, 0, 0, 1), physicsClientId=self._client
        )

    def _texture(self, picture: Pixels) -> int:
        handle, name = tempfile.mkstemp(suffix=".png")
        os.close(handle)
        try:
            cv2.imwrite(name, picture[..., ::-1])
            return int(self._bullet.loadTexture(name, physicsClientId=self._client))
        finally:
            Path(name).unlink()

    def _mesh(self, mesh: dict[str, Any], texture: int, at: tuple[float, float]) -> int:
        shape = self._bullet.createVisualShape(self._bullet.GEOM_MESH, physicsClientId=self._client, **mesh)
        body = int(self._bullet.createMultiBody(0, -1, shape, (*at, 0.0), physicsClientId=self._client))
        self._bullet.changeVisualShape(body, -1, textureUniqueId=texture, physicsClientId=self._client)
        return body


def _connected() -> tuple[Any, int]:
    """PyBullet, and a connection without a window."""
    with _no_stderr():  # it says when it was built
        try:
            import pybullet
        except ImportError as error:
            raise SpinnError("the drone's world needs pybullet: pip install pybullet") from error
    return pybullet, pybullet.connect(pybullet.DIRECT)


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Discards what C code writes to standard error in the block."""
    before = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


def _trunk(radius: float) -> dict[str, Any]:
    """A prism from the ground up, with the texture once around it and some times along it."""
    vertices, normals, uvs, indices = [], [], [], []
    for k in range(SIDES + 1):
        angle = 2 * math.pi * k / SIDES
        side = (math.cos(angle), math.sin(angle))
        for z, v in ((0.0, 0.0), (TREE_HEIGHT_M, 3.0)):
            vertices.append([radius * side[0], radius * side[1], z])
            normals.append([*side, 0.0])
            uvs.append([2 * k / SIDES, v])
    for k in range(0, 2 * SIDES, 2):
        indices += [k, k + 2, k + 1, k + 1, k + 2, k + 3]
    return {"vertices": vertices, "indices": indices, "uvs": uvs, "normals": normals}


def _ground() -> dict[str, Any]:
    """A square around the drone, as far as one sees."""
    far, tiles = 1.5 * VISIBLE_M, 8.0
    corners = [[-1, -far, 0], [far, -far, 0], [far, far, 0], [-1, far, 0]]
    return {
        "vertices": corners, "indices": [0, 1, 2, 0, 2, 3], "normals": [[0, 0, 1]] * 4,
        "uvs": [[0, 0], [tiles, 0], [tiles, tiles], [0, tiles]],
    }  # fmt: skip
