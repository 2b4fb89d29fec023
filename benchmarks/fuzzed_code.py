"""Habits of code that any network may have: around layers, in classes, in the way forward is written."""

# mypy: disable-error-code="arg-type, attr-defined, index, no-untyped-call, operator"

from __future__ import annotations

import functools
import random
import warnings
from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from fuzzed_modules import Fuzzed, Holder, Step, activation, habit

Shape = tuple[int, ...]
EVERYWHERE = "image series tokens vector"
CHANNELS = "image series"


def mixing(shape: Shape, out: int | None = None) -> nn.Module:
    """Return a layer that keeps the domain: of an image, a series, tokens or a vector."""
    if len(shape) == 3:
        return nn.Conv2d(shape[0], out or shape[0], 3, padding=1)
    if len(shape) == 2:
        return nn.Linear(shape[1], out or shape[1])
    return nn.Linear(shape[0], out or shape[0])


@habit(EVERYWHERE)
def asserted(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(mixing(shape))

    def step(net: Fuzzed, x: Tensor) -> Any:
        assert x.dim() == len(shape) + 1, f"{x.shape}"
        assert isinstance(x, torch.Tensor)
        torch._assert(x.shape[1] == shape[0], "another size")
        if x.shape[1:].numel() != int(torch.tensor(shape).prod()):
            raise ValueError(f"expected {shape}, got {tuple(x.shape)}")
        torch._check(x.size(-1) > 0)
        return net.layers[name](x)

    return step


@habit(EVERYWHERE)
def told(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(mixing(shape))

    def step(net: Fuzzed, x: Tensor) -> Any:
        _ = f"{x.shape} {x.dtype} {x.device} {x!r}"
        net.cache["shape"] = x.shape
        if torch.jit.is_scripting() or torch.jit.is_tracing():
            return x
        if not x.is_contiguous():
            x = x.contiguous()
        return net.layers[name](x)

    return step


@habit(EVERYWHERE)
def hooked(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    layer = mixing(shape)
    which = draw.randint(0, 5)
    if which == 0:
        layer.register_forward_hook(lambda _, __, output: output * 1.5)
    elif which == 1:
        layer.register_forward_pre_hook(lambda _, given: (given[0].clamp(-1, 1),))
    elif which == 2:
        layer.register_forward_hook(lambda _, given, __: net.cache.update(seen=given[0].shape))
    elif which == 3:
        layer.register_forward_pre_hook(lambda _, given, named: ((given[0] + 0.1,), named), with_kwargs=True)
    elif which == 4:
        layer.register_forward_hook(lambda _, __, output: output.relu_() and None)
    else:
        layer.register_forward_hook(lambda _, __, ___: None)
    name = net.add(layer)
    return lambda net, x: net.layers[name](x)


@habit(EVERYWHERE)
def replaced_forward(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    layer = mixing(shape)
    own = layer.forward
    layer.forward = draw.choice((lambda x: own(x) + 0.25, functools.partial(lambda x, by: own(x) * by, by=0.5)))
    name = net.add(layer)
    return lambda net, x: net.layers[name](x)


@habit(EVERYWHERE)
def reparametrised(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    layer = mixing(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = draw.choice(
            (
                torch.nn.utils.parametrizations.weight_norm,
                torch.nn.utils.parametrizations.spectral_norm,
                torch.nn.utils.weight_norm,
                torch.nn.utils.spectral_norm,
            )
        )(layer)
    name = net.add(nn.Sequential(layer, activation(draw)))
    return lambda net, x: net.layers[name](x)


@habit(EVERYWHERE)
def dropped(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(nn.Dropout(0.3))
    return draw.choice(
        (
            lambda net, x: net.layers[name](x) * 2,
            lambda net, x: F.dropout(x, 0.2, net.training),
            lambda net, x: F.dropout(x, p=0.0),
            lambda net, x: F.dropout(x, 0.4),
            lambda net, x: F.dropout(x, 0.2, training=net.training, inplace=True) + 0.1,
            lambda net, x: x + torch.randn_like(x) if net.training else x * 0.9,
            lambda net, x: x + 0.1 * torch.rand_like(x),
        )
    )


@habit(EVERYWHERE)
def shared(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(mixing(shape))
    act = activation(draw)
    net.add(act)
    count = draw.choice((2, 3))

    def step(net: Fuzzed, x: Tensor) -> Any:
        for _ in range(count):
            x = act(net.layers[name](x))
        return x

    def tied(net: Fuzzed, x: Tensor) -> Any:
        layer: Any = net.layers[name]
        y = layer(x)
        return F.linear(y, layer.weight) if isinstance(layer, nn.Linear) else layer(y) + x

    return draw.choice((step, tied))


@habit(EVERYWHERE)
def contained(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    layers = OrderedDict((key, mixing(shape)) for key in ("first", "second"))
    kind = draw.choice((nn.Sequential, nn.ModuleDict, lambda given: nn.ModuleList(given.values())))
    name = net.add(kind(layers))

    def step(net: Fuzzed, x: Tensor) -> Any:
        held: Any = net.layers[name]
        if isinstance(held, nn.Sequential):
            found = x
            for one in held.children():
                found = one(found)
            return found
        entries = held.values() if isinstance(held, nn.ModuleDict) else held
        return sum(one(x) for one in entries)

    return draw.choice(
        (
            step,
            step,
            lambda net, x: functools.reduce(lambda y, one: torch.relu(one(y)), net.layers[name].children(), x),
            lambda net, x: torch.stack([one(x) for one in net.layers[name].children()], dim=1).mean(dim=1),
            lambda net, x: torch.stack([one(x) for one in net.layers[name].children()]).sum(0),
            lambda net, x: torch.cat([one(x)[..., None] for one in net.layers[name].children()], -1).max(-1)[0],
        )
    )


@habit(EVERYWHERE)
def optional_arguments(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.skip = mixing(shape), None
            self.register_parameter("gamma", None)
            self.register_buffer("scale", torch.tensor(0.7), persistent=False)

        def forward(self, x: Tensor, mask: Tensor | None = None, flag: bool = True, *args: Any, **kwargs: Any) -> Any:
            y = self.layer(input=x)
            if mask is not None:
                y = y * mask
            if self.gamma is not None:
                y = y * self.gamma
            if kwargs.get("double", False):
                y = y * 2
            return (y * self.scale, None) if flag else (x, y)

    name = net.add(Block())
    return draw.choice(
        (
            lambda net, x: net.layers[name](x)[0],
            lambda net, x: net.layers[name](x, double=True)[0],
            lambda net, x: net.layers[name](x=x, flag=False)[1],
            lambda net, x: net.layers[name](x, torch.ones_like(x))[0],
        )
    )


@habit(EVERYWHERE)
def with_numbers(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    own = nn.Module()
    own.register_buffer("mean", torch.randn(shape[0]).reshape(-1, *[1] * (len(shape) - 1)))
    own.register_parameter("factor", nn.Parameter(torch.rand(shape[-1]) + 0.5))
    own.register_parameter("one", nn.Parameter(torch.tensor([0.8])))
    name = net.add(own)
    return draw.choice(
        (
            lambda net, x: (x - net.layers[name].mean) / 0.5,
            lambda net, x: x * net.layers[name].factor + net.layers[name].one,
            lambda net, x: net.layers[name].one * x,
            lambda net, x: 1 - x,
            lambda net, x: 2 / (3 + x.abs()),
            lambda net, x: -x.neg() + x,
            lambda net, x: x * net.layers[name].one.item(),
            lambda net, x: torch.true_divide(x, 3).sub(1).mul_(2),
            lambda net, x: x.mul(net.layers[name].factor.exp()).add(1, alpha=2),
            lambda net, x: torch.clamp(x, -1.5, 2.0),
            lambda net, x: torch.clamp(x, min=0.2) + x.clip(max=1),
            lambda net, x: torch.max(x, torch.zeros_like(x)),
            lambda net, x: torch.minimum(x, torch.tensor(1.0)),
            lambda net, x: torch.maximum(x, -0.5 * x),
            lambda net, x: torch.ones_like(x) * 0.5 + x,
            lambda net, x: x + torch.full_like(x, 0.1) + torch.zeros(x.shape),
            lambda net, x: x + x.new_tensor([0.5]) + x.new_full((1,), 0.2),
            lambda net, x: x + torch.tensor(0.3, dtype=x.dtype, device=x.device),
            lambda net, x: x.double().float() if draw is None else x.float().to(torch.float32).to("cpu"),
            lambda net, x: x.type_as(net.layers[name].one) * x.new_ones(1),
            lambda net, x: x.half().float(),
            lambda net, x: x - x.mean(0),
            lambda net, x: x / x.shape[-1] + len(x.shape),
            lambda net, x: x * (x.size(1) ** -0.5),
            lambda net, x: torch.addcmul(x, x, x, value=0.1),
            lambda net, x: x.pow(2).mean(-1, keepdim=True).add(1e-3).rsqrt() * x,
            lambda net, x: x**3 * 0.1 + x**0.0,
            lambda net, x: torch.sqrt(F.relu(x) + 0.1),
            lambda net, x: x.lerp(x * 0.5, 0.3),
            lambda net, x: x.abs_() + 1.0,
            lambda net, x: x.sigmoid_().mul(4.0),
            lambda net, x: torch.erf(x) + x.floor() * 0.1,
            lambda net, x: x.mean() + x,
            lambda net, x: x if x.sum() > 0 else -x,
            lambda net, x: x * float(x.shape[0]),
            lambda net, x: x[torch.arange(x.size(0))],
            lambda net, x: x * (torch.rand(1).item() + 0.5),
        )
    )


@habit(EVERYWHERE)
def axes_back_and_forth(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(mixing(shape))
    return draw.choice(
        (
            lambda net, x: net.layers[name](x.view(x.size(0), -1).view(x.shape)),
            lambda net, x: x.flatten(1).reshape_as(x) * 2,
            lambda net, x: x.unsqueeze(1).squeeze(1) + x[None].squeeze(0),
            lambda net, x: x.unsqueeze(-1).expand(*x.shape, 3).mean(-1) * 1.5,
            lambda net, x: x.repeat(1, *[2] * (x.dim() - 1)) if x.numel() < 500 else x + 1,
            lambda net, x: net.layers[name](torch.flip(x, [1])),
            lambda net, x: torch.roll(x, 2, 1),
            lambda net, x: net.layers[name](x).transpose(1, -1).transpose(-1, 1),
            lambda net, x: x.transpose(0, 1).transpose(0, 1).contiguous() * 0.7,
            lambda net, x: x.reshape(x.shape[0], -1, 1).squeeze(2).view(*x.shape) + 1,
            lambda net, x: torch.repeat_interleave(x, 2, dim=1),
            lambda net, x: torch.cat([x[:, 1:], x[:, :1]], dim=1),
            lambda net, x: torch.cat(x.split(1, dim=1)[::-1], 1),
            lambda net, x: torch.stack(x.unbind(1), 1) * 1.1,
            lambda net, x: x.as_strided(x.size(), x.stride()),
            lambda net, x: torch.concat((x, x.clone().detach()), 1),
            lambda net, x: x.squeeze() if x.dim() > 4 else x.contiguous().view(len(x), *shape) - 0.5,
            lambda net, x: x[:, :].clone()[..., :],
            lambda net, x: x.view(-1).view_as(x) * 0.5,
            lambda net, x: x.ravel().reshape(x.size()) + 0.5,
            lambda net, x: torch.atleast_2d(x) * 2,
            lambda net, x: x.tile((1, 2) + (1,) * (x.dim() - 2)),
            lambda net, x: x.T.T * 0.5 if x.dim() == 2 else x.mT.mT * 0.5,
        )
    )


@habit(EVERYWHERE)
def states(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(mixing(shape))

    def counted(net: Fuzzed, x: Tensor) -> Any:
        net.calls += 1
        return net.layers[name](x)

    def growing(net: Fuzzed, x: Tensor) -> Any:
        net.calls += 1
        return net.layers[name](x) * (1.0 + 0.1 * net.calls)

    def kept(net: Fuzzed, x: Tensor) -> Any:
        last = net.last if net.last is not None else torch.zeros(1)
        y = net.layers[name](x)
        net.last = y.detach().mean()
        return y + last

    def cached(net: Fuzzed, x: Tensor) -> Any:
        key = f"table {name}"
        if key not in net.cache or net.cache[key].shape != x.shape[1:]:
            net.cache[key] = torch.linspace(0, 1, x[0].numel()).view(x.shape[1:])
        return net.layers[name](x) + net.cache[key]

    def remembered(net: Fuzzed, x: Tensor) -> Any:
        y = net.layers[name](x)
        net.cache["features"] = y
        return y * 0.5 + net.cache.pop("features")

    return draw.choice((counted, growing, kept, cached, remembered))


@habit(EVERYWHERE)
def objects(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:  # noqa: C901 - one of several
    name = net.add(mixing(shape))

    def step(net: Fuzzed, x: Tensor) -> Any:
        held = Holder(x)
        held.x = net.layers[name](held.x)
        held.notes.append(str(held.x.shape))
        return held.x

    def guarded(net: Fuzzed, x: Tensor) -> Any:
        try:
            return net.layers[name](x)
        except RuntimeError:
            return x

    def guarded_against_all(net: Fuzzed, x: Tensor) -> Any:
        try:
            return torch.special.i0(x) * 0.3
        except Exception:  # noqa: BLE001 - as people write it
            return x

    def without_gradients(net: Fuzzed, x: Tensor) -> Any:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            y = net.layers[name](x.detach())
        return y.requires_grad_(False)

    def checkpointed(net: Fuzzed, x: Tensor) -> Any:
        return torch.utils.checkpoint.checkpoint(net.layers[name], x, use_reentrant=False)

    def through_numpy(net: Fuzzed, x: Tensor) -> Any:
        return torch.from_numpy(x.detach().numpy() * 2)

    def by_loop_over_samples(net: Fuzzed, x: Tensor) -> Any:
        return torch.stack([one * 2 for one in x])

    def lists(net: Fuzzed, x: Tensor) -> Any:
        found: list[Tensor] = [x]
        while len(found) < 3:
            found.append(net.layers[name](found[-1]))
        return found[0] + found.pop()

    return draw.choice(
        (
            step,
            guarded,
            guarded_against_all,
            without_gradients,
            checkpointed,
            through_numpy,
            by_loop_over_samples,
            lists,
        )
    )


@habit(EVERYWHERE)
def scripted(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    layer = mixing(shape)
    if draw.random() < 0.2:
        name = net.add(torch.jit.script(layer))
        return lambda net, x: net.layers[name](x)
    name = net.add(layer)
    return lambda net, x: _scaled(net.layers[name](x), 0.5)


def _plainly_scaled(x: Tensor, by: float) -> Tensor:
    return torch.tanh(x) * by


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch.jit is deprecated, and still in use
    _scaled = torch.jit.script(_plainly_scaled)


@habit(EVERYWHERE)
def einsums(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    axes = "cdef"[: len(shape)]
    weight = net.add(nn.Linear(shape[0], shape[0], bias=False))
    return draw.choice(
        (
            lambda net, x: torch.einsum(f"b{axes},gc->bg{axes[1:]}", x, net.layers[weight].weight),
            lambda net, x: torch.einsum(f"b{axes},b{axes}->b{axes}", x, x.sigmoid()),
            lambda net, x: torch.tensordot(x, net.layers[weight].weight, dims=([1], [1])).movedim(-1, 1),
        )
    )


@habit(EVERYWHERE, weight=0.7)
def activated(net: Fuzzed, draw: random.Random, shape: Shape) -> Step:
    name = net.add(activation(draw))
    return draw.choice(
        (
            lambda net, x: net.layers[name](x),
            lambda net, x: x * net.layers[name](x),
            lambda net, x: getattr(F, ["relu", "silu", "gelu", "hardswish", "mish"][x.dim() - 1])(x),
            lambda net, x: x.relu().add(x.tanh()),
            lambda net, x: F.threshold(x, 0.1, 0.0),
            lambda net, x: F.rrelu(x) + F.celu(x, 0.5),
            lambda net, x: torch.relu_(x.clone()),
        )
    )
