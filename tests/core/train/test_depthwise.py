"""The fast gradient of depthwise convolutions is the plain one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spinn_stream.train.backbone.depthwise import fast_depthwise


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize(
    ("stride", "side", "padding"), [(1, 9, 0), (1, 8, 2), (2, 8, 1), (2, 9, 2), (2, 11, 0), (3, 10, 1)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_equal_those_of_autograd(kernel: int, stride: int, side: int, padding: int, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, padding, groups=6, bias=bias)
    x = torch.randn(3, 6, side, side).to(memory_format=torch.channels_last).requires_grad_()
    y = F.conv2d(x, conv.weight, conv.bias, stride, padding, 1, 6)
    grad = torch.randn_like(y)
    wanted = [x, *conv.parameters()]
    expected = torch.autograd.grad(y, wanted, grad)
    with fast_depthwise(conv):
        z = conv(x)
        assert type(z.grad_fn).__name__ != "ConvolutionBackward0"  # the fast one is really in use
        found = torch.autograd.grad(z, wanted, grad)
    assert torch.allclose(y, z, atol=1e-5)
    for a, b in zip(expected, found, strict=True):
        assert torch.allclose(a, b, atol=1e-4), (a - b).abs().max()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 12, 3, groups=6), nn.Conv2d(6, 6, 3, groups=3),
        nn.Conv2d(6, 6, 3, groups=6, dilation=2), nn.Conv2d(6, 6, (3, 5), groups=6),
        nn.Conv2d(6, 6, 3, (1, 2), groups=6),
        nn.Conv2d(6, 6, 3, padding="same", groups=6), nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect", groups=6),
    ],
)  # fmt: skip
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    x = torch.randn(2, 6, 9, 9)
    before = conv(x)
    with fast_depthwise(conv):
        assert torch.equal(conv(x), before) and "forward" not in vars(conv)


def test_it_ends_with_its_block() -> None:
    conv = nn.Conv2d(6, 6, 3, groups=6)
    with pytest.raises(KeyError), fast_depthwise(conv):
        raise KeyError
    assert "forward" not in vars(conv)
