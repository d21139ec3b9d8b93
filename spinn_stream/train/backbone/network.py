"""A traced backbone with exit heads attached at some of its cut points: what is trained and exported."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from spinn_stream.errors import ConfigError
from spinn_stream.train.cut.counting import MultiplyAdds
from spinn_stream.train.cut.placement import fits_exit, place_exits
from spinn_stream.train.cut.tracing import FoundCut, Trace

from .exit_head import WHOLE_SIDE, ExitHead, halvings_for, head_width
from .rest_head import rest_head

DEFAULT_EXITS = 6


class EarlyExitNetwork(nn.Module):
    """Stages run one after the other; after some of them an exit head classifies the activation.

    Stage ``i`` leads from cut point ``i`` to cut point ``i + 1``; cut point 0 is the network's input, the last
    one the logits of the backbone's own classifier, the final exit.

    Args:
        cuts: the cut points, the input first.
        stages: one module less than cut points.
        heads: index of a cut point -> the head that classifies there.
    """

    origin = ""
    """Hash of the bundle that all its weights come from; see `from_bundle.BundleNetwork`."""

    is_classifier_new = True
    """Whether the final exit was never trained to these classes."""

    def __init__(self, cuts: Sequence[FoundCut], stages: Sequence[nn.Module], heads: dict[int, nn.Module]) -> None:
        super().__init__()
        if len(stages) != len(cuts) - 1 or any(not 0 < cut < len(cuts) - 1 for cut in heads):
            raise ValueError(f"got {len(cuts)} cut points, {len(stages)} stages, heads at {sorted(heads)}")
        self.cuts = tuple(cuts)
        self.exit_cuts = tuple(sorted(heads))
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleList(heads[cut] for cut in self.exit_cuts)

    def forward(self, x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Logits of every exit and of the final exit.

        Args:
            x: normalised images, (B, C, H, W).

        Returns:
            One (B, num_classes) tensor per exit, shallow to deep, and the final one.
        """
        logits: list[torch.Tensor] = []
        for cut, stage in enumerate(self.stages, 1):
            x = stage(x)
            if cut in self.exit_cuts:
                logits.append(self.heads[len(logits)](x))
        return logits, x

    @property
    def exit_names(self) -> list[str]:
        """Cut points of the early exits, shallow to deep."""
        return [self.cuts[cut].name for cut in self.exit_cuts]

    def freeze(self, through: int) -> None:
        """Freeze everything up to this cut point: no gradients, and batch norm stays as it is."""
        for stage in self.stages[:through]:
            stage.requires_grad_(False)
            stage.eval()

    @property
    def head_macs(self) -> tuple[int, ...]:
        """Multiply-adds of each head, shallow to deep."""
        counts = []
        for cut, head in zip(self.exit_cuts, self.heads, strict=True):
            training = head.training
            with torch.no_grad(), MultiplyAdds() as counter:
                head.eval()(torch.zeros(1, *self.cuts[cut].shape))
            head.train(training)
            counts.append(counter.macs)
        return tuple(counts)


def attach_exits(
    trace: Trace,
    num_classes: int,
    *,
    count: int | None = None,
    places: Sequence[str] | None = None,
    keep_head: bool = False,
) -> EarlyExitNetwork:
    """Give a traced backbone untrained exit heads.

    Args:
        count: number of exits, at equal distances from 15 to 90 % of the multiply-adds; None: six, or fewer if the
            network has fewer places. Not used with `places`.
        places: names of the cut points instead.
        keep_head: the backbone is trained to these classes already. Heads are then the rest of it, shortened (see
            `rest_head`), if it can be shortened.

    Raises:
        ConfigError: no such cut points, too few of them, or a head fits none of them.
    """
    cuts = trace.cuts
    index = {cut.name: i for i, cut in enumerate(cuts)}
    fits = [c.name for c in cuts[1:-1] if fits_exit(c.shape)]
    if count is None:
        count = max(1, min(DEFAULT_EXITS, len(fits)))
    names = list(place_exits(cuts, count) if places is None else places)
    wrong = [name for name in names if name not in fits]
    if wrong or len(set(names)) != len(names):
        raise ConfigError(f"exits at {', '.join(names)}: expected different ones of {', '.join(fits)}")
    sides = {cut.name: min(cut.shape[1:]) for cut in cuts[1:-1] if cut.name in fits}
    largest = max((-(-side // 2 ** halvings_for(side)) for side in sides.values()), default=1)
    width = head_width(cuts[-1].macs, largest)
    heads: dict[int, nn.Module] = {}
    for name in names:
        channels = cuts[index[name]].shape[0]
        rest = rest_head(trace, index[name]) if keep_head else None
        heads[index[name]] = rest or ExitHead(
            channels, width=width if sides[name] > WHOLE_SIDE else 0, halvings=halvings_for(sides[name]),
            num_classes=num_classes,
        )  # fmt: skip
    network = EarlyExitNetwork(cuts, trace.stages, heads)
    network.is_classifier_new = not keep_head
    return network
