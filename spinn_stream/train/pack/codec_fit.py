"""Fits the basis in which activations at each cut point are coded (see `codec.basis`).

Let x be the C channels at one place, S their covariance on images, and W the Fisher information of the network's
answer about them: E[g g'], g the gradient of the log-probability of a class drawn from the answer itself (Martens
2020, arXiv 1412.1193, section 5). A small error e costs the answer e'We/2 nats of divergence on average. So errors are
made equal in the decorrelated components of W^(1/2) x: R = W^(1/2), P the eigenvectors of R S R, z = P'R x. The unit of
the grid is found by trials: with `TARGET_BITS`, key frames make the answer diverge by `TARGET_NATS` on average.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from spinn_stream.bundle import Bundle
from spinn_stream.codec import transform
from spinn_stream.codec.basis import Basis, as_arrays, block_side, cosine_matrix, from_arrays
from spinn_stream.runtime.engines.base import Engine
from spinn_stream.train.backbone.from_bundle import BundleNetwork

from .calibration import Pixels, batches

TARGET_BITS = 6
TARGET_NATS = 0.04
"""About 0.3 points of accuracy with the default bundle; docs/decisions/0013-transform-codec.md"""

LEAST_WEIGHT = 0.03
"""Share of the mean eigenvalue of W that is added to each: a camera may use directions that training images do not."""

MOST_CHANNELS = 512
"""Wider activations are only scaled by channel: a matrix would be larger than the bytes it saves."""

MOST_IMAGES = 1000
UNIT_IMAGES = 300
"""Images that the unit is tried on: of those that the basis is fitted to."""

UNIT_STEPS = 7  # halvings of the interval: to 2 %
FIRST_UNIT = 0.02  # of the components' root mean square
UNIT_FACTOR = 16.0  # the search goes from this factor below to this factor above

Floats64 = npt.NDArray[np.float64]


def fit_bases(
    bundle: Bundle, engine: Engine, pixels: Pixels, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[int, Basis]:
    """A basis for every cut point that activations are sent from: all but the input and the last one.

    Args:
        pixels: (N, H, W, 3) uint8, RGB; at most MOST_IMAGES are looked at.

    Raises:
        ConfigError: torch cannot run the bundle's graph.
    """
    pixels = pixels[:MOST_IMAGES]
    moments = _moments(bundle, pixels)
    inputs = np.concatenate(list(batches(bundle, pixels[:UNIT_IMAGES])))
    answer = _tail(bundle, engine, 0, inputs)
    bases: dict[int, Basis] = {}
    x = inputs
    for cut in range(1, bundle.last):
        x = np.concatenate([engine.run(cut - 1, cut, part, exit=False)[0].copy() for part in _parts(x)])
        bases[cut] = _with_unit(
            bundle, engine, cut, _shape_of(*moments[cut], bundle.cut_points[cut].shape, x), x, answer
        )
        progress(cut, bundle.last - 1)
    return bases


def _moments(bundle: Bundle, pixels: Pixels) -> dict[int, tuple[Floats64, Floats64, Floats64]]:
    """(mean, covariance, Fisher information) of the channels at each cut point, over images and places."""
    network = BundleNetwork(bundle).eval()
    network.requires_grad_(False)
    torch.manual_seed(0)
    sums: dict[int, list[Floats64]] = {}
    places: dict[int, int] = {}
    for x in batches(bundle, pixels):
        y = torch.from_numpy(x).requires_grad_(True)
        seen: dict[int, torch.Tensor] = {}
        for cut, stage in enumerate(network.stages, 1):
            y = stage(y)
            if cut < bundle.last:
                seen[cut] = y
        logs = y.log_softmax(1)
        drawn = torch.multinomial(logs.detach().exp(), 1)[:, 0]
        gradients = torch.autograd.grad(logs.gather(1, drawn[:, None]).sum(), list(seen.values()))
        for (cut, activation), gradient in zip(seen.items(), gradients, strict=True):
            a, g = _channels_first(activation.detach()), _channels_first(gradient)  # (C, places)
            wide = len(a) > MOST_CHANNELS
            new = [a.sum(1), (a * a).sum(1) if wide else a @ a.T, (g * g).sum(1) if wide else g @ g.T]
            kept = sums.setdefault(cut, [np.zeros(n.shape) for n in new])
            for i, n in enumerate(new):
                kept[i] += n.double().numpy()
            places[cut] = places.get(cut, 0) + a.shape[1]
    moments = {}
    for cut, (total, products, fisher) in sums.items():
        count = places[cut]
        mean = total / count
        shift = mean * mean if products.ndim == 1 else np.outer(mean, mean)
        moments[cut] = (mean, products / count - shift, fisher / count)
    return moments


def _channels_first(x: torch.Tensor) -> torch.Tensor:
    """(B, C, ...) -> (C, B x places)."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def _shape_of(
    mean: Floats64, covariance: Floats64, fisher: Floats64, shape: tuple[int, ...], x: npt.NDArray[np.float32]
) -> Basis:
    """The basis up to its unit, which is a guess."""
    if covariance.ndim == 1:
        forward = np.sqrt(fisher + LEAST_WEIGHT * fisher.mean())
        energy = forward**2 * covariance
    else:
        weights, axes = np.linalg.eigh(fisher)
        weights = np.maximum(weights, 0) + LEAST_WEIGHT * max(weights.mean(), 1e-30)
        root = (axes * np.sqrt(weights)) @ axes.T
        energy, vectors = np.linalg.eigh(root @ covariance @ root)
        energy, forward = energy[::-1], vectors[:, ::-1].T @ root
    energy = np.maximum(energy, 1e-12 * max(energy.max(), 1e-30))
    forward = forward / (FIRST_UNIT * np.sqrt(energy.mean()))
    channels, height, width = shape if len(shape) == 3 else (shape[0], 1, 1)
    side = block_side(height, width)
    basis = _basis((channels, height, width), mean, forward, energy, np.ones((side, side)))
    if side == 1:
        return basis
    cosines = cosine_matrix(side)
    total = np.zeros(side * side)
    for one in x[:50]:
        total += ((basis.blocks(basis.to_grid(one)) @ cosines.T) ** 2).sum(axis=0)
    return _basis(basis.shape, mean, forward, energy, (total / total.mean()).reshape(side, side))


def _basis(
    shape: tuple[int, int, int], mean: Floats64, forward: Floats64, energy: Floats64, frequency: Floats64
) -> Basis:
    """A basis as a bundle holds it: rounded to half precision, and then inverted."""
    ones = np.ones(shape[0], np.float32)
    rough = Basis(
        shape, mean.astype(np.float32), forward.astype(np.float32), forward.astype(np.float32), ones,
        frequency.astype(np.float32),
    )  # fmt: skip
    stored = as_arrays({0: rough}) | {"0/component": energy.astype(np.float32)}
    return from_arrays(stored, 0, shape if shape[1:] != (1, 1) else shape[:1])


def _with_unit(
    bundle: Bundle, engine: Engine, cut: int, guess: Basis, x: npt.NDArray[np.float32], answer: npt.NDArray[np.float32]
) -> Basis:
    """The coarsest grid on which answers diverge by at most the target."""
    low, high = 1 / UNIT_FACTOR, UNIT_FACTOR
    best = _scaled(guess, high)  # finest
    for _ in range(UNIT_STEPS):
        middle = float(np.sqrt(low * high))
        basis = _scaled(guess, middle)
        coded = np.stack([basis.from_grid(transform.encode_key(basis, TARGET_BITS, one)[1]) for one in x])
        logits = _tail(bundle, engine, cut, coded.reshape(len(x), *bundle.cut_points[cut].shape))
        if _divergence(answer, logits) <= TARGET_NATS:
            best, high = basis, middle
        else:
            low = middle
    return best


def _scaled(basis: Basis, factor: float) -> Basis:
    """A grid that is finer by this factor."""
    forward, backward = basis.forward * np.float32(factor), basis.backward / np.float32(factor)
    return Basis(basis.shape, basis.mean, forward, backward, basis.component, basis.frequency)


def _tail(bundle: Bundle, engine: Engine, cut: int, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(N, classes) logits of the final exit."""
    return np.concatenate([engine.run(cut, bundle.last, part, exit=False)[0].copy() for part in _parts(x)])


def _parts(x: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    return [x[i : i + 50] for i in range(0, len(x), 50)]


def _divergence(answer: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Mean Kullback-Leibler divergence of the answers in nats."""
    p, q = _log_softmax(answer), _log_softmax(other)
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def _log_softmax(logits: npt.NDArray[np.float32]) -> Floats64:
    x = logits.astype(np.float64)
    x -= x.max(axis=1, keepdims=True)
    x -= np.log(np.exp(x).sum(axis=1, keepdims=True))
    return x
