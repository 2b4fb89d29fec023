"""Habits of networks over time, tokens and vectors."""

# mypy: disable-error-code="arg-type, attr-defined, index, no-untyped-call, operator"

from __future__ import annotations

import math
import random
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from fuzzed_modules import Fuzzed, Step, activation, habit, parts

Shape = tuple[int, ...]


@habit("series", weight=3.0)
def conv1d_block(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    groups = draw.choice([1, 1, *parts(shape[0])])
    out = groups * draw.randint(1, 1 + 10 // groups)
    stride, dilation = draw.choice((1, 1, 2)), draw.choice((1, 1, 2, 3))
    padding = draw.choice((0, 1, 2, "same" if stride == 1 else 2))
    mode = draw.choice(("zeros", "zeros", "replicate", "reflect"))
    conv = nn.Conv1d(shape[0], out, draw.choice((1, 3, 5)), stride, padding, dilation, groups, padding_mode=mode)
    norm = draw.choice((nn.BatchNorm1d(out), nn.GroupNorm(1, out), nn.InstanceNorm1d(out), nn.Identity()))
    name = net.add(nn.Sequential(conv, norm, activation(draw)))
    return lambda net, x: net.layers[name](x)


@habit("series")
def causal_block(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    dilation = draw.choice((1, 2, 4))
    conv = nn.Conv1d(shape[0], shape[0], 3, padding=2 * dilation, dilation=dilation)
    if draw.random() < 0.5:
        conv = torch.nn.utils.parametrizations.weight_norm(conv)
    name = net.add(conv)

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[name](x)
        y = y[:, :, : -2 * dilation].contiguous()
        return F.relu(F.dropout(y, 0.1, net.training) + x)

    return step


@habit("series")
def gated_activation(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Conv1d(shape[0], 2 * shape[0], 3, padding=1))

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[name](x)
        one, other = y.chunk(2, 1)
        return torch.tanh(one) * torch.sigmoid(other) + x

    return draw.choice((step, lambda net, x: F.glu(net.layers[name](x), dim=1)))


@habit("series")
def pooled_series(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    module = draw.choice(
        (
            nn.MaxPool1d(2),
            nn.MaxPool1d(3, 2, 1),
            nn.AvgPool1d(2, ceil_mode=True),
            nn.AvgPool1d(3, 1, 1),
            nn.AdaptiveAvgPool1d(draw.randint(2, 9)),
            nn.AdaptiveMaxPool1d(draw.randint(2, 9)),
            nn.Upsample(scale_factor=2),
            nn.Upsample(size=20, mode="linear"),
            nn.ConstantPad1d((1, 2), 0.0),
            nn.ReflectionPad1d(2),
            nn.ConvTranspose1d(shape[0], 4, 3, 2, 1, 1),
        )
    )
    name = net.add(module)
    return lambda net, x: net.layers[name](x)


@habit("series")
def steps_of_time(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    def differences(net: Fuzzed, x: Tensor) -> Any:
        return x[:, :, 1:] - x[..., :-1]

    def stacked(net: Fuzzed, x: Tensor) -> Any:
        return torch.stack([x[:, :, t] * 0.5 for t in range(x.size(-1))], dim=-1)

    def unbound(net: Fuzzed, x: Tensor) -> Any:
        state = torch.zeros_like(x[..., 0])
        found = []
        for one in x.unbind(-1)[:8]:
            state = 0.5 * state + one
            found.append(state)
        return torch.stack(found, 2)

    def lagged(net: Fuzzed, x: Tensor) -> Any:
        return torch.cat([x, torch.roll(x, 1, -1), x.flip(-1)], 1)

    def framed(net: Fuzzed, x: Tensor) -> Any:
        b, c, t = x.shape
        return x[:, :, : t - t % 4].view(b, c, -1, 4).mean(-1)

    return draw.choice((differences, stacked, unbound, lagged, framed))


@habit("series", "image")
def series_as_image(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Conv2d(1, 4, 3, padding=1))

    def step(net: Fuzzed, x: Tensor) -> Any:
        return net.layers[name](x.unsqueeze(1))

    return draw.choice((step, lambda net, x: net.layers[name](x[:, None])))


@habit("series", "tokens", weight=2.0)
def time_in_front_of_channels(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice((lambda _, x: x.transpose(1, 2), lambda _, x: x.permute(0, 2, 1).contiguous()))


@habit("tokens", "series", weight=1.0)
def channels_in_front_of_time(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice((lambda _, x: x.transpose(-1, -2), lambda _, x: x.mT, lambda _, x: x.swapaxes(1, 2)))


@habit("series", "vector", weight=1.0)
def series_to_vector(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: x.mean(-1),
            lambda _, x: x[:, :, -1],
            lambda _, x: torch.cat([x.mean(2), x.std(2)], 1),
            lambda _, x: x.flatten(1)[:, :30],
            lambda _, x: F.adaptive_avg_pool1d(x, 1).squeeze(-1),
            lambda _, x: x.max(dim=2).values,
            lambda _, x: F.max_pool1d(x, x.size(2)).view(x.size(0), -1),
        )
    )


@habit("tokens", weight=2.0)
def recurrent(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    kind = draw.choice((nn.LSTM, nn.LSTM, nn.GRU, nn.GRU, nn.RNN))
    front = draw.random() < 0.6
    layers, both, width = draw.choice((1, 1, 2)), draw.random() < 0.3, draw.randint(3, 8)
    name = net.add(kind(shape[1], width, layers, batch_first=front, bidirectional=both))

    def step(net: Fuzzed, x: Tensor) -> Any:
        cell: Any = net.layers[name]
        cell.flatten_parameters()
        if front:
            out, _ = cell(x)
            return out
        out, hidden = cell(x.transpose(0, 1))
        del hidden
        return out.permute(1, 0, 2)

    def from_zero(net: Fuzzed, x: Tensor) -> Any:
        cell: Any = net.layers[name]
        if not front:
            x = x.transpose(0, 1)
        size = (layers * (2 if both else 1), x.size(0 if front else 1), width)
        zero = torch.zeros(*size, device=x.device)
        state = (zero, zero.clone()) if kind is nn.LSTM else zero
        out = cell(x, state)[0]
        return out if front else out.transpose(1, 0)

    return draw.choice((step, step, from_zero))


@habit("tokens", "vector", weight=1.0)
def last_state(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    kind = draw.choice((nn.LSTM, nn.GRU))
    name = net.add(kind(shape[1], 6, batch_first=True, num_layers=draw.choice((1, 2))))

    def step(net: Fuzzed, x: Tensor) -> Any:
        _, state = net.layers[name](x)
        hidden = state[0] if isinstance(state, tuple) else state
        return hidden[-1]

    def squeezed(net: Fuzzed, x: Tensor) -> Any:
        _, state = net.layers[name](x)
        hidden = state[0] if isinstance(state, tuple) else state
        return hidden[-1:].squeeze(0)

    def beside(net: Fuzzed, x: Tensor) -> Any:
        out, state = net.layers[name](x)
        hidden = state[0] if isinstance(state, tuple) else state
        return torch.cat([out[:, -1], hidden.transpose(0, 1).reshape(x.size(0), -1)], 1)

    return draw.choice((step, squeezed, beside))


@habit("tokens")
def cell_by_cell(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    size = shape[1]
    gates = net.add(nn.Linear(2 * size, 2 * size))
    cell = net.add(draw.choice((nn.GRUCell(size, size), nn.LSTMCell(size, size))))

    def minimal(net: Fuzzed, x: Tensor) -> Any:
        h = torch.zeros(x.shape[0], size)
        outputs = []
        for t in range(min(x.shape[1], 6)):
            z, candidate = net.layers[gates](torch.cat([x[:, t], h], -1)).split(size, -1)
            h = h + torch.sigmoid(z) * (torch.tanh(candidate) - h)
            outputs.append(h)
        return torch.stack(outputs, dim=1)

    def torchs(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[cell]
        state = None
        outputs = []
        for one in x.unbind(1)[:5]:
            state = layer(one, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs, 1)

    return draw.choice((minimal, torchs))


@habit("tokens", weight=2.0)
def attention(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    width = shape[1]
    heads = draw.choice([1, *parts(width)])
    qkv, out = net.add(nn.Linear(width, 3 * width)), net.add(nn.Linear(width, width))
    how = draw.choice(("matmul", "scaled", "einsum", "causal"))

    def step(net: Fuzzed, x: Tensor) -> Any:
        b, n, c = x.shape
        parts = net.layers[qkv](x).reshape(b, n, 3, heads, c // heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts[0], parts[1], parts[2]
        if how == "scaled":
            y = F.scaled_dot_product_attention(query, key, value, dropout_p=0.1 if net.training else 0.0)
        elif how == "einsum":
            scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(c // heads)
            y = torch.einsum("bhij,bhjd->bhid", scores.softmax(-1), value)
        else:
            scores = (query @ key.transpose(-2, -1)) * (c // heads) ** -0.5
            if how == "causal":
                mask = torch.tril(torch.ones(n, n)).view(1, 1, n, n)
                scores = scores.masked_fill(mask == 0, -1e4)
            y = F.softmax(scores, dim=-1) @ value
        return x + net.layers[out](y.transpose(1, 2).reshape(b, n, c))

    return step


@habit("tokens")
def torchs_attention(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    width = shape[1]
    heads = draw.choice([1, *parts(width)])
    name = net.add(nn.MultiheadAttention(width, heads, batch_first=draw.random() < 0.8, bias=draw.random() < 0.7))

    def step(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[name]
        if not layer.batch_first:
            y = x.transpose(0, 1)
            return layer(y, y, y, need_weights=False)[0].transpose(0, 1)
        y, weights = layer(x, x, x)
        return y if weights is None else y + weights.mean(-1, keepdim=True)

    def plain(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[name]
        return x + layer(x, x, x, need_weights=False)[0]

    return draw.choice((step, plain, plain))


@habit("tokens")
def encoder(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    width = shape[1]
    heads = draw.choice([1, *parts(width)])
    layer = nn.TransformerEncoderLayer(
        width, heads, 2 * width, 0.1, draw.choice(("relu", "gelu")), batch_first=True, norm_first=draw.random() < 0.5
    )
    module = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False) if draw.random() < 0.5 else layer
    name = net.add(module)

    def masked(net: Fuzzed, x: Tensor) -> Any:
        return net.layers[name](x, nn.Transformer.generate_square_subsequent_mask(x.size(1)))

    return draw.choice((lambda net, x: net.layers[name](x), lambda net, x: net.layers[name](x), masked))


@habit("tokens", weight=1.5)
def mlp_block(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    width = shape[1]
    norm = draw.choice((nn.LayerNorm(width), nn.RMSNorm(width), nn.LayerNorm(width, elementwise_affine=False)))
    names = [
        net.add(norm),
        net.add(nn.Linear(width, 2 * width)),
        net.add(nn.Linear(width if draw.random() < 0.3 else 2 * width, width)),
    ]
    act = activation(draw)
    net.add(act)

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[names[1]](net.layers[names[0]](x))
        last: Any = net.layers[names[2]]
        if last.in_features == width:
            gate, value = y.tensor_split(2, dim=-1)
            y = act(gate) * value
        else:
            y = act(y)
        return x + last(y)

    return step


@habit("tokens")
def positions(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    length, width = shape
    where = torch.arange(length).unsqueeze(1) / (1.0 + torch.arange(width))
    table = torch.where(torch.arange(width) % 2 == 0, where.sin(), where.cos())
    own = nn.Module()
    own.register_buffer("table", torch.cat([table, table])[None])
    own.register_parameter("token", nn.Parameter(torch.randn(1, 1, width)))
    name = net.add(own)

    def added(net: Fuzzed, x: Tensor) -> Any:
        return x * math.sqrt(x.size(-1)) + net.layers[name].table[:, : x.size(1)].detach()

    def token(net: Fuzzed, x: Tensor) -> Any:
        return torch.cat((net.layers[name].token.expand(x.shape[0], -1, -1), x), dim=1)

    def learned(net: Fuzzed, x: Tensor) -> Any:
        where = torch.arange(x.size(1), device=x.device)
        return x + F.embedding(where, net.layers[name].table[0])

    return draw.choice((added, token, learned))


@habit("tokens")
def mixed_tokens(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Linear(shape[0], shape[0]))
    return draw.choice(
        (
            lambda net, x: x + net.layers[name](x.transpose(1, 2)).transpose(1, 2),
            lambda net, x: net.layers[name](x.permute(0, 2, 1)).permute(0, 2, 1).relu(),
            lambda net, x: torch.matmul(net.layers[name].weight, x),
            lambda net, x: torch.einsum("ij,bjc->bic", net.layers[name].weight, x),
            lambda net, x: x[:, 1:],
            lambda net, x: torch.cat([x, x.mean(1, keepdim=True).expand(-1, 2, -1)], 1),
            lambda net, x: x - x.mean(dim=1, keepdim=True),
        )
    )


@habit("tokens")
def each_position_by_itself(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Sequential(nn.Linear(shape[1], 6), nn.BatchNorm1d(6), activation(draw)))
    other = net.add(nn.Conv1d(1, 2, 3, padding=1))

    def flat(net: Fuzzed, x: Tensor) -> Any:
        b, t, c = x.shape
        return net.layers[name](x.view(b * t, c)).view(b, t, -1)

    def reshaped(net: Fuzzed, x: Tensor) -> Any:
        return net.layers[name](x.flatten(0, 1)).reshape(x.size(0), x.size(1), -1)

    def convolved(net: Fuzzed, x: Tensor) -> Any:
        b, t, c = x.size()
        return net.layers[other](x.reshape(-1, 1, c)).reshape(b, t, -1)

    return draw.choice((flat, reshaped, convolved))


@habit("tokens", "vector", weight=1.0)
def tokens_to_vector(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Linear(shape[1], 1))
    return draw.choice(
        (
            lambda net, x: x.mean(1),
            lambda net, x: x[:, 0],
            lambda net, x: x[:, -1, :],
            lambda net, x: x.select(1, 0),
            lambda net, x: x.amax(1),
            lambda net, x: x.flatten(1)[:, :24],
            lambda net, x: (x * net.layers[name](x).softmax(1)).sum(1),
            lambda net, x: torch.bmm(net.layers[name](x).softmax(1).transpose(1, 2), x).squeeze(1),
            lambda net, x: x.reshape(x.shape[0], -1),
        )
    )


@habit("tokens", "image")
def tokens_to_image(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    side = draw.choice(list(parts(shape[0])))
    return draw.choice(
        (
            lambda _, x: x.transpose(1, 2).view(x.size(0), x.size(2), side, x.size(1) // side),
            lambda _, x: x.transpose(1, 2).unflatten(2, (side, -1)),
            lambda _, x: x.view(x.size(0), side, -1, x.size(2)).permute(0, 3, 1, 2),
        )
    )


@habit("vector", weight=3.0)
def dense_block(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    out = draw.randint(2, 24)
    norm = draw.choice((nn.BatchNorm1d(out), nn.LayerNorm(out), nn.Identity(), nn.GroupNorm(1, out)))
    name = net.add(nn.Sequential(nn.Linear(shape[0], out, bias=draw.random() < 0.7), norm, activation(draw)))
    return lambda net, x: net.layers[name](x)


@habit("vector")
def residual_dense(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    names = [net.add(nn.Linear(shape[0], shape[0])) for _ in range(2)]
    return draw.choice(
        (
            lambda net, x: x + net.layers[names[1]](F.relu(net.layers[names[0]](x))),
            lambda net, x: torch.cat([x, net.layers[names[0]](x)], dim=-1),
            lambda net, x: torch.sigmoid(net.layers[names[0]](x)) * x,
            lambda net, x: F.linear(x, net.layers[names[0]].weight.t()),
            lambda net, x: torch.addmm(net.layers[names[0]].bias, x, net.layers[names[0]].weight.t()),
            lambda net, x: net.layers[names[0]](x) - net.layers[names[1]](x),
            lambda net, x: torch.lerp(x, net.layers[names[0]](x), 0.3),
        )
    )


@habit("vector")
def functions_of_features(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: F.softmax(x, dim=1),
            lambda _, x: F.log_softmax(x, -1),
            lambda _, x: F.normalize(x),
            lambda _, x: torch.exp(-x.pow(2)),
            lambda _, x: (x.unsqueeze(2) * x.unsqueeze(1)).flatten(1)[:, :30],
            lambda _, x: torch.stack([x, x.sin()], 1).mean(1),
            lambda _, x: F.softplus(x) + 0.1,
            lambda _, x: x.reshape(x.size(0), -1, 1).repeat(1, 1, 2).flatten(1),
            lambda _, x: x / x.abs().sum(1, keepdim=True).clamp(min=0.1),
            lambda _, x: torch.where(x > 0, x, 0.1 * x),
            lambda _, x: x * (x > 0).float(),
            lambda _, x: torch.tanh(x) if x.dim() == 2 else x,
            lambda _, x: x.log1p() if bool(x.requires_grad) else x.square().sqrt(),
            lambda _, x: torch.cdist(x[:, None], x[:, None] * 0.5).flatten(1) + x,
            lambda _, x: F.cosine_similarity(x, x.flip(1), dim=1).unsqueeze(1) + x,
            lambda _, x: 1.0 / (1.0 + torch.exp(-x)),
            lambda _, x: torch.hypot(x, x.flip(-1)),
            lambda _, x: x.sign() * x.abs().pow(0.5),
            lambda _, x: torch.nan_to_num(x),
            lambda _, x: 2.0**x,
            lambda _, x: x % 1.0,
            lambda _, x: x.clamp(min=-x.abs().mean(1, keepdim=True)),
        )
    )


@habit("vector", "image")
def vector_to_image(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Linear(shape[0], 4 * 3 * 5))
    return draw.choice(
        (
            lambda net, x: net.layers[name](x).view(-1, 4, 3, 5),
            lambda net, x: net.layers[name](x).reshape(x.size(0), 4, 3, 5),
            lambda net, x: net.layers[name](x).unflatten(1, (4, 3, 5)),
            lambda net, x: x[:, :, None, None].expand(-1, -1, 3, 4) * torch.ones(3, 4),
        )
    )
