"""Axes that torch joins to the batch, or puts in front of it, and takes apart again: windows as samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.quantization.graph import UnsupportedNetworkError
from qanas.quantization.operators.convolution import Convolution
from qanas.quantization.tracing import trace
from tests.quantization.conftest import steps_from_runtime
from tests.quantization.functions import Layered

IMAGE, TOKENS = (4, 6, 4), (5, 4)


def windows(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """Swin's windows of 2 x 2 with attention in each."""
    b, c, h, w = x.shape
    x = x.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 3, 5, 1).reshape(-1, 4, c)
    query, key, value = layers.qkv(x).reshape(x.size(0), 4, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
    shares = (query @ key.transpose(-2, -1)).softmax(dim=-1)
    x = layers.norm((shares @ value).transpose(1, 2).reshape(-1, 4, c))
    return x.view(b, h // 2, w // 2, 2, 2, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


def patches(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """MobileViT's: pixels of one place in all patches are a sequence."""
    b, c, h, w = x.shape
    x = x.reshape(b * c * h // 2, 2, w // 2, 2).transpose(1, 2)
    x = x.reshape(b, c, h * w // 4, 4).transpose(1, 3).reshape(b * 4, h * w // 4, c)
    x = x + layers.linear(x.mean(dim=1, keepdim=True))
    x = x.contiguous().view(b, 4, -1, c).transpose(1, 3).reshape(b * c * h // 2, w // 2, 2, 2)
    return x.transpose(1, 2).reshape(b, c, h, w)


def each(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    b, t, c = x.shape
    y: Tensor = layers.each(x.reshape(b * t, c))
    return y.view(b, t, -1)


def frames(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    b, c = x.shape[:2]
    y: Tensor = F.max_pool2d(layers.conv(x.reshape(-1, 1, *x.shape[2:])), 2)
    found: Tensor = torch.unflatten(y, 0, (b, c)).mean(dim=1)
    return found


def rows(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    b, _, h, w = x.shape
    y: Tensor = F.max_pool1d(layers.conv(x.permute(0, 2, 1, 3).flatten(0, 1)), 2)
    return y.view(b, h, -1, w // 2).permute(0, 2, 1, 3)


def recurrent(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    b, c, h, w = x.shape
    y, (hidden, _) = layers.lstm(x.permute(0, 2, 3, 1).reshape(b * h, w, c))
    found: Tensor = y.reshape(b, h, -1) + hidden[-1].view(b, h, -1).mean(-1, keepdim=True)
    return found


def stacked(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    parts = torch.stack([layers.a(x), layers.b(x), x])
    one, other, _ = parts.unbind(0)
    return parts.sum(0) + parts[1] * one + F.relu(parts).mean(dim=0) + other


def in_front(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    y = x.permute(1, 0, 2)[None]
    y = y.flip(1) - y.mean(dim=1, keepdim=True).softmax(-1)
    y = torch.cat([y, y[:, :2]], dim=1).squeeze(0)
    found: Tensor = layers.linear(y).permute(1, 0, 2)
    return found


def with_constants(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """A positional encoding, weights, places and a token, all of which have torch's axis of the batch."""
    y = x.transpose(0, 1)
    time = torch.linspace(-1.0, 1.0, len(y)).view(-1, 1, 1)
    y = (torch.sin(time * torch.arange(1.0, 5.0)) + y) * (2.0 + time)
    y = torch.where(time > 0, y, 0.5).masked_fill(time < -0.9, 0.0) + torch.linspace(0, 1, 4)
    y = torch.cat([torch.full((1, y.size(1), 4), 0.3), y], 0)
    found: Tensor = layers.linear(y.transpose(0, 1))
    joined = x.flatten(0, 1) * torch.linspace(0, 1, 4) + torch.ones(1, 1)
    return found[:, 1:] + joined.view(x.shape)


def sequence_wise(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """Layers over every step of every sample, the time in front, as CRNNs and Deep Speech have them."""
    y = x.transpose(0, 1)
    t, n = y.size(0), y.size(1)
    joined = y.reshape(t * n, -1) * torch.linspace(0.5, 1, 4)
    joined = joined[:, :2].repeat(1, 2) + layers.each(joined) + y.flatten(0, 1).flatten(1)
    apart = F.pad(joined.unsqueeze(1), (1, 1)).max(1)[0][:, 1:-1].view(t, n, -1)
    found: Tensor = apart.view(t, n, 2, 2).view(-1, 2, 2).sum(2).view(t, n, 2).permute(1, 0, 2)
    return found


def layers_and_directions(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """The last states of an LSTM, layer by layer."""
    _, (hidden, _) = layers.lstm(x)
    last = hidden.view(2, 2, x.size(0), 3)[-1]
    found: Tensor = torch.cat([last[0], last[1]], 1) + hidden.reshape(4, len(x), 3).sum(0).repeat(1, 2)
    return found


def attended(layers: Any, x: Tensor) -> Tensor:  # noqa: ANN401 - a `ModuleDict`
    """Attention and an encoder with the positions in front, and what attention looked at."""
    y = x.transpose(0, 1)
    found, shares = layers.attention(y, y, y)
    y = layers.encoder(found + y).transpose(0, 1)
    each = layers.batch_first(x, x, x, average_attn_weights=False)[1]
    result: Tensor = y + shares.mean(-1, keepdim=True) + each[:, 0].sum(1).unsqueeze(-1)
    return result


NETWORKS: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "windows": (Layered(windows, qkv=nn.Linear(4, 12), norm=nn.LayerNorm(4)), IMAGE),
    "patches": (Layered(patches, linear=nn.Linear(4, 4)), IMAGE),
    "linear layers and batch norms": (
        Layered(each, each=nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.PReLU(6), nn.Softmax(-1))),
        TOKENS,
    ),
    "images one after the other": (Layered(frames, conv=nn.Conv2d(1, 3, 3, padding=1)), IMAGE),
    "rows as series": (Layered(rows, conv=nn.Conv1d(4, 3, 3, padding=1)), IMAGE),
    "a recurrence over each row": (Layered(recurrent, lstm=nn.LSTM(4, 3, batch_first=True)), IMAGE),
    "positions in front of the batch": (
        Layered(
            attended,
            attention=nn.MultiheadAttention(4, 2),
            encoder=nn.TransformerEncoder(
                nn.TransformerEncoderLayer(4, 2, 8), 1, nn.LayerNorm(4), enable_nested_tensor=False
            ),
            batch_first=nn.MultiheadAttention(4, 2, batch_first=True),
        ),
        TOKENS,
    ),
    "constants with the batch in between": (Layered(with_constants, linear=nn.Linear(4, 4)), TOKENS),
    "time joined to the batch behind it": (
        Layered(sequence_wise, each=nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.PReLU(4), nn.Softmax(1))),
        TOKENS,
    ),
    "layers and directions of an LSTM": (
        Layered(layers_and_directions, lstm=nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True)),
        TOKENS,
    ),
    "a stack in front": (Layered(stacked, a=nn.Linear(4, 4), b=nn.Linear(4, 4)), TOKENS),
    "the batch in between": (Layered(in_front, linear=nn.Linear(4, 3)), TOKENS),
    "all in one": (Layered(lambda _, x: x.view(-1).view_as(x) * x.ravel().reshape(x.shape)), TOKENS),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_what_is_joined_to_the_batch_is_computed_as_torch_does(name: str) -> None:
    torch.manual_seed(0)
    network, shape = NETWORKS[name]
    samples = torch.randn(6, *shape)
    with torch.no_grad():
        wanted = network.eval()(samples)
    assert torch.allclose(trace(network, shape).forward(samples), wanted, rtol=1e-4, atol=1e-5)
    assert np.abs(steps_from_runtime(network, samples)).max() == 0


def test_parts_one_after_the_other_have_the_same_weights() -> None:
    nodes = trace(NETWORKS["images one after the other"][0], IMAGE).nodes
    assert len({node.origin for node in nodes if isinstance(node.operator, Convolution)}) == 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda m, x: m.conv(x.reshape(-1, 1, 1, 1)), "96 parts of a sample, one after the other"),
        (lambda _, x: x.flatten(0, 1) + x[:, 0], "one has axes joined to the batch"),
        (lambda _, x: x.flatten(0, 1).mean(0), "over the batch"),
        (lambda m, x: m.conv(x.transpose(0, 1)), "put the batch in front"),
        (lambda _, x: x.flatten(0, 1)[0], "take the whole batch"),
        (lambda m, x: m.attention(*[x.flatten(2)] * 3)[0], "put the positions in front"),
        (lambda _, x: x.transpose(0, 1).reshape(2, -1), "with the batch as axis 1, to"),
        (lambda _, x: x.transpose(0, 1).flatten(0, 1), "joined to the batch; take them apart"),
        (lambda _, x: x.permute(1, 2, 0, 3).flatten(1, 3), "a flatten over the batch, which is axis 2"),
        (lambda _, x: x.transpose(0, 1).flatten(0, 1) + x.flatten(0, 1), "one has axes joined to the batch"),
        (lambda _, x: x.transpose(0, 1) + torch.ones(4, 2, 1, 1), r"\(4, 2, 1, 1\) with a value whose batch is axis 1"),
    ],
)
def test_what_would_mix_samples_is_refused(function: Callable[[Any, Tensor], object], message: str) -> None:
    with pytest.raises(UnsupportedNetworkError, match=message):
        trace(Layered(function, conv=nn.Conv2d(1, 2, 1), attention=nn.MultiheadAttention(24, 2)), IMAGE)
