"""Habits of networks over images."""

# mypy: disable-error-code="arg-type, attr-defined, index, no-untyped-call, operator"

from __future__ import annotations

import random
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from fuzzed_modules import Fuzzed, Step, activation, habit, parts

Shape = tuple[int, ...]


def norm(draw: random.Random, channels: int) -> nn.Module:
    """Return a norm of images."""
    groups = draw.choice([1, *parts(channels), channels])
    return draw.choice(
        (
            nn.BatchNorm2d(channels),
            nn.BatchNorm2d(channels),
            nn.BatchNorm2d(channels, affine=False),
            nn.GroupNorm(groups, channels),
            nn.InstanceNorm2d(channels, affine=True),
            nn.InstanceNorm2d(channels, track_running_stats=True),
            nn.SyncBatchNorm(channels),
            nn.Identity(),
        )
    )


@habit("image", weight=3.0)
def conv_block(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    groups = draw.choice([1, 1, *parts(shape[0])])
    out = groups * draw.randint(1, 1 + 12 // groups)
    size, stride, dilation = draw.choice((1, 3, 3, 5, (3, 1))), draw.choice((1, 1, 2)), draw.choice((1, 1, 1, 2))
    padding = draw.choice((0, 1, 2, "same" if stride == 1 else 1, (1, 0)))
    mode = draw.choice(("zeros", "zeros", "zeros", "reflect", "replicate", "circular"))
    conv = nn.Conv2d(shape[0], out, size, stride, padding, dilation, groups, draw.random() < 0.5, mode)
    layers = [conv, norm(draw, out), activation(draw)]
    if draw.random() < 0.3:
        layers = [layers[0], layers[2], layers[1]]
    name = net.add(nn.Sequential(*layers))
    return lambda net, x: net.layers[name](x)


@habit("image", weight=2.0)
def inverted_residual(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    channels, hidden = shape[0], shape[0] * draw.choice((1, 2, 3))
    block = nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        activation(draw),
        nn.Conv2d(hidden, hidden, 3, 1, 1, groups=hidden, bias=False),
        nn.BatchNorm2d(hidden),
        activation(draw),
        nn.Conv2d(hidden, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
    )
    name = net.add(block)
    return draw.choice(
        (
            lambda net, x: x + net.layers[name](x),
            lambda net, x: net.layers[name](x).add_(x),
            lambda net, x: F.relu_(net.layers[name](x) + x),
            lambda net, x: torch.add(net.layers[name](x), x, alpha=0.5),
        )
    )


@habit("image")
def in_place_before_skip(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Conv2d(shape[0], shape[0], 3, padding=1))

    def step(net: Fuzzed, x: Tensor) -> Any:
        skip = x
        return net.layers[name](F.relu(x, inplace=True)) + skip

    return step


@habit("image")
def plus_equals(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Conv2d(shape[0], shape[0], 3, padding=1))

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[name](x)
        y += x
        y *= 0.5
        return y

    return step


@habit("image")
def squeeze_and_excitation(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    channels = shape[0]
    inner = max(1, channels // 2)
    convs = draw.random() < 0.5
    layers: list[nn.Module] = (
        [nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, inner, 1), nn.ReLU(), nn.Conv2d(inner, channels, 1)]
        if convs
        else [nn.Linear(channels, inner, bias=False), nn.ReLU(inplace=True), nn.Linear(inner, channels, bias=False)]
    )
    name = net.add(nn.Sequential(*layers, draw.choice((nn.Sigmoid(), nn.Hardsigmoid()))))

    def step(net: Fuzzed, x: Tensor) -> Any:
        if convs:
            return x * net.layers[name](x)
        b, c, _, _ = x.size()
        gates = net.layers[name](F.adaptive_avg_pool2d(x, 1).view(b, c)).view(b, c, 1, 1)
        return x * gates.expand_as(x)

    return step


@habit("image")
def shuffled_channels(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    groups = draw.choice(list(parts(shape[0])))
    name = net.add(nn.Conv2d(shape[0], shape[0], 3, padding=1, groups=groups))

    def step(net: Fuzzed, x: Tensor) -> Any:
        batch, channels, height, width = x.data.size()
        x = x.view(batch, groups, channels // groups, height, width)
        x = torch.transpose(x, 1, 2).contiguous()
        return net.layers[name](x.view(batch, -1, height, width))

    return step


@habit("image")
def branches_of_chunks(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    count = draw.choice([2, *parts(shape[0])])
    width = shape[0] // count
    names = [net.add(nn.Conv2d(width, width, 3, padding=1)) for _ in range(count)]
    how = draw.choice(("chunk", "split", "index", "tensor_split"))

    def step(net: Fuzzed, x: Tensor) -> Any:
        if how == "chunk":
            pieces = x.chunk(count, dim=1)
        elif how == "split":
            pieces = torch.split(x, [width] * count, 1)
        elif how == "tensor_split":
            pieces = torch.tensor_split(x, count, dim=1)
        else:
            pieces = tuple(x[:, i * width : (i + 1) * width] for i in range(count))
        found, last = [], None
        for i, piece in enumerate(pieces):
            last = net.layers[names[i]](piece if last is None else piece + last)
            found.append(last)
        return torch.cat(found, 1)

    return step


@habit("image", weight=2.0)
def pooled(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    size, stride = draw.choice((2, 3, (2, 1))), draw.choice((1, 2, None))
    padding, ceil = draw.choice((0, 0, 1)), draw.random() < 0.3
    layer = draw.choice(
        (
            nn.MaxPool2d(size, stride, padding, ceil_mode=ceil),
            nn.AvgPool2d(size, stride, padding, ceil_mode=ceil, count_include_pad=draw.random() < 0.5),
            nn.AdaptiveAvgPool2d((draw.randint(1, 5), draw.randint(1, 5))),
            nn.AdaptiveMaxPool2d(draw.randint(1, 4)),
            nn.LPPool2d(2, 2),
            nn.MaxPool2d(2, dilation=2),
        )
    )
    name = net.add(layer)
    return lambda net, x: net.layers[name](x)


@habit("image")
def resized(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Conv2d(shape[0], shape[0], 3, 2, 1))
    mode = draw.choice(("nearest", "bilinear", "bilinear", "nearest-exact", "bicubic"))
    corners = None if mode.startswith("nearest") else draw.random() < 0.5
    how = draw.choice(("size", "factor", "shape", "upsample"))
    upsample = nn.Upsample(scale_factor=2, mode=mode if mode != "nearest-exact" else "nearest", align_corners=corners)

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[name](x)
        if how == "upsample":
            return upsample(y)
        if how == "factor":
            return F.interpolate(y, scale_factor=2.0, mode=mode, align_corners=corners)
        if how == "shape":
            return F.interpolate(y, x.shape[2:], mode=mode, align_corners=corners) + x
        return F.interpolate(y, size=(x.size(2) + 1, x.size(3)), mode=mode, align_corners=corners)

    return step


@habit("image")
def u_net(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    channels = shape[0]
    down = net.add(nn.Conv2d(channels, 2 * channels, 3, 2, 1))
    up = net.add(nn.ConvTranspose2d(2 * channels, channels, draw.choice((2, 3, 4)), 2, draw.choice((0, 1))))

    def step(net: Fuzzed, x: Tensor) -> Any:
        y = F.relu(net.layers[up](F.relu(net.layers[down](x))))
        rows, columns = x.size(2) - y.size(2), x.size(3) - y.size(3)
        y = F.pad(y, [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2])
        return torch.cat([x, y], dim=1)

    return step


@habit("image")
def padded(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    amounts = [draw.randint(0, 2) for _ in range(4)]
    mode = draw.choice(("constant", "reflect", "replicate", "circular"))
    if draw.random() < 0.3:
        module = draw.choice((nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d))(tuple(amounts))
        name = net.add(module)
        return lambda net, x: net.layers[name](x)
    value = draw.choice((0.0, 0.0, 0.7, -1.0))
    if mode != "constant":
        return lambda _, x: F.pad(x, amounts, mode)
    return lambda _, x: F.pad(x, amounts, value=value)


@habit("image")
def cropped(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: x[:, :, 1:-1, 1:],
            lambda _, x: x[..., ::2, ::2],
            lambda _, x: x[:, :, : x.shape[2] // 2 + 1],
            lambda _, x: x.narrow(2, 1, x.size(2) - 2),
            lambda _, x: F.pad(x, (-1, 0, -1, 0)),
            lambda _, x: x[:, torch.arange(x.shape[1] - 1, -1, -1)],
            lambda _, x: x[:, [0, -1]],
            lambda _, x: torch.index_select(x, 1, torch.tensor([0, x.size(1) - 1])),
            lambda _, x: x[:, :, 1::2, :],
        )
    )


@habit("image")
def sums_of_axes(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: x - x.mean(dim=(2, 3), keepdim=True),
            lambda _, x: x * x.amax(1, keepdim=True),
            lambda _, x: torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], dim=1),
            lambda _, x: torch.cat([torch.mean(x, dim=1).unsqueeze(1), torch.max(x, dim=1)[0].unsqueeze(1)], 1),
            lambda _, x: x / (x.std((2, 3), keepdim=True) + 1e-2),
            lambda _, x: (x - x.mean([1], True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-3),
            lambda _, x: F.normalize(x, dim=1) * 2,
            lambda _, x: x * torch.sum(x, dim=(-2, -1), keepdim=True),
            lambda _, x: x.norm(p=2, dim=(2, 3), keepdim=True) + x,
            lambda _, x: x + x.amin(dim=-1, keepdim=True),
            lambda _, x: x * torch.softmax(x.flatten(2), -1).view_as(x),
            lambda _, x: x.softmax(dim=1),
            lambda _, x: torch.logsumexp(x, 1, keepdim=True) - x,
            lambda _, x: x.cumsum(1),
            lambda _, x: x.sort(1)[0],
            lambda _, x: x.topk(2, 1).values,
            lambda _, x: x.median(1, keepdim=True)[0] + x,
            lambda _, x: x.prod(1, keepdim=True) + x,
        )
    )


@habit("image")
def coordinates(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    def step(net: Fuzzed, x: Tensor) -> Any:
        b, _, h, w = x.shape
        ys = torch.linspace(-1, 1, h, device=x.device).view(1, 1, h, 1).expand(b, 1, h, w)
        xs = torch.linspace(-1, 1, w).to(x).view(1, 1, 1, w).repeat(b, 1, h, 1)
        return torch.cat([x, ys, xs], 1)

    def grid(net: Fuzzed, x: Tensor) -> Any:
        ys, xs = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
        return x + 0.05 * torch.stack([ys, xs]).float().mean(0)

    return draw.choice((step, grid))


@habit("image")
def attention_over_positions(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    channels, inner = shape[0], max(1, shape[0] // 2)
    names = [net.add(nn.Conv2d(channels, inner, 1)) for _ in range(2)]
    value = net.add(nn.Conv2d(channels, channels, 1))

    def step(net: Fuzzed, x: Tensor) -> Any:
        b, c, h, w = x.size()
        query = net.layers[names[0]](x).view(b, -1, w * h).permute(0, 2, 1)
        key = net.layers[names[1]](x).view(b, -1, w * h)
        shares = torch.softmax(torch.bmm(query, key), dim=-1)
        out = torch.bmm(net.layers[value](x).view(b, -1, w * h), shares.permute(0, 2, 1))
        return 0.5 * out.view(b, c, h, w) + x

    return step


@habit("image")
def windows(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    side = draw.choice([size for size in (2, 3, 4, 5) if shape[1] % size == 0 and shape[2] % size == 0])
    name = net.add(nn.Linear(shape[0], shape[0]))

    def step(net: Fuzzed, x: Tensor) -> Any:
        b, c, h, w = x.shape
        x = x.permute(0, 2, 3, 1).view(b, h // side, side, w // side, side, c)
        tokens = x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, side * side, c)
        shares = (tokens @ tokens.transpose(-2, -1)).softmax(-1)
        tokens = net.layers[name](shares @ tokens)
        x = tokens.view(-1, h // side, w // side, side, side, c)
        return x.permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c).permute(0, 3, 1, 2)

    return step


@habit("image")
def blocks_of_pixels(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    four = net.add(nn.Conv2d(shape[0], 4 * shape[0], 3, padding=1))
    return draw.choice(
        (
            lambda net, x: F.pixel_shuffle(net.layers[four](x), 2),
            lambda net, x: F.pixel_unshuffle(x, 2),
            lambda net, x: torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1),
            lambda net, x: F.unfold(x, 2, stride=2).view(x.size(0), -1, x.size(2) // 2, x.size(3) // 2),
            lambda net, x: x.unfold(2, 2, 2).mean(-1),
        )
    )


@habit("image")
def layer_norm_of_channels(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.LayerNorm(shape[0]))
    return draw.choice(
        (
            lambda net, x: net.layers[name](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous(),
            lambda net, x: F.layer_norm(x, x.shape[1:]),
            lambda net, x: net.layers[name](x.movedim(1, -1)).movedim(-1, 1),
            lambda net, x: net.layers[name](x.transpose(1, -1)).transpose(1, -1),
        )
    )


@habit("image")
def written_into(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    def rows(net: Fuzzed, x: Tensor) -> Any:
        y = x.clone()
        y[:, :, 0] = 0
        return y

    def scaled(net: Fuzzed, x: Tensor) -> Any:
        y = x * 1.0
        y[:, :1] *= 2.0
        return y

    def shifted(net: Fuzzed, x: Tensor) -> Any:
        fold = max(1, x.size(1) // 4)
        out = torch.zeros_like(x)
        out[:, :fold, 1:] = x[:, :fold, :-1]
        out[:, fold:] = x[:, fold:]
        return out

    def through_a_view(net: Fuzzed, x: Tensor) -> Any:
        y = x + 0
        y.view(y.size(0), -1).relu_()
        return y

    def filled(net: Fuzzed, x: Tensor) -> Any:
        out = x.new_zeros(x.shape)
        for i in range(x.size(2)):
            out[:, :, i] = x[:, :, i] * (i + 1)
        return out

    def masked(net: Fuzzed, x: Tensor) -> Any:
        return x.masked_fill(x < 0, 0.0)

    def copied(net: Fuzzed, x: Tensor) -> Any:
        y = torch.empty_like(x)
        y.copy_(x)
        return y.clamp_(-1, 1)

    return draw.choice((rows, scaled, shifted, through_a_view, filled, masked, copied))


@habit("image")
def weights_as_functions(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    channels = shape[0]
    name = net.add(nn.Conv2d(channels, channels, 3, padding=1))

    def functional(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[name]
        return F.leaky_relu(F.conv2d(x, layer.weight, layer.bias, padding=1), 0.1)

    def standardised(net: Fuzzed, x: Tensor) -> Any:
        weight: Any = net.layers[name].weight
        weight = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        return F.conv2d(x, weight / (weight.std(dim=(1, 2, 3), keepdim=True) + 1e-5), padding=1)

    def blurred(net: Fuzzed, x: Tensor) -> Any:
        taps = torch.tensor([1.0, 2.0, 1.0])
        kernel = (taps[:, None] * taps[None, :] / 16).repeat(x.size(1), 1, 1, 1)
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), kernel, groups=x.shape[1])

    def dynamic(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[name]
        return F.conv2d(x, layer.weight * x.mean(), padding=1)

    return draw.choice((functional, standardised, blurred, dynamic))


@habit("image", "vector", weight=1.5)
def to_a_vector(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: x.mean([2, 3]),
            lambda _, x: torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1),
            lambda _, x: F.adaptive_max_pool2d(x, 1).squeeze(-1).squeeze(-1),
            lambda _, x: F.avg_pool2d(x, x.size()[2:]).view(x.size(0), -1),
            lambda _, x: x.view(x.shape[0], -1)[:, :40],
            lambda _, x: x.reshape(-1, x[0].numel())[:, ::3],
            lambda _, x: x.flatten(2).permute(0, 2, 1).mean(dim=1),
            lambda _, x: x[..., -1, -1],
            lambda _, x: x.mean(-1).mean(-1),
            lambda _, x: x.amax(dim=(2, 3)) + x.mean(dim=(2, 3)),
            lambda _, x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
            lambda _, x: F.adaptive_avg_pool2d(x, 1).squeeze(),
            lambda _, x: x.view(x.size(0), x.size(1), -1).sum(2),
        )
    )


@habit("image", "tokens", weight=1.5)
def to_tokens(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    patch = net.add(nn.Conv2d(shape[0], 8, 4, 4))
    return draw.choice(
        (
            lambda net, x: net.layers[patch](x).flatten(2).transpose(1, 2),
            lambda _, x: F.avg_pool2d(x, 3).flatten(2).permute(0, 2, 1),
            lambda _, x: x.mean(2).transpose(1, 2),
            lambda _, x: x[:, :, 0].permute(0, 2, 1),
        )
    )


@habit("image", "series")
def to_series(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    return draw.choice(
        (
            lambda _, x: x.mean(dim=2),
            lambda _, x: x.amax(-1),
            lambda _, x: x.flatten(1, 2),
            lambda _, x: F.adaptive_avg_pool2d(x, (1, 16)).squeeze(2),
        )
    )
