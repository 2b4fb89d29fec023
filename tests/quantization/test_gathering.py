"""Lists of positions, writing into parts, windows, running sums, and what else moves single numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor

from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.tracing import trace
from tests.quantization.conftest import steps_from_runtime
from tests.quantization.functions import Function

IMAGE, SERIES = (4, 6, 5), (3, 8)


def zeroed(x: Tensor) -> Tensor:
    y = x * 2.0
    y[:, :, 0] = 0
    y[:, 1:3, ..., -1] = x[:, :2, :, 0]
    return y


def scaled(x: Tensor) -> Tensor:
    y = x + 1.0
    y[:, :1] *= 3.0
    y[..., 2] = torch.linspace(0, 1, 6)
    return y


def shifted(x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, :1, 1:] = x[:, :1, :-1]
    out[:, 1:2, :-1] = x[:, 1:2, 1:]
    out[:, 2:] = x[:, 2:]
    return out


def filled(x: Tensor) -> Tensor:
    out = x.new_full(x.shape, 0.5)
    for row in range(1, x.size(2)):
        out[:, :, row] = x[:, :, row] * row
    return out


def written_into_a_buffer(x: Tensor) -> Tensor:
    BUFFER[:, 0] = x[:, 0]
    return BUFFER + x


BORDERS = torch.linspace(-1.0, 1.0, 5)
BUFFER = torch.zeros(2, *IMAGE)

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], tuple[int, ...]]] = {
    "a list of channels": (lambda x: x[:, [2, 0, 1]], IMAGE),
    "a tensor of columns": (lambda x: x[..., torch.tensor([4, 3, 1])], IMAGE),
    "a mask of rows": (lambda x: x[:, :, torch.tensor([True, False, True, True, False, False])], IMAGE),
    "index_select": (lambda x: torch.index_select(x, -2, torch.tensor([0, 2, 4, 4, 5])), IMAGE),
    "written into": (zeroed, IMAGE),
    "scaled in part": (scaled, IMAGE),
    "written into zeros": (shifted, IMAGE),
    "written into a constant": (filled, IMAGE),
    "maximum and a constant": (lambda x: torch.maximum(x, BORDERS) + torch.minimum(BORDERS, x), IMAGE),
    "tensor_split": (lambda x: torch.cat([y * k for k, y in enumerate(x.tensor_split(3, 2), 1)], 2), IMAGE),
    "tensor_split at": (lambda x: torch.tensor_split(x, (1, 4), dim=-1)[1], IMAGE),
    "cumsum": (lambda x: x.cumsum(1) + torch.cumsum(x, dim=-1), IMAGE),
    "windows": (lambda x: x.unfold(2, 3, 2).mean(-1), SERIES),
    "F.unfold": (lambda x: F.unfold(x, (2, 3), padding=1, stride=2), IMAGE),
    "folded again": (lambda x: F.fold(F.unfold(x[..., :4], 2, stride=2), (6, 4), 2, stride=2), IMAGE),
    "lerp": (lambda x: torch.lerp(x, x.flip(1), 0.3), IMAGE),
    "a number a sample": (lambda x: x.mean((1, 2, 3)) * 2.0 + 1.0, IMAGE),
    "samples repeated": (lambda x: x.repeat_interleave(2, 0).view(len(x), 2, -1).mean(1), SERIES),
    "ten axes": (lambda x: x.view(len(x), *[2] * 6).permute(0, 6, 4, 2, 5, 3, 1).flatten(1) * 2.0, (64,)),
}


def put(x: Tensor, index: object, filling: Tensor | float) -> Tensor:
    y = 1.0 * x
    y[index] = filling  # type: ignore[index]  # what torch makes of it is the test
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_picked_and_written_is_torchs(name: str) -> None:
    function, shape = FUNCTIONS[name]
    samples = torch.randn(5, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(trace(Function(function), shape).forward(samples), function(samples), rtol=1e-4, atol=1e-5)
    assert np.abs(steps_from_runtime(Function(function), samples)).max() == 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x[:, [0, 4]], "positions .* of an axis of 4"),
        (lambda x: x[:, [0, 1], :, [1, 2]], "one axis"),
        (lambda x: x[[0]], "one axis"),
        (written_into_a_buffer, "a constant of several samples"),
        (lambda x: zeroed(x[:1]), "the whole batch"),
        (lambda x: put(x, (slice(None), slice(None, None, 2)), x[:, 0]), "give it that shape"),
        (lambda x: put(x, (slice(None), *[slice(None, None, 2)] * 3), 0.0), "along 2 axes at most"),
        (lambda x: put(x, (slice(None), True), 0.0), "write at whole numbers and slices"),
        (lambda x: F.fold(F.unfold(x, 3), (6, 5), 3), "overlap"),
    ],
)
def test_what_is_not_the_same_for_all_samples_is_refused(function: Callable[[Tensor], Tensor], message: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(Function(function), IMAGE)
