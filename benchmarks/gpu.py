"""How many frames a second does the torch engine finish on a GPU, against one compiled network?

    python benchmarks/gpu.py [--json] [--device cuda] [--sizes 1,8,32,64] [--seconds 60]

`lite2-200` in float32, from arrays to arrays, all in turn, each in a process of its own:

    ours        the whole network through our interface, no exits, as CUDA graphs
    ours_tail   the tail from the middle
    compiled    the whole network as one module, by torch.compile(mode="reduce-overhead"), which takes CUDA graphs, too
    eager       the same module as it is

Figures are samples a second, from medians; ours_over_compiled is the median over the turns of the ratio. With `--device
cpu` it runs anywhere, but there ONNX Runtime is faster.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
from in_turn import Contestant, Maker, Run, turns
from lite2_200 import LITE2_200
from rich.console import Console
from rich.table import Table

from spinn_stream.bundle import load_bundle
from spinn_stream.runtime.measure.timing import StopRule
from spinn_stream.runtime.measure.worker import halfway

STREAK = 20


def inputs(cut: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((size, *load_bundle(LITE2_200).cut_points[cut].shape), np.float32)


def ours(device: str, size: int, *, tail: bool) -> Run:
    from spinn_stream.runtime.torch import TorchEngine

    bundle = load_bundle(LITE2_200)
    start = halfway(bundle) if tail else 0
    engine = TorchEngine(bundle, device=device)
    engine.prepare(start, bundle.last, exit=False, batches=True)
    return partial(engine.run, start, bundle.last, inputs(start, size), exit=False)


def module(device: str, size: int, *, compiled: bool) -> Run:
    """The bundle's network as torch runs it without our engine."""
    import torch

    from spinn_stream.runtime.graph.onnx_file import read_graph
    from spinn_stream.runtime.torch import TorchGraph

    bundle = load_bundle(LITE2_200)
    names = [cut.name for cut in bundle.cut_points]
    network = TorchGraph(read_graph(bundle), device=device).carve(names[0], names[-1])
    torch.backends.cudnn.allow_tf32 = False
    torch.set_num_threads(1)
    call = torch.compile(network, mode="reduce-overhead", dynamic=False) if compiled else network
    array = inputs(0, size)

    def run() -> object:
        with torch.inference_mode():
            x = torch.from_numpy(array).to(device).contiguous(memory_format=torch.channels_last)
            return call(x).cpu().numpy()

    return run


def case(device: str, size: int, rule: StopRule) -> dict[str, Any]:
    makers: dict[str, Maker] = {
        "ours": partial(ours, device, size, tail=False),
        "ours_tail": partial(ours, device, size, tail=True),
        "compiled": partial(module, device, size, compiled=True),
        "eager": partial(module, device, size, compiled=False),
    }
    with ExitStack() as stack:
        running = [stack.enter_context(Contestant(maker, warm_up=rule.warm_up)) for maker in makers.values()]
        streaks = dict(zip(makers, turns(running, rule, streak=STREAK, draw=random.Random(0)), strict=True))
    ms = {name: np.array([np.median(streak) for streak in found]) for name, found in streaks.items()}
    return {
        "batch": size,
        **{f"{name}_per_s": round(size / float(np.median(found)) * 1000, 1) for name, found in ms.items()},
        "ours_over_compiled": round(float(np.median(ms["compiled"] / ms["ours"])), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--device", default="cuda", help="as torch names it")
    parser.add_argument("--sizes", default="1,8,32,64", help="of batches")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all of it, without compiling")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    import torch

    on_gpu = args.device.startswith("cuda")
    if on_gpu and not torch.cuda.is_available():
        sys.exit("torch sees no CUDA device here; --device cpu runs the same on the processor")
    rule = StopRule(warm_up=5, least=40, spread=0.01, budget_s=args.seconds / len(sizes))
    device = torch.cuda.get_device_name(args.device) if on_gpu else args.device
    found = {"device": device, "torch": torch.__version__, "cases": [case(args.device, size, rule) for size in sizes]}
    if args.json:
        print(json.dumps(found))
        return
    table = Table(*found["cases"][0], title=f"samples a second on {device}")
    for row in found["cases"]:
        table.add_row(*(str(value) for value in row.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
