"""What do decoders do with damaged payloads? Each one must decode or refuse; anything else is a fault.

    python benchmarks/fuzz_codec.py [--inputs 1000000] [--seed 0] [--json]

Payloads of every codec and kind (key frames and changes, both entropy coders) at the cut points below are cut, flipped,
spliced, lengthened and given other heads, or are random bytes from the start, and go to the receiver that a server has
for one client. A fault is an exception that is no CodecError, an activation of another shape or with values that are
not finite, more than a second of CPU time, or more memory than said below. Input N of a seed is always the same bytes.
Exit code 1: there was a fault.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import resource
import sys
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import Bundle, load_bundle
from spinn_stream.codec import JPEG, PNG, PayloadReceiver, cnn_co, entropy, jpeg, png, transform
from spinn_stream.codec.basis import basis_of
from spinn_stream.errors import CodecError, ReferenceMissing
from spinn_stream.frame import Pixels, crop, normalise
from spinn_stream.runtime import Engine, open_engine

SHARES = {"final.4": 36, "block16": 36, "block7": 12, "input": 12, "block4": 3, "stem": 1}
"""Cut point -> share of the inputs in %; "final.4" is a vector, "stem" the largest."""

SLOWEST_S = 1.0  # CPU time of one input
HANGS_S = 60.0  # of the wall's, of EVERY inputs: a traceback, and the end
EVERY = 1000
MEMORY_EVERY = 50  # one input in this number has its allocations counted
MEMORY_FACTOR = 16  # times the activation as float32
MEMORY_FIXED = 1 << 20
MOST_GROWTH_MB = 64.0  # of the process, after the first EVERY inputs
PRIMED_EVERY = 40  # inputs of a cut point, after which its receiver begins anew
FAULTS_TOLD = 20


@dataclass
class Target:
    """One cut point: its receiver, and good payloads to damage."""

    name: str
    cut: int
    elements: int
    shape: tuple[int, ...]
    receiver: PayloadReceiver
    prime: bytes | None  # what the changes among the payloads refer to, as request 0
    payloads: list[tuple[str, bytes]]  # codec, payload
    used: int = 0

    def next_receiver(self) -> PayloadReceiver:
        if self.prime is not None and self.used % PRIMED_EVERY == 0:
            self.receiver.clear()
            self.receiver.decode(0, self.cut, transform.NAME, self.prime)
        self.used += 1
        return self.receiver


@dataclass
class Found:
    """The results of the inputs."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    slowest_ms: dict[str, float] = field(default_factory=dict)
    memory_share: float = 0.0  # most that an input took of what it may
    faults: list[dict[str, Any]] = field(default_factory=list)


def pictures(size: int) -> list[Pixels]:
    """A picture of soft shapes, and the same a moment later: one corner is another."""
    rng = np.random.default_rng(5)
    first = np.asarray(cv2.resize(rng.integers(0, 256, (9, 9, 3), np.uint8), (300, 300)), np.uint8)
    then = first.copy()
    then[:80, :80] = rng.integers(0, 256, (80, 80, 3), np.uint8)
    return [crop(p, size) for p in (first, then)]


def targets(bundle: Bundle, engine: Engine) -> list[Target]:
    shown = pictures(bundle.input.size)
    x = np.concatenate([normalise(p, bundle.input) for p in shown])
    made = []
    for name in SHARES:
        cut = bundle.split_index(name)
        shape = bundle.cut_points[cut].shape
        payloads: list[tuple[str, bytes]] = []
        prime = None
        if cut == 0:
            payloads += [(JPEG, jpeg.encode(p, quality)) for p in shown for quality in (10, 50, 85, 100)]
            payloads += [(PNG, png.encode(p)) for p in shown]
        else:
            before, now = engine.run(0, cut, x, exit=False)[0].copy()
            payloads += [(cnn_co.NAME, cnn_co.encode(now, bits)) for bits in (2, 4, 8)]
            basis = basis_of(bundle, cut)
            prime, held = transform.encode_key(basis, 7, before)
            for coder in entropy.available():
                for bits in (transform.BITS[0], 6, 8, transform.BITS[-1]):
                    payloads.append((transform.NAME, transform.encode_key(basis, bits, now, coder)[0]))
                    change = transform.encode(basis, bits, now, (0, held), coder, key_bytes=1 << 30)[0]
                    payloads.append((transform.NAME, change))
        elements = bundle.cut_points[cut].elements
        made.append(Target(name, cut, elements, (1, *shape), PayloadReceiver(bundle), prime, payloads))
    return made


def damaged(rng: random.Random, target: Target) -> tuple[str, bytes]:
    """One input: a codec's name and what is said to be its payload."""
    codec, good = rng.choice(target.payloads)
    how = rng.choices(range(len(WAYS)), WEIGHTS)[0]
    data = WAYS[how](rng, good, target)
    if rng.random() < 0.1:  # a second time
        data = WAYS[rng.choices(range(len(WAYS)), WEIGHTS)[0]](rng, data or b"\0", target)
    if codec == PNG and rng.random() < 0.7:
        data = with_checksums(data)
    if rng.random() < 0.03:
        codec = rng.choice(target.payloads)[0]
    return codec, data


def with_checksums(payload: bytes) -> bytes:
    """Right again, so that a decoder looks at what is damaged."""
    data, at = bytearray(payload), 8
    while at + 12 <= len(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(data)


def _noise(rng: random.Random, good: bytes, target: Target) -> bytes:
    """Random bytes, often behind the head that the codec has."""
    return good[: rng.choice((0, 0, 1, 2, 10, 18, 33))] + rng.randbytes(rng.choice((0, 1, 9, 30, 300, len(good))))


def _cut(rng: random.Random, good: bytes, target: Target) -> bytes:
    return good[: rng.randrange(len(good))]


def _flip(rng: random.Random, good: bytes, target: Target) -> bytes:
    data = bytearray(good)
    for _ in range(rng.choice((1, 1, 2, 8))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def _splice(rng: random.Random, good: bytes, target: Target) -> bytes:
    _, other = rng.choice(target.payloads)
    return good[: rng.randrange(len(good))] + other[rng.randrange(len(other)) :]


def _head(rng: random.Random, good: bytes, target: Target) -> bytes:
    """Other bytes among the first ones: kind, bits, reference, tables, range, or a picture's announcements."""
    data = bytearray(good)
    reach = min(len(data), rng.choice((2, 10, 18, 40, 700)))
    for _ in range(rng.choice((1, 2, 4))):
        data[rng.randrange(reach)] = rng.choice((0, 1, 2, 16, 17, 0x7F, 0x80, 0xC0, 0xD8, 0xFF, rng.randrange(256)))
    return bytes(data)


def _insert(rng: random.Random, good: bytes, target: Target) -> bytes:
    at = rng.randrange(min(len(good), rng.choice((20, 200, 1 << 20))))
    return good[:at] + rng.choice((rng.randbytes(rng.randint(1, 12)), b"\xff\x01", b"\xff\xff", bytes(8))) + good[at:]


def _longer(rng: random.Random, good: bytes, target: Target) -> bytes:
    return good + rng.randbytes(rng.choice((1, 4, 100))) * rng.choice((1, 1, 1 + 2 * target.elements // 100))


def _as_it_is(rng: random.Random, good: bytes, target: Target) -> bytes:
    return good


WAYS: list[Callable[[random.Random, bytes, Target], bytes]] = [
    _noise, _cut, _flip, _splice, _head, _insert, _longer, _as_it_is
]  # fmt: skip
WEIGHTS = (20, 15, 20, 12, 20, 8, 3, 2)


def fuzz(made: list[Target], inputs: int, seed: int, progress: Callable[[int], None]) -> Found:
    found = Found()
    shares = [SHARES[t.name] for t in made]
    for number in range(inputs):
        if number % EVERY == 0:
            faulthandler.dump_traceback_later(HANGS_S, exit=True, file=sys.__stdout__)
            progress(number)
        rng = random.Random(seed << 40 | number)
        target = rng.choices(made, shares)[0]
        codec, data = damaged(rng, target)
        receiver = target.next_receiver()
        counted = number % MEMORY_EVERY == 0
        if counted:
            tracemalloc.start()
        began = time.process_time()
        outcome, what = attempt(receiver, number + 1, target, codec, data)
        took = time.process_time() - began
        if counted:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            share = peak / (MEMORY_FACTOR * 4 * target.elements + MEMORY_FIXED)
            found.memory_share = max(found.memory_share, share)
            if share > 1:
                outcome, what = "fault", f"{peak} bytes allocated"
        found.slowest_ms[codec] = max(found.slowest_ms.get(codec, 0.0), took * 1000)
        if took > SLOWEST_S:
            outcome, what = "fault", f"{took:.1f} s of CPU time"
        found.counts.setdefault(codec, Counter())[outcome] += 1
        if outcome == "fault" and len(found.faults) < FAULTS_TOLD:
            found.faults.append(
                {"seed": seed, "input": number, "cut_point": target.name, "codec": codec, "what": what,
                 "bytes": data.hex()}
            )  # fmt: skip
    faulthandler.cancel_dump_traceback_later()
    return found


def attempt(receiver: PayloadReceiver, request: int, target: Target, codec: str, data: bytes) -> tuple[str, str]:
    """What came of it, and what was wrong with that."""
    try:
        activation = receiver.decode(request, target.cut, codec, data)
    except ReferenceMissing:
        return "reference missing", ""
    except CodecError:
        return "refused", ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in native code is one
        return "fault", f"{type(error).__name__}: {error}"
    if activation.shape != target.shape or activation.dtype != np.float32 or not np.isfinite(activation).all():
        return "fault", f"{activation.dtype} {activation.shape}, or not finite"
    return "decoded", ""


@contextmanager
def native_libraries_silenced() -> Iterator[None]:
    """libjpeg and libpng write what they think of an input to the standard error output."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(inputs: int, seed: int) -> dict[str, Any]:
    cv2.setNumThreads(1)
    bundle = load_bundle(Path(__file__).parent / "bundles" / "lite2-200")
    made = targets(bundle, open_engine(bundle, "onnxruntime"))
    before: list[float] = []

    def progress(number: int) -> None:
        if number == EVERY:
            before.append(resident_mb())

    began = time.perf_counter()
    with native_libraries_silenced():
        found = fuzz(made, inputs, seed, progress)
    took = time.perf_counter() - began
    growth = resident_mb() - before[0] if before else 0.0
    if growth > MOST_GROWTH_MB:
        found.faults.append({"what": f"the process grew by {growth:.0f} MB"})
    return {
        "inputs": inputs,
        "seed": seed,
        "inputs_per_second": round(inputs / took),
        "outcomes": {codec: dict(sorted(counts.items())) for codec, counts in sorted(found.counts.items())},
        "slowest_cpu_ms": {codec: round(ms, 1) for codec, ms in sorted(found.slowest_ms.items())},
        "most_allocated_of_allowed": round(found.memory_share, 3),
        "grown_mb": round(growth, 1),
        "shares_percent": SHARES,
        "faults": found.faults,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    result = measure(args.inputs, args.seed)
    if args.json:
        print(json.dumps(result))
    else:
        table = Table("codec", "decoded", "refused", "reference missing", "fault", "slowest, ms of CPU", box=None)
        for codec, counts in result["outcomes"].items():
            kinds = ("decoded", "refused", "reference missing", "fault")
            table.add_row(codec, *(str(counts.get(k, 0)) for k in kinds), str(result["slowest_cpu_ms"].get(codec)))
        Console().print(table)
        for fault in result["faults"]:
            print(fault)
        print(f"{result['inputs_per_second']} inputs a second; the process grew by {result['grown_mb']} MB")
    sys.exit(1 if result["faults"] else 0)


if __name__ == "__main__":
    main()
