"""Cut points, found by themselves, in twelve networks of five kinds and in some that cannot be cut."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from spinn_stream.errors import ConfigError, TracingError
from spinn_stream.train.backbone.backbones import efficientnet_lite
from spinn_stream.train.cut.tracing import Trace, trace_backbone

from .zoo import CLASSES, ZOO, Oddities, ResNet, Tutorial, build


@pytest.fixture(scope="module")
def traces() -> dict[str, tuple[nn.Module, Trace]]:
    found = {}
    for name, specimen in ZOO.items():
        network = build(name).eval()
        found[name] = network, trace_backbone(network, (3, specimen.side, specimen.side))
    return found


def run(stages: Any, x: torch.Tensor) -> torch.Tensor:
    for stage in stages:
        x = stage(x)
    return x


def wholes(network: nn.Module, trace: Trace, side: int) -> None:
    """At every cut point, head then tail equals the whole, for batches that were not traced too."""
    everything = trace_backbone(network, (3, side, side), keep=[cut.name for cut in trace.pruned])
    assert not everything.pruned
    assert len(everything.cuts) == len(trace.cuts) + len(trace.pruned)
    for found in (trace, everything):
        assert len(found.stages) == len(found.cuts) - 1
        for batch in (1, 3):
            x = torch.randn(batch, 3, side, side)
            with torch.no_grad():
                whole = network(x)
                for i, cut in enumerate(found.cuts):
                    crossing = run(found.stages[:i], x)
                    assert crossing.shape == (batch, *cut.shape), cut.name
                    unchanged = crossing.clone()
                    torch.testing.assert_close(run(found.stages[i:], crossing), whole, atol=1e-5, rtol=1e-5)
                    assert torch.equal(crossing, unchanged), f"the tail writes into its input at {cut.name}"


@pytest.mark.parametrize("name", ZOO)
def test_head_and_tail_equal_the_whole_at_every_cut_point(name: str, traces: Any) -> None:
    wholes(*traces[name], ZOO[name].side)


@pytest.mark.parametrize("name", ZOO)
def test_multiply_adds_equal_the_formula(name: str, traces: Any) -> None:
    _, trace = traces[name]
    assert trace.cuts[-1].macs == ZOO[name].macs
    assert trace.uncounted == ()
    macs = [cut.macs for cut in trace.cuts]
    assert macs == sorted(macs)


@pytest.mark.parametrize("name", ZOO)
def test_cut_points_carry_the_names_of_layers(name: str, traces: Any) -> None:
    _, trace = traces[name]
    assert [cut.name for cut in trace.cuts] == ["input", *ZOO[name].names]
    assert trace.cuts[0].shape == (3, ZOO[name].side, ZOO[name].side)
    assert trace.cuts[-1].shape == (CLASSES,)
    known = [cut.name for cut in (*trace.cuts, *trace.pruned)]
    assert len(set(known)) == len(known)


def test_the_kinds_are_five() -> None:
    kinds = [specimen.kind for specimen in ZOO.values()]
    assert set(kinds) == {"plain", "residual", "inverted residual", "branching", "concatenating"}
    assert len(kinds) >= 10


def test_multiply_adds_up_to_a_cut_point(traces: Any) -> None:
    cuts = {cut.name: cut for cut in traces["resnet"][1].cuts}
    stem = 32 * 32 * 8 * 3 * 9
    block = 2 * 32 * 32 * 8 * 8 * 9
    assert cuts["relu"].macs == stem
    assert cuts["layer1.0"].macs == stem + block
    assert cuts["layer1"].macs == stem + 2 * block
    assert cuts["layer1"].shape == (8, 32, 32)
    assert cuts["flatten"].macs == traces["resnet"][1].cuts[-1].macs - 16 * CLASSES


def test_dominated_cut_points_are_pruned_and_say_why(traces: Any) -> None:
    pruned = {cut.name: cut.reason for cut in traces["resnet"][1].pruned}
    assert pruned["bn1"].startswith("relu follows at no multiply-adds and has no more elements")
    assert pruned["layer2"].startswith("flatten follows at no multiply-adds")
    normalised = {cut.name: cut.reason for cut in traces["googlenet"][1].pruned}
    assert normalised["cat"].startswith("nothing is computed between input and here")


def test_expanded_activations_of_inverted_residual_blocks_are_pruned(traces: Any) -> None:
    for name in ("mobilenet", "mobilenet-se"):
        _, trace = traces[name]
        assert not [cut.name for cut in trace.cuts if ".conv" in cut.name]
        inner = {cut.name: cut for cut in trace.pruned}["features.2.conv.2"]  # expanded six times
        assert inner.shape == (48, 16, 16)
        assert "expansion inside features.2.conv: 12288 elements between features.1 with 2048 and" in inner.reason


def test_a_squeezed_activation_stays(traces: Any) -> None:
    """Fire modules narrow before they widen: the narrow place is a good one to cut."""
    assert "features.2.activation" in [cut.name for cut in traces["squeezenet"][1].cuts]


def test_efficientnet_is_cut_at_its_blocks() -> None:
    network = efficientnet_lite(0, image_size=32, num_classes=CLASSES, pretrained=False).eval()
    trace = trace_backbone(network, (3, 32, 32))
    names = [cut.name for cut in trace.cuts]
    assert names == ["input", "stem", *(f"block{i}" for i in range(16)), "final.4", "final"]
    assert trace.cuts[1].macs == 16 * 16 * 32 * 3 * 9
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(run(trace.stages, x), network(x))


def test_a_region_without_a_cut_is_one_stage() -> None:
    class Parallel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(8, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, b = self.a(x), self.b(x)
            a, b = torch.sigmoid(b) * a, a + b
            y: torch.Tensor = self.fc(torch.cat([a.amax((2, 3)), b.amax((2, 3))], 1))
            return y

    trace = trace_backbone(Parallel(), (3, 8, 8))
    assert [cut.name for cut in trace.cuts] == ["input", "cat", "fc"]


def test_what_cannot_be_counted_is_reported() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.mixer = nn.Sequential(nn.ReLU(), Filter())
            self.fc = nn.Linear(4, CLASSES)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.fc(self.mixer(self.stem(x)).mean((2, 3)))
            return y

    class Filter(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:])

    trace = trace_backbone(Spectral(), (3, 8, 8))
    assert trace.uncounted == ("operator aten._fft_r2c at mixer.1", "operator aten._fft_c2r at mixer.1")
    assert trace.cuts[-1].macs == 8 * 8 * 4 * 3 * 9 + 4 * CLASSES  # what could be counted
    assert "mixer.0" in [cut.name for cut in trace.cuts]  # the filter behind it is not free: it does not dominate


def test_transposed_convolutions_and_attention_are_counted() -> None:
    class Rare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 6, 3, stride=2, groups=3)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
            self.bilinear = nn.Bilinear(6, 6, CLASSES)  # too rare to have a formula

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            tokens = self.up(x).flatten(2).transpose(1, 2)  # (B, 81, 6)
            x, _ = self.attention(tokens, tokens, tokens, need_weights=False)
            y: torch.Tensor = self.bilinear(x.mean(1), x.amax(1))
            return y

    trace = trace_backbone(Rare(), (3, 4, 4))
    up = 4 * 4 * 3 * 2 * 9  # every input pixel of 3 channels reaches 2 outputs of its group through 3x3
    attention = 81 * 6 * 18 + 2 * 81 * 81 * 6 + 81 * 6 * 6
    assert trace.cuts[-1].macs == up + attention
    assert trace.uncounted == ("operator aten._trilinear at bilinear",)


def test_stages_train_the_network_they_were_found_in() -> None:
    for name in ("resnet", "densenet", "convnext", "oddities"):
        network = build(name).train()
        trace = trace_backbone(network, (3, ZOO[name].side, ZOO[name].side))
        assert all(layer.training for layer in network.modules())
        norm = next((m for m in network.modules() if isinstance(m, nn.BatchNorm2d)), None)
        before = norm.running_mean.clone() if norm is not None and norm.running_mean is not None else None
        for stage in trace.stages:
            stage.train()
        x = torch.randn(4, 3, ZOO[name].side, ZOO[name].side)
        run(trace.stages, x).square().sum().backward()
        assert [n for n, p in network.named_parameters() if p.grad is None] == []
        held = {p for stage in trace.stages for p in stage.parameters()}
        assert held == set(network.parameters())
        if norm is not None and norm.running_mean is not None:
            assert not torch.equal(norm.running_mean, before)


def test_the_network_comes_back_as_it_was() -> None:
    network = build("oddities").train()
    assert isinstance(network, Oddities)
    network.attention.eval()
    network.remember = 3  # type: ignore[assignment]
    before = {name: vars(m).copy() for name, m in network.named_modules()}
    weights = copy.deepcopy(network.state_dict())
    trace_backbone(network, (3, 32, 32))
    assert {name: vars(m) for name, m in network.named_modules()} == before
    assert network.last_map is None
    assert all(torch.equal(a, b) for a, b in zip(weights.values(), network.state_dict().values(), strict=True))


def test_functional_dropout_follows_the_mode_of_the_stages() -> None:
    network = build("tutorial").eval()
    trace = trace_backbone(network, (3, 32, 32))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(run(trace.stages, x), run(trace.stages, x))
        for stage in trace.stages:
            stage.train()
        assert not torch.equal(run(trace.stages, x), run(trace.stages, x))


def test_kept_names_must_be_known() -> None:
    trace = trace_backbone(build("resnet"), (3, 32, 32), keep=["bn1"])
    assert "bn1" in [cut.name for cut in trace.cuts]
    with pytest.raises(ConfigError, match=r"no cut points layer9 to keep; known are input, conv1, bn1, relu, "):
        trace_backbone(build("resnet"), (3, 32, 32), keep=["bn1", "layer9"])


def test_a_deep_network_is_traced_quickly() -> None:
    network = efficientnet_lite(2, image_size=64, num_classes=CLASSES, pretrained=False)
    trace_backbone(network, (3, 64, 64))  # loads what torch loads late
    start = time.process_time()  # others may run beside it
    trace_backbone(network, (3, 64, 64))
    assert time.process_time() - start < 3  # 0.2 s


class Custom(nn.Module):
    """A network around one function."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, CLASSES, 3)
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self.conv(x))


# Habits


def written_view(x: torch.Tensor) -> torch.Tensor:
    part = x[:, :4]
    part.mul_(3).add_(1)
    return torch.sin(x)


def written_under_a_view(x: torch.Tensor) -> torch.Tensor:
    flat = x.view(x.size(0), CLASSES, -1)
    x[:, 0] = 0
    x[x < 0] *= 0.5
    return flat.unsqueeze(3)


def windows(x: torch.Tensor) -> torch.Tensor:
    """Two by two windows become a batch of their own, and come back."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b * (h // 2) * (w // 2), c, 2, 2)
    x = x * x.softmax(dim=3)
    return x.view(b, h // 2, w // 2, c, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(x.size(0) // 9, -1, h, w)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize(
    "habit",
    [
        lambda x: x.view(len(x), -1, 1, 1)[:, :CLASSES],
        lambda x: x.view(x.size(0), np.prod(x.shape[1:]), 1, 1)[:, :CLASSES],
        lambda x: x.view(x.size(0), int(x.numel() / x.size(0)) // CLASSES, CLASSES, 1).transpose(1, 2),
        lambda x: x.view(*x.shape[:2], x.shape[2:].numel(), 1),
        lambda x: x if isinstance(x, torch.Tensor) and x.dim() == 4 else None,
        lambda x: torch.cat([*x.chunk(5, dim=1)][::-1], 1),
        lambda x: torch.cat((x[:, 1:], torch.zeros(x.size(0), 1, x.size(2), x.size(3), dtype=x.dtype)), 1),
        lambda x: torch.cat((x[:, 1:], x.new_ones(x.size(0), 1, *x.shape[2:])), 1),
        lambda x: x.flatten(2).max(dim=2).values[..., None, None],
        lambda x: x.flatten(2).topk(3, dim=2)[0].unsqueeze(-1),
        lambda x: x * math.sqrt(x.shape[1]) + math.sqrt(x.shape[0]),
        lambda x: checkpoint(torch.tanh, x, use_reentrant=True),
        lambda x: nn.Softmax(dim=1)(nn.AvgPool2d(x.shape[-1])(x)),
        lambda x: F.pad(x, [0, (-x.shape[3]) % 4, 0, (-x.shape[2]) % 4]),
        written_view,
        written_under_a_view,
        windows,
    ],
)
def test_habits_of_writing_are_followed(habit: Any) -> None:
    torch.manual_seed(0)
    network = Custom(lambda x: habit(x).mean((2, 3))).eval()
    wholes(network, trace_backbone(network, (3, 8, 8)), 8)


# What cannot be cut


def branches(x: torch.Tensor) -> torch.Tensor:
    if x.mean() > 0:
        x = -x
    return x.mean((2, 3))


def reads(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) * x.max().item()


def iterates(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([image.mean((1, 2)) for image in x])


def counts(x: torch.Tensor) -> torch.Tensor:
    return torch.cat([x[i : i + 1].mean((2, 3)) for i in range(x.shape[0])])


def leaves_torch(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) + float(np.asarray(x.detach()).max())


def one_image(x: torch.Tensor) -> torch.Tensor:
    return nn.functional.linear(x.reshape(CLASSES, -1).t(), torch.eye(CLASSES)).mean(0, keepdim=True)


def fixed_batch(x: torch.Tensor) -> torch.Tensor:
    return x.view(1, CLASSES, 36).mean(2)


def always_drops(x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, 0.5).mean((2, 3))


@pytest.mark.parametrize(
    ("function", "cause", "advice"),
    [
        (branches, "it branches (if, while, assert, and, or) on the values of the tensor that gt gives", "torch.where"),
        (reads, "item reads the values of a tensor", "@torch.fx.wrap"),
        (iterates, "it iterates over the batch of the tensor that conv gives", "whole batch at once"),
        (counts, "it takes as a plain int the number that getitem gives, which depends on the batch size", "x.size(0)"),
        (leaves_torch, "it hands the tensor that detach gives to NumPy", "torch.where"),
        (
            one_image,
            "returns shape (1, 10) for two images, expected one tensor of logits, (2, classes)",
            "keep the batch axis",
        ),
        (fixed_batch, "does not run on a batch of two images, though it does on one", "with -1 or x.size(0)"),
        (always_drops, "answers differently when it sees the same image again", "training=self.training"),
    ],
)
def test_what_cannot_be_traced_says_what_and_what_to_do(function: Any, cause: str, advice: str) -> None:
    network = Custom(function).train()
    with pytest.raises(TracingError) as caught:
        trace_backbone(network, (3, 8, 8))
    assert cause in str(caught.value)
    assert advice in str(caught.value)
    assert network.training
    network(torch.randn(1, 3, 8, 8))  # is as it was


def test_the_error_names_the_line() -> None:
    with pytest.raises(TracingError, match=r"Custom cannot be cut at .*test_tracing.py:\d+ \(`if x.mean\(\) > 0:`\)"):
        trace_backbone(Custom(branches), (3, 8, 8))


@torch.fx.wrap
def halved_where_bright(x: torch.Tensor) -> torch.Tensor:
    if float(x.max()) > 1e6:
        x = x / 2
    return x


def test_the_advice_to_wrap_a_function_works() -> None:
    network = Custom(lambda x: halved_where_bright(x).mean((2, 3))).eval()
    wholes(network, trace_backbone(network, (3, 8, 8)), 8)


@pytest.mark.parametrize(
    ("output", "got"),
    [
        (lambda x: (x.mean((2, 3)), x), "returns a tuple"),
        (lambda x: {"out": x.mean((2, 3))}, "returns a dict"),
        (lambda x: x, "returns shape (2, 10, 6, 6)"),
    ],
)
def test_a_network_that_does_not_return_logits_is_refused(output: Any, got: str) -> None:
    with pytest.raises(TracingError) as caught:
        trace_backbone(Custom(output), (3, 8, 8))
    assert f"Custom {got} for two images, expected one tensor of logits, (2, classes)" in str(caught.value)


def test_images_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TracingError, match=r"does not run on one image of shape \(3, 8, 8\).*image size and channels"):
        trace_backbone(Tutorial(), (3, 8, 8))
    with pytest.raises(TracingError, match=r"one image of shape \(1, 32, 32\).*expected input.* to have 3 channels"):
        trace_backbone(ResNet(), (1, 32, 32))
    with pytest.raises(ConfigError, match="expected \\(channels, height, width\\)"):
        trace_backbone(ResNet(), (3, 0, 32))


def test_a_forward_that_needs_more_than_images_is_refused() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return (x * mask).mean((2, 3))

    with pytest.raises(TracingError, match="missing 1 required positional argument: 'mask'; its forward must need"):
        trace_backbone(Masked(), (3, 8, 8))
