"""An exit that is the rest of the backbone, without the blocks that can be left out."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn
from torch.fx import GraphModule
from torch.fx.experimental.optimization import fuse

from spinn_stream.train.cut.tracing import Trace


def rest_head(trace: Trace, cut: int) -> nn.Module | None:
    """Copies of the stages behind a cut point, without those whose output has the shape of their input.

    Such a stage only adds to its input (He et al. 2016), and a trained network is still good without it (Veit et al.
    2016; docs/decisions/0026-model-of-1000-classes.md). Batch norm is folded into the convolutions, as in a bundle,
    since the few images that the copies learn from would spoil its statistics.

    Returns:
        None: no stage can be left out, so a head would cost as much as the backbone itself.
    """
    kept = [i for i in range(cut, len(trace.stages)) if trace.cuts[i].shape != trace.cuts[i + 1].shape]
    if len(kept) == len(trace.stages) - cut:
        return None
    return nn.Sequential(*_folded([trace.stages[i] for i in kept]))


def _folded(stages: Sequence[nn.Module]) -> list[nn.Module]:
    """Copies to be trained, with batch norm folded into what is before it."""
    copies = [copy.deepcopy(stage).eval() for stage in stages]
    folded: list[nn.Module] = [fuse(one) if isinstance(one, GraphModule) else one for one in copies]
    for one in folded:
        one.requires_grad_(True)
    return folded
