"""Random networks with the habits of code that people write: seeded, of a few steps, some of them not exportable.

A network goes from domain to domain: ``image`` (channels, rows, columns), ``series`` (channels, time), ``tokens``
(positions, width) and ``vector`` (features). What is done on the way is drawn from `HABITS`; a habit adds its layers to
the network and returns what its forward does. The size of what comes out is seen by running it.
"""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

Step = Callable[["Fuzzed", Any], Any]
"""What a forward does with a value."""

Maker = Callable[["Fuzzed", random.Random, tuple[int, ...]], Step]
"""Adds layers for a value of a shape, and returns the step; the shape is one sample's."""


@dataclass(frozen=True)
class Habit:
    """A way to write code.

    Attributes:
        name: for the table.
        make: see `Maker`.
        to: the domain of what comes out.
        weight: how often it is drawn, against others.
    """

    name: str
    make: Maker
    to: str
    weight: float


HABITS: dict[str, list[Habit]] = {"image": [], "series": [], "tokens": [], "vector": []}
"""By the domain of what goes in."""


def habit(source: str, to: str | None = None, weight: float = 1.0) -> Callable[[Maker], Maker]:
    """Register a habit for one or several domains; what comes out is in the same one, or in another."""

    def registered(make: Maker) -> Maker:
        for domain in source.split():
            HABITS[domain].append(Habit(make.__name__, make, to or domain, weight))
        return make

    return registered


class Pair(NamedTuple):
    """What a network puts out by name."""

    scores: Tensor
    features: Tensor


Untyped = namedtuple("Untyped", "first second")  # noqa: PYI024 - as people write it


@dataclass
class Holder:
    """An object of one's own around tensors."""

    x: Tensor
    notes: list[str] = field(default_factory=list)


INPUTS: dict[str, tuple[tuple[int, ...], ...]] = {
    "image": ((3, 16, 16), (3, 15, 11), (1, 12, 20), (4, 9, 9), (6, 8, 12)),
    "series": ((1, 32), (3, 25), (6, 17), (8, 40)),
    "tokens": ((10, 8), (7, 12), (16, 6), (12, 16)),
    "vector": ((6,), (16,), (31,)),
}
"""Shapes of one sample."""

DOMAINS = ("image", "image", "image", "series", "series", "tokens", "tokens", "vector")


class Fuzzed(nn.Module):
    """A random network.

    Args:
        seed: of what is drawn; torch's own generator has to be seeded by whoever makes it.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)  # noqa: S311 - no secrets
        self.seed, self.calls = seed, 0
        self.habits: list[str] = []
        self.layers = nn.ModuleDict()
        self.steps: list[Step] = []
        self.last: Tensor | None = None
        self.cache: dict[str, Any] = {}
        domain = draw.choice(DOMAINS)
        self.shape = draw.choice(INPUTS[domain])
        self.domain = domain
        value = torch.randn(3, *self.shape)
        length = draw.randint(2, 6)
        self.eval()
        while len(self.steps) < length:
            domain, value = self.grown(draw, domain, value)
        self.second = draw.random() < 0.12  # a second input of the first one's shape
        self.returns = draw.choice(RETURNS)
        self.head = self.headed(draw, domain, tuple(value.shape[1:]))

    def grown(self, draw: random.Random, domain: str, value: Tensor) -> tuple[str, Tensor]:
        """Add a step that works on a value, and return the domain and what comes out."""
        while True:
            habits = HABITS[domain]
            chosen = draw.choices(habits, [one.weight for one in habits])[0]
            before = set(self.layers)
            try:
                step = chosen.make(self, draw, tuple(value.shape[1:]))
                self.eval()
                with torch.no_grad():
                    result = step(self, value.clone())
            except (RuntimeError, ValueError, IndexError, AssertionError, TypeError, ZeroDivisionError):
                result = None  # it doesn't fit the size
            if _fits(result, chosen.to, len(value)):
                self.steps.append(step)
                self.habits.append(chosen.name)
                return chosen.to, result
            for name in set(self.layers) - before:
                del self.layers[name]

    def headed(self, draw: random.Random, domain: str, shape: tuple[int, ...]) -> nn.Module:
        """Return the last layer, or none."""
        if domain == "vector" and draw.random() < 0.7:
            return nn.Linear(shape[0], draw.choice((1, 3, 10)))
        if domain == "image" and draw.random() < 0.4:
            return nn.Conv2d(shape[0], draw.choice((1, 4)), 1)
        return nn.Identity()

    def add(self, module: nn.Module) -> str:
        """Take a layer, and return its name."""
        name = f"part{len(self.layers)}"
        self.layers[name] = module
        return name

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: float = 1.0, **options: Any) -> Any:
        """Return what the steps come to, in the structure that was drawn."""
        if mask is not None:
            x = x * mask
        for step in self.steps:
            x = step(self, x)
        if options.get("features"):
            return x
        y = self.head(x) if scale == 1.0 else self.head(x) * scale
        return self.returns(x, y)


def _fits(result: object, domain: str, count: int) -> bool:
    """Tell whether what a step gives is of a domain, small, and finite."""
    if not isinstance(result, Tensor) or result.dtype != torch.float32 or len(result.shape) != RANKS[domain]:
        return False
    small = result.numel() // count <= LARGEST and 0 not in result.shape
    return small and len(result) == count and bool(torch.isfinite(result).all()) and float(result.std()) > 1e-4


RANKS = {"image": 4, "series": 3, "tokens": 3, "vector": 2}
LARGEST = 6000

RETURNS: tuple[Callable[[Tensor, Tensor], Any], ...] = (
    *(lambda _, y: y,) * 8,
    lambda x, y: (y, x),
    lambda x, y: [y, x.flatten(1)],
    lambda x, y: {"scores": y, "features": x},
    lambda x, y: {"out": {"a": y, "b": [x]}},
    lambda x, y: Pair(scores=y, features=x),
    lambda x, y: Untyped(first=x, second=y),
    lambda _, y: (y, y),
    lambda _, y: (y, None),
    lambda _, y: [y],
    lambda _, y: (y, y * 2.0),
    lambda _, y: (y.detach(), y.mean(-1)),
)


class Pairing(nn.Module):
    """A network of two inputs around one of one."""

    def __init__(self, inner: Fuzzed) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, left: Tensor, right: Tensor) -> Any:
        """Return the inner network's outputs for what both make together."""
        return self.inner(torch.sub(left, right, alpha=0.5))


def fuzzed(seed: int) -> tuple[nn.Module, dict[str, tuple[int, ...]], list[str]]:
    """Return a network in evaluation mode, its inputs' shapes by name, and the names of its habits."""
    torch.manual_seed(seed)
    network = Fuzzed(seed)
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for tensor in network.parameters():
        if bool((tensor == 0.0).all()):
            tensor.data.normal_(0.0, 0.1, generator=generator)
    if network.second:
        return Pairing(network).eval(), {"left": network.shape, "right": network.shape}, ["two inputs", *network.habits]
    return network.eval(), {"x": network.shape}, network.habits


ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.SiLU, nn.LeakyReLU, nn.Identity, nn.Hardsigmoid, nn.GELU,
    nn.ELU, nn.Mish, nn.Softplus, nn.PReLU, lambda: nn.ReLU(inplace=True), lambda: nn.Hardtanh(-2.0, 2.0),
    lambda: nn.LeakyReLU(0.2, inplace=True), lambda: nn.SiLU(inplace=True),
)  # fmt: skip


def activation(draw: random.Random) -> nn.Module:
    """Return one of the usual ones."""
    return draw.choice(ACTIVATIONS)()


def parts(size: int) -> Iterator[int]:
    """Yield what divides a size, without 1 and itself."""
    return (part for part in range(2, size) if size % part == 0)
