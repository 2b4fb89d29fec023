"""Random convolutional networks over everything that is traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own idiom
from torch import Tensor, nn

from qanas.layers.images import ChannelShuffle, SameAvgPool2d, SameConv2d, SameMaxPool2d

Network = TypeVar("Network", bound=nn.Module)

LARGEST = 4096
"""Numbers of a value at most, so that a network is computed in milliseconds."""


@dataclass
class Made:
    """One step of a network.

    Attributes:
        layer: what is computed.
        sources: positions of the values that it takes.
        kind: what a count of combinations knows it by.
    """

    layer: nn.Module
    sources: tuple[int, ...]
    kind: str


class Two(nn.Module):
    """A function of two values, the first one through a layer that fits it to the second one."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], fit: nn.Module) -> None:
        super().__init__()
        self.function, self.fit = function, fit

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.function(self.fit(one), other)


class One(nn.Module):
    """A function of one value."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def unchanged(x: Tensor) -> Tensor:
    return x


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int, gate: nn.Module) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, 3, 1)
        self.excite = nn.Conv2d(3, channels, 1)
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        gate: Tensor = self.gate(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return x * gate


class RandomNetwork(nn.Module):
    """A chain in which some steps take an earlier value as well."""

    def __init__(self, steps: list[Made]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(step.layer for step in steps)
        self.sources = [step.sources for step in steps]
        self.kinds = [step.kind for step in steps]

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer(*(values[source] for source in sources)))
        return values[-1]


ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Sigmoid,
    nn.Tanh,
    nn.SiLU,
    lambda: nn.LeakyReLU(0.1),
)


@dataclass
class Maker:
    """Draws steps one after the other and keeps the shapes of their results.

    Attributes:
        random: where draws come from.
        shapes: (channels, rows, columns) of every value so far.
        steps: so far.
    """

    random: Random
    shapes: list[tuple[int, int, int]]
    steps: list[Made] = field(default_factory=list)

    @property
    def last(self) -> tuple[int, int, int]:
        return self.shapes[-1]

    def append(self, layer: nn.Module, kind: str, *others: int) -> None:
        """Append a step that takes the last value, and others."""
        sources = (*others, len(self.shapes) - 1)
        # Running statistics must not follow from this.
        layer.eval()
        with torch.no_grad():
            result = layer(*(torch.zeros(1, *self.shapes[source]) for source in sources))
        self.steps.append(Made(layer, sources, kind))
        self.shapes.append(tuple(result.shape[1:]))

    def convolution(self) -> None:
        """Any convolution: taps, stride, dilation, groups, padding, batch norm, activation."""
        channels, rows, columns = self.last
        groups = self.random.choice([n for n in range(1, channels + 1) if channels % n == 0])
        outputs = groups * self.random.randint(1, 1 + 8 // groups)
        taps = [self.random.choice([1, 1, 2, 3, 3, 5]) for _ in range(2)]
        dilation = [self.random.choice([1, 1, 2, 3]) for _ in range(2)]
        stride = [self.random.choice([1, 1, 2, 3]) for _ in range(2)]
        style = self.random.choice(["symmetric", "SAME", "asymmetric", "same"])
        reach = [(tap - 1) * gap + 1 for tap, gap in zip(taps, dilation, strict=True)]
        kernel, step, gaps = (taps[0], taps[1]), (stride[0], stride[1]), (dilation[0], dilation[1])
        bias = self.random.random() < 0.6
        layers: list[nn.Module] = []
        if style == "SAME":
            layers.append(SameConv2d(channels, outputs, kernel, stride=step, dilation=gaps, groups=groups, bias=bias))
        elif style == "same" and all(reached % 2 for reached in reach):
            layers.append(nn.Conv2d(channels, outputs, kernel, 1, "same", gaps, groups, bias))
        else:
            least = [max(0, -(-(size - side) // 2)) for size, side in zip(reach, (rows, columns), strict=True)]
            pads = [self.random.randint(low, low + 2) for low in least]
            if style == "asymmetric":
                layers.append(nn.ZeroPad2d((2 * pads[1], 0, pads[0], pads[0])))
                pads = [0, 0]
            layers.append(nn.Conv2d(channels, outputs, kernel, step, (pads[0], pads[1]), gaps, groups, bias))
        if self.random.random() < 0.5:
            layers.append(nn.BatchNorm2d(outputs))
        activation = self.random.choice(ACTIVATIONS[:3])()
        layers.append(activation)
        how = "by channel" if groups == channels > 1 else "in groups" if groups > 1 else "whole"
        strides, gaps_name = ("1" if max(pair) == 1 else "more" for pair in (stride, dilation))
        kind = f"convolution {how} {style} stride {strides} dilation {gaps_name} {type(activation).__name__}"
        self.append(nn.Sequential(*layers), kind)

    def again(self) -> None:
        """A layer of an earlier step, with its weights, where there is one that fits."""
        alone = [step for step in self.steps if len(step.sources) == 1 and step.kind.startswith("convolution")]
        fitting = [step for step in alone if self._fits(*self.shapes[step.sources[0]])]
        if fitting:
            self.append(self.random.choice(fitting).layer, "again")

    def _fits(self, channels: int, rows: int, columns: int) -> bool:
        """Tell whether a layer for such a shape takes the last value: a kernel needs room."""
        return channels == self.last[0] and rows <= self.last[1] and columns <= self.last[2]

    def pool(self) -> None:
        """A pool of any kind that the image has room for."""
        _, rows, columns = self.last
        size = self.random.randint(1, min(3, rows, columns))
        stride = self.random.randint(1, 2)
        padding = self.random.randint(0, size // 2)
        name, layer = self.random.choice(
            [
                ("max", nn.MaxPool2d(size, stride, padding)),
                ("max ceil", nn.MaxPool2d(size, stride, padding, ceil_mode=True)),
                ("average", nn.AvgPool2d(size, stride, padding)),
                ("average of what is there", nn.AvgPool2d(size, stride)),
                ("max SAME", SameMaxPool2d(3, 2)),
                ("average SAME", SameAvgPool2d(3, 2)),
            ]
        )
        self.append(layer, f"pool {name}")

    def resize(self) -> None:
        """Nearest or bilinear, to about twice the size or less."""
        channels, rows, columns = self.last
        size = (self.random.randint(1, 2 * rows), self.random.randint(1, 2 * columns))
        if channels * size[0] * size[1] > LARGEST:
            return
        mode = self.random.choice(["nearest", "nearest-exact", "bilinear"])
        self.append(nn.Upsample(size, mode=mode), f"resize {mode}")

    def activation(self) -> None:
        """One that stands alone, or is fused."""
        layer = self.random.choice(ACTIVATIONS)()
        self.append(layer, f"activation {type(layer).__name__}")

    def joined(self) -> None:
        """A sum, a product or a concatenation with an earlier value."""
        channels, *size = self.last
        alike = [number for number, shape in enumerate(self.shapes) if list(shape[1:]) == size]
        other = self.random.choice(alike)
        kind = self.random.choice(["sum", "product", "concatenation", "wide concatenation", "parts within parts"])
        if kind == "concatenation":
            self.append(Two(lambda one, two: torch.cat([one, two], 1), nn.Identity()), kind, other)
        elif kind == "parts within parts":
            self.append(Two(self.parts_within_parts(self.shapes[other][0]), nn.Identity()), kind, other)
        elif kind == "wide concatenation":
            outputs = self.random.randint(1, 5)
            pool = nn.MaxPool2d(3, 1, 1)
            fit: nn.Module = nn.Sequential(nn.Conv2d(self.shapes[other][0], outputs, 1), nn.ReLU(), pool)
            self.append(Two(lambda one, two: torch.cat([two, one, torch.sigmoid(two)], 1), fit), kind, other)
        else:
            fits = self.shapes[other][0] == channels and self.random.random() < 0.5
            fit = nn.Identity() if fits else nn.Conv2d(self.shapes[other][0], channels, 1)
            function = torch.add if kind == "sum" else torch.mul
            self.append(Two(function, fit), kind, other)

    def parts_within_parts(self, width: int) -> Callable[[Tensor, Tensor], Tensor]:
        """Parts of one value side by side, beside another value or its function, up to three deep.

        Args:
            width: channels of the first value.
        """
        levels: list[tuple[int, int, Callable[[Tensor], Tensor]]] = []
        activations: list[Callable[[Tensor], Tensor]] = [torch.relu, torch.tanh, unchanged]
        for _ in range(self.random.randint(1, 3)):
            first, last = self.random.randint(1, width), self.random.randint(1, width)
            levels.append((first, last, self.random.choice(activations)))
            width = first + last + self.last[0]

        def function(one: Tensor, two: Tensor) -> Tensor:
            for first, last, activation in levels:
                parts = torch.cat([one[:, -last:], one[:, :first]], 1)
                one = torch.cat([parts, activation(two)], 1)
            return one

        return function

    def rearranged(self) -> None:
        """What torch does to shapes."""
        channels, rows, columns = self.last
        even = [n for n in range(2, channels) if channels % n == 0]
        choices: list[tuple[str, nn.Module]] = [
            ("transposed image", One(lambda x: x.transpose(2, 3))),
            ("rows as channels", One(lambda x: x.permute(0, 2, 1, 3))),
            ("cut out", One(lambda x: x[:, :, rows // 3 :, : 1 + columns // 2])),
            ("every second channel", One(lambda x: x[:, ::2])),
            ("padded", One(lambda x: F.pad(x, (1, 0, 0, 2)))),
            ("constant", One(lambda x: 0.5 - x / torch.arange(1.0, channels + 1)[:, None, None])),
        ]
        if even:
            groups = self.random.choice(even)
            choices += [
                ("shuffle", ChannelShuffle(groups)),
                ("shuffle", nn.ChannelShuffle(groups)),
                ("second part", One(lambda x: x.chunk(groups, 1)[1])),
                ("parts added up", One(lambda x: torch.unflatten(x, 1, (groups, -1))[:, 0] + x.chunk(groups, 1)[-1])),
            ]
        kind, layer = self.random.choice(choices)
        self.append(layer, kind)

    def gated(self) -> None:
        """Squeeze and excite."""
        gate = self.random.choice([nn.Sigmoid, nn.Hardsigmoid])()
        self.append(Gate(self.last[0], gate), f"gate {type(gate).__name__}")

    def head(self) -> None:
        """What a network ends with."""
        channels, rows, columns = self.last
        whole = channels * rows * columns
        layers: dict[str, list[nn.Module]] = {
            "none": [nn.Identity()],
            "map": [nn.Conv2d(channels, 3, 1)],
            "mean and linear": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)],
            "flatten and linear": [nn.Flatten(), nn.Linear(whole, 4), nn.ReLU(), nn.Linear(4, 2)],
            "softmax": [nn.Softmax(1)],
            "flatten": [nn.Flatten()],
        }
        kind = self.random.choice(list(layers))
        self.append(nn.Sequential(*layers[kind]), f"head {kind}")


def random_network(seed: int) -> tuple[RandomNetwork, tuple[int, int, int]]:
    """Return a network and the shape of its input."""
    random = Random(seed)  # noqa: S311 - a test's
    torch.manual_seed(seed)
    shape = (random.randint(1, 6), random.randint(3, 12), random.randint(3, 12))
    maker = Maker(random, [shape])
    choices = [maker.convolution] * 5 + [maker.joined] * 3 + [maker.rearranged] * 2
    choices += [maker.pool, maker.resize, maker.activation, maker.gated]
    for _ in range(random.randint(1, 6)):
        random.choice(choices)()
    maker.head()
    network = RandomNetwork(maker.steps)
    return _with_statistics(network), shape


class Several(nn.Module):
    """A network of several inputs and outputs, which it returns in one of the ways in which networks do."""

    def __init__(self, steps: list[Made], chosen: list[int], returned: str) -> None:
        super().__init__()
        self.layers = nn.ModuleList(step.layer for step in steps)
        self.sources = [step.sources for step in steps]
        self.chosen, self.returned = chosen, returned

    def computed(self, *inputs: Tensor) -> Any:  # noqa: ANN401 - a tuple, a list, a dict or what is nested
        values = list(inputs)
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer(*(values[source] for source in sources)))
        outputs = [values[place] for place in self.chosen]
        ways: dict[str, Any] = {
            "tuple": tuple(outputs),
            "list": outputs,
            "dict": {f"head {number}": output for number, output in enumerate(outputs)},
            "nested": {"first": outputs[:1], "rest": tuple(outputs[1:]), "nothing": None},
        }
        return ways[self.returned]


class OneInput(Several):
    def forward(self, x: Tensor) -> Any:  # noqa: ANN401 - see `computed`
        return self.computed(x)


class TwoInputs(Several):
    def forward(self, x: Tensor, state: Tensor) -> Any:  # noqa: ANN401 - see `computed`
        return self.computed(x, state)


class ThreeInputs(Several):
    def forward(self, left: Tensor, right: Tensor, output_0: Tensor) -> Any:  # noqa: ANN401 - see `computed`
        return self.computed(left, right, output_0)


SEVERAL = {
    OneInput: ("x",),
    TwoInputs: ("x", "state"),
    ThreeInputs: ("left", "right", "output_0"),
}
"""By the names of their inputs, one of which is that of an output as well."""


def random_several(seed: int) -> tuple[Several, dict[str, tuple[int, int, int]]]:
    """Return a network of 1 to 3 inputs and 1 to 3 outputs, some of its layers used again, and its inputs' shapes."""
    random = Random(seed)  # noqa: S311 - a test's
    torch.manual_seed(seed)
    kind = random.choice(list(SEVERAL))
    size = (random.randint(3, 10), random.randint(3, 10))
    shapes = [(random.randint(1, 5), *size) for _ in SEVERAL[kind]]
    maker = Maker(random, list(shapes))
    choices = [maker.convolution] * 4 + [maker.joined] * 3 + [maker.again] * 3 + [maker.rearranged]
    choices += [maker.pool, maker.activation, maker.gated]
    for _ in range(random.randint(1, 6)):
        random.choice(choices)()
    for number, shape in enumerate(shapes):
        squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(shape[0], maker.last[0], 1), nn.Sigmoid())
        maker.append(Two(torch.mul, squeeze), "gated by an input", number)
    last = len(maker.shapes) - 1
    chosen = [last, *(random.randrange(len(maker.shapes)) for _ in range(random.randint(0, 2)))]
    if random.random() < 0.5:
        maker.head()
        chosen[0] = last + 1
    random.shuffle(chosen)
    network = kind(maker.steps, chosen, random.choice(["tuple", "list", "dict", "nested"]))
    return _with_statistics(network), dict(zip(SEVERAL[kind], shapes, strict=True))


def _with_statistics(network: Network) -> Network:
    """Give batch norms the statistics of a training, and weights channels of different sizes."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                assert tensor is not None
                nn.init.normal_(tensor, 0.2, 0.7)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.2, 2.0)
        elif isinstance(module, nn.Conv2d):
            with torch.no_grad():
                module.weight.mul_(10.0 ** torch.empty(len(module.weight), 1, 1, 1).uniform_(-0.7, 0.7))
    return network.eval()
