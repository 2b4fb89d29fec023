"""Network morphisms (Wei et al. 2016; Elsken et al. 2017): changes of a graph that keep what its network computes.

Each is a `Step`, data that says what is done where. It changes a graph without weights, and the weights of a network of
that graph. What keeps the function keeps it in evaluation mode, up to rounding; in training mode batch norms that are
put in have the statistics that their inputs are expected to have, so that it is nearly kept, too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from qanas.networks.graph import INPUT, JOINTS, SUMS, Graph, Layer

Kind = Literal["deeper", "wider", "mix", "concat", "kernel", "narrower", "separable", "compound"]
KINDS: tuple[Kind, ...] = get_args(Kind)

WIDER = (1.25, 1.5, 2.0, 4.0)
NARROWER = (0.5, 0.75)
COMPOUND = 1.2
"""Factor on all widths of a compound step, near EfficientNet's 1.1 (its depth grows by 1.2, its resolution by 1.15)."""

FEWEST_CHANNELS = 2
LEAST_VARIANCE = 1e-3
"""Of a channel in front of a batch norm that is put in: those that are never active have none."""

Tensors = dict[str, Tensor]
Weights = dict[int, Tensors]
"""The tensors of each layer by its number, and of the classifier as `HEAD`."""

HEAD = 0


def weights_of(state: Mapping[str, Tensor]) -> Weights:
    """Return a state dict of a `GraphNetwork`, tensors of any shapes, by layer."""
    found: Weights = {}
    for name, tensor in state.items():
        first, _, rest = name.partition(".")
        number, _, own = rest.partition(".")
        key, own = (int(number) + 1, own) if first == "layers" else (HEAD, name)
        found.setdefault(key, {})[own] = tensor
    return found


def state_of(weights: Weights) -> dict[str, Tensor]:
    """Return the state dict, tensors of any shapes, of weights by layer."""
    return {
        own if number == HEAD else f"layers.{number - 1}.{own}": tensor.contiguous()
        for number, tensors in weights.items()
        for own, tensor in tensors.items()
    }


@dataclass(frozen=True)
class Bounds:
    """How far networks grow.

    Attributes:
        most_layers: of a graph, joints and pools among them.
        most_channels: of a layer's output.
        most_taps: of a kernel, a side.
    """

    most_layers: int = 40
    most_channels: int = 512
    most_taps: int = 7


@dataclass(frozen=True)
class Step:
    """One morphism of a graph.

    Attributes:
        kind: which.
        place: number of the layer that it concerns.
        amount: channels, or taps, of what comes out.
        other: number of a second layer; of ``deeper`` 1 where what is put in is separable.
        seed: of what is random about weights.
    """

    kind: Kind
    place: int
    amount: int = 0
    other: int = 0
    seed: int = 0


class Morphism(ABC):
    """A kind of step."""

    keeps: ClassVar[bool] = True
    """Whether the network computes what it did."""

    @abstractmethod
    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return every step that a graph can take."""

    @abstractmethod
    def graph(self, graph: Graph, step: Step) -> Graph:
        """Return the graph behind a step."""

    @abstractmethod
    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Return the weights behind a step.

        Args:
            graph: in front of it.
            step: that is taken.
            weights: in front of it; they stay as they are.
        """


# Layers that are put in


def _inserted(graph: Graph, at: int, layer: Layer, instead_of: int, consumers: Sequence[int]) -> Graph:
    """Return a graph with a further layer, the number ``at + 1``, that some layers take instead of another one."""

    def moved(number: int, source: int) -> int:
        if source == instead_of and number in consumers:
            return at + 1
        return source if source <= at else source + 1

    layers = [replace(graph[n], inputs=tuple(moved(n, source) for source in graph[n].inputs)) for n in graph.numbers]
    return Graph((*layers[:at], layer, *layers[at:]))


def _moved(weights: Weights, at: int, tensors: Tensors) -> Weights:
    """Return weights by the numbers that layers have when one is put in behind the layer ``at``."""
    found = {number if number <= at else number + 1: own for number, own in weights.items()}
    return {**found, at + 1: tensors} if tensors else found


class Deeper(Morphism):
    """A convolution behind a layer that passes on what it is given."""

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each layer, of 3 and of 5 taps, plain and separable."""
        if len(graph) >= bounds.most_layers:
            return
        for number in graph.numbers:
            for taps in (3, 5):
                if taps <= bounds.most_taps:
                    yield Step("deeper", number, taps, 0)
                    yield Step("deeper", number, taps, 1)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Put the convolution in, of as many channels as there are."""
        # Channels never hang on those of the input: what is put in stands behind a convolution somewhere.
        channels = graph.widths(0)[step.place]
        layer = Layer("separable" if step.other else "conv", (step.place,), channels, step.amount)
        return _inserted(graph, step.place, layer, step.place, graph.consumers(step.place))

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Put in one tap of 1 a channel, and a batch norm that undoes itself."""
        mean, variance = moments(graph, weights)[step.place]
        channels, taps = len(mean), step.amount
        like = mean.new_zeros
        if step.other:
            depthwise, pointwise = like(channels, 1, taps, taps), torch.eye(channels, dtype=mean.dtype)
            depthwise[:, 0, taps // 2, taps // 2] = 1.0
            own = {"depthwise.weight": depthwise, "pointwise.conv.weight": pointwise[:, :, None, None]}
        else:
            conv = like(channels, channels, taps, taps)
            conv[range(channels), range(channels), taps // 2, taps // 2] = 1.0
            own = {"conv.weight": conv}
        prefix = "pointwise.norm." if step.other else "norm."
        variance = variance.clamp(min=LEAST_VARIANCE)
        norm = {
            "weight": torch.sqrt(variance + EPSILON),
            "bias": mean,
            "running_mean": mean,
            "running_var": variance,
            "num_batches_tracked": torch.zeros((), dtype=torch.int64),
        }
        return _moved(weights, step.place, own | {prefix + name: tensor.clone() for name, tensor in norm.items()})


EPSILON = torch.nn.BatchNorm2d(1).eps


class SkipByMixing(Morphism):
    """A way from an earlier layer of the same shape, added with a weight of 0 at first, to one of 1: a convex sum."""

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each pair of layers of one shape."""
        widths = graph.widths(0)
        for number in graph.numbers if len(graph) < bounds.most_layers else ():
            for other in range(1, number):
                same = widths[number] == widths[other] and graph.shrinkage[number] == graph.shrinkage[other]
                if same and not (graph[number].operation in JOINTS and other in graph[number].inputs):
                    yield Step("mix", number, 0, other)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Put the sum behind the later layer."""
        layer = Layer("mix", (step.place, step.other))
        return _inserted(graph, step.place, layer, step.place, graph.consumers(step.place))

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Give the later layer the weight 1."""
        del graph
        like = next(iter(weights[HEAD].values()))
        return _moved(weights, step.place, {"weight": like.new_tensor([1.0, 0.0])})


class SkipByConcatenation(Morphism):
    """A way from an earlier layer of the same size to a convolution's input: further channels, of weight 0 at first."""

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution, and the classifier, and each layer that it can take as well."""
        widths = graph.widths(0)
        for number in range(1, len(graph) + 2) if len(graph) < bounds.most_layers else ():
            taken = _taken(graph, number)
            if taken == INPUT or (number <= len(graph) and not graph[number].is_convolution):
                continue
            before = graph[taken].inputs if graph[taken].operation == "concat" else ()
            for other in range(1, number):
                fits = other not in (taken, *before) and graph.shrinkage[other] == graph.shrinkage[taken]
                if fits and widths[other] + widths[taken] <= bounds.most_channels:
                    yield Step("concat", number, 0, other)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Put the concatenation in front."""
        taken = _taken(graph, step.place)
        return _inserted(graph, step.place - 1, Layer("concat", (taken, step.other)), taken, [step.place])

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Give the further channels the weight 0."""
        widths = graph.widths(0)
        own, further = widths[_taken(graph, step.place)], widths[step.other]
        channels = Channels(
            torch.cat([torch.arange(own), torch.arange(further) % own]),
            torch.cat([torch.ones(own), torch.zeros(further)]),
        )
        key = HEAD if step.place > len(graph) else step.place
        changed = {**weights, key: _consuming(graph, key, weights[key], channels)}
        return _moved(changed, step.place - 1, {})


def _taken(graph: Graph, number: int) -> int:
    """Return what a layer of one input takes; behind the last layer is the classifier."""
    return len(graph) if number > len(graph) else graph[number].inputs[0]


# Widths


@dataclass(frozen=True)
class Channels:
    """The channels of a value in terms of those that it had.

    Attributes:
        index: shape (n,): which of the old ones each is a copy of.
        share: shape (n,): of the weight that whoever takes the value gave that one. Shares of copies add up to 1.
    """

    index: Tensor
    share: Tensor


def _producing(graph: Graph, number: int, tensors: Tensors, channels: Channels) -> Tensors:
    """Return the tensors of a convolution whose output has other channels."""
    filters = "pointwise.conv.weight" if graph[number].operation == "separable" else "conv.weight"
    return {
        name: tensor[channels.index].clone() if name == filters or (".norm." in f".{name}" and tensor.dim()) else tensor
        for name, tensor in tensors.items()
    }


def _consuming(graph: Graph, number: int, tensors: Tensors, channels: Channels) -> Tensors:
    """Return the tensors of a convolution, or the classifier, whose input has other channels."""
    changed = dict(tensors)
    if number == HEAD:
        name = next(name for name in tensors if name.endswith("weight"))
        changed[name] = tensors[name][:, channels.index] * channels.share.to(tensors[name])
        return changed
    name = "conv.weight"
    if graph[number].operation == "separable":
        name = "pointwise.conv.weight"
        changed["depthwise.weight"] = tensors["depthwise.weight"][channels.index].clone()
    share = channels.share.to(tensors[name])[None, :, None, None]
    changed[name] = tensors[name][:, channels.index] * share
    return changed


def tied(graph: Graph, number: int) -> frozenset[int] | None:
    """Return the convolutions whose channels change together with one's, since sums join them; None: they can't."""
    together = {number}
    while True:
        changed: dict[int, int] = {}  # which change a value has: that of the convolutions, or a concatenation's own
        further: set[int] = set()
        for value in graph.numbers:
            layer = graph[value]
            own = [changed.get(source) for source in layer.inputs]
            if value in together:
                changed[value] = HEAD
            elif layer.is_convolution or all(change is None for change in own):
                continue
            elif layer.operation == "concat":
                changed[value] = value
            elif len(set(own)) == 1 and own[0] is not None:
                changed[value] = own[0]
            elif any(change not in (None, HEAD) for change in own):
                return None
            else:
                roots = [_roots(graph, source) for source, change in zip(layer.inputs, own, strict=True) if change is None]
                if any(root is None for root in roots):
                    return None
                further |= {each for root in roots for each in root or ()}
        if further <= together:
            return frozenset(together)
        together |= further


def _roots(graph: Graph, number: int) -> set[int] | None:
    """Return the convolutions whose channels a value has; None: it has not those of convolutions alone."""
    if number == INPUT:
        return None
    layer = graph[number]
    if layer.is_convolution:
        return {number}
    if layer.operation == "concat":
        return None
    found = [_roots(graph, source) for source in layer.inputs]
    return None if any(each is None for each in found) else {one for each in found for one in each or ()}


def _with_channels(graph: Graph, number: int, weights: Weights, channels: Channels) -> Weights:
    """Return weights where a convolution, and what is tied to it, has other channels."""
    widths = graph.widths(0)
    together = tied(graph, number) or frozenset()
    maps: dict[int, Channels] = dict.fromkeys(together, channels)
    found = dict(weights)
    for value in graph.numbers:
        layer = graph[value]
        given = maps.get(layer.inputs[0])
        if layer.is_convolution:
            if given is not None:
                found[value] = _consuming(graph, value, found[value], given)
            if value in together:
                found[value] = _producing(graph, value, found[value], channels)
        elif layer.operation == "concat":
            if any(source in maps for source in layer.inputs):
                maps[value] = _joined([(widths[source], maps.get(source)) for source in layer.inputs])
        elif given is not None:
            maps[value] = given
    last = maps.get(len(graph))
    return found if last is None else {**found, HEAD: _consuming(graph, HEAD, found[HEAD], last)}


def _joined(parts: Sequence[tuple[int, Channels | None]]) -> Channels:
    """Return the channels of values behind each other, given how many each had and how they changed."""
    first, index, share = 0, [], []
    for width, channels in parts:
        index.append(first + (torch.arange(width) if channels is None else channels.index))
        share.append(torch.ones(width) if channels is None else channels.share)
        first += width
    return Channels(torch.cat(index), torch.cat(share))


def _resized(graph: Graph, step: Step) -> Graph:
    """Return the graph in which a convolution, and what is tied to it, has a step's channels."""
    together = tied(graph, step.place) or frozenset()
    layers = [
        replace(layer, channels=step.amount) if number in together else layer
        for number, layer in enumerate(graph.layers, 1)
    ]
    return Graph(tuple(layers))


def _resizings(graph: Graph, kind: Kind, factors: Sequence[float], low: int, high: int) -> Iterator[Step]:
    seen: set[frozenset[int]] = set()
    for number in graph.numbers:
        together = tied(graph, number) if graph[number].is_convolution else None
        if together is None or together in seen:
            continue
        seen.add(together)
        channels = graph[number].channels
        for amount in sorted({_times(channels, factor) for factor in factors}):
            if amount != channels and low <= amount <= high:
                step = Step(kind, number, amount)
                if max(_resized(graph, step).widths(0)) <= high or amount < channels:
                    yield step


def _times(channels: int, factor: float) -> int:
    """Return a multiple of a number of channels; a larger one where the factor is above 1."""
    return max(channels + 1, round(channels * factor)) if factor > 1 else round(channels * factor)


class Wider(Morphism):
    """More filters: copies of some, whose weights in what follows are divided between them unevenly (Chen et al. 2016).

    Uneven shares are all the symmetry breaking that there has to be: no noise is added.
    """

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution and factor."""
        yield from _resizings(graph, "wider", WIDER, 1, bounds.most_channels)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the width."""
        return _resized(graph, step)

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Copy filters at random, and share out what they did."""
        generator, channels = torch.Generator().manual_seed(step.seed), graph[step.place].channels
        copied = torch.randint(channels, (step.amount - channels,), generator=generator)
        index = torch.cat([torch.arange(channels), copied])
        parts = 0.5 + torch.rand(step.amount, generator=generator, dtype=torch.float64)
        totals = torch.zeros(channels, dtype=torch.float64).index_add(0, index, parts)
        return _with_channels(graph, step.place, weights, Channels(index, parts / totals[index]))


class Narrower(Morphism):
    """Fewer filters: those that say least are left out. It doesn't keep what the network computes."""

    keeps = False

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution and factor."""
        yield from _resizings(graph, "narrower", NARROWER, FEWEST_CHANNELS, bounds.most_channels)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the width."""
        return _resized(graph, step)

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Keep the filters whose outputs have most energy."""
        mean, variance = moments(graph, weights)[step.place]
        order = torch.argsort(mean**2 + variance, descending=True, stable=True)
        kept = torch.sort(order[: step.amount]).values
        return _with_channels(graph, step.place, weights, Channels(kept, torch.ones(step.amount)))


# Kernels


class LargerKernel(Morphism):
    """Two taps more a side, of weight 0 at first."""

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution whose padding stays in the middle: not for one tap of several."""
        for number in graph.numbers:
            layer = graph[number]
            if layer.is_convolution and layer.kernel >= layer.stride and layer.kernel + 2 <= bounds.most_taps:
                yield Step("kernel", number, layer.kernel + 2)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the kernel."""
        return _with_layer(graph, step.place, replace(graph[step.place], kernel=step.amount))

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Put zeros around the taps."""
        name = "depthwise.weight" if graph[step.place].operation == "separable" else "conv.weight"
        own = weights[step.place]
        return {**weights, step.place: {**own, name: torch.nn.functional.pad(own[name], (1, 1, 1, 1))}}


class MadeSeparable(Morphism):
    """A convolution becomes separable: of its taps the best approximation of rank 1 for each channel of the input.

    It doesn't keep what the network computes.
    """

    keeps = False

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution of several taps, but one of the input, whose few channels need them."""
        del bounds
        for number in graph.numbers:
            layer = graph[number]
            if layer.operation == "conv" and layer.kernel > 1 and layer.inputs[0] != INPUT:
                yield Step("separable", number)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the operation."""
        return _with_layer(graph, step.place, replace(graph[step.place], operation="separable"))

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Decompose the taps, shape (out, in, k, k)."""
        del graph
        own = dict(weights[step.place])
        taps = own.pop("conv.weight")
        outputs, inputs, *kernel = taps.shape
        left, sizes, right = torch.linalg.svd(taps.transpose(0, 1).reshape(inputs, outputs, -1), full_matrices=False)
        root = sizes[:, 0].sqrt()
        pointwise, depthwise = left[:, :, 0] * root[:, None], right[:, 0] * root[:, None]
        changed = {"depthwise.weight": depthwise.reshape(inputs, 1, *kernel),
                   "pointwise.conv.weight": pointwise.T[:, :, None, None]}  # fmt: skip
        norm = {f"pointwise.{name}": tensor for name, tensor in own.items()}
        return {**weights, step.place: {**changed, **norm}}


def _with_layer(graph: Graph, number: int, layer: Layer) -> Graph:
    return Graph((*graph.layers[: number - 1], layer, *graph.layers[number:]))


MORPHISMS: Mapping[Kind, Morphism] = {
    "deeper": Deeper(),
    "wider": Wider(),
    "mix": SkipByMixing(),
    "concat": SkipByConcatenation(),
    "kernel": LargerKernel(),
    "narrower": Narrower(),
    "separable": MadeSeparable(),
}
"""What each kind does; ``compound`` is a sequence of others."""


# Sequences of steps


def changed(graph: Graph, steps: Sequence[Step]) -> Graph:
    """Return the graph behind some steps."""
    for step in steps:
        graph = MORPHISMS[step.kind].graph(graph, step)
    return graph


def carried(graph: Graph, steps: Sequence[Step], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict, tensors of any shapes, for the network behind some steps.

    Args:
        graph: in front of them.
        steps: that are taken.
        state: of the graph's network.
    """
    weights = weights_of(state)
    for step in steps:
        weights = MORPHISMS[step.kind].weights(graph, step, weights)
        graph = MORPHISMS[step.kind].graph(graph, step)
    return state_of(weights)


def keep(steps: Sequence[Step]) -> bool:
    """Tell whether a network behind some steps computes what it did."""
    return all(MORPHISMS[step.kind].keeps for step in steps)


def drawn_steps(
    graph: Graph, generator: np.random.Generator, count: int, kinds: Sequence[Kind] = KINDS, bounds: Bounds | None = None
) -> list[Step]:
    """Return random morphisms, each of a kind drawn uniformly, at a place drawn uniformly; fewer where none fits.

    Args:
        graph: in front of them.
        generator: of all that is random.
        count: how many; a compound one is one, though it has several steps.
        kinds: that there are.
        bounds: how far the network may grow.
    """
    bounds, steps = bounds or Bounds(), []
    for _ in range(count):
        for place in generator.permutation(len(kinds)).tolist():
            own = _drawn(graph, generator, kinds[place], bounds)
            if own:
                steps += own
                graph = changed(graph, own)
                break
    return steps


def _drawn(graph: Graph, generator: np.random.Generator, kind: Kind, bounds: Bounds) -> list[Step]:
    if kind == "compound":
        return _compound(graph, generator, bounds)
    places = list(MORPHISMS[kind].places(graph, bounds))
    if not places:
        return []
    return [replace(places[int(generator.integers(len(places)))], seed=int(generator.integers(2**31)))]


def _compound(graph: Graph, generator: np.random.Generator, bounds: Bounds) -> list[Step]:
    """Return steps that make a network wider everywhere and deeper at each size (Tan & Le 2019)."""
    steps: list[Step] = []
    for place in _resizings(graph, "wider", [COMPOUND], 1, bounds.most_channels):
        step = replace(place, seed=int(generator.integers(2**31)))
        steps.append(step)
    graph = changed(graph, steps)
    if any(width > bounds.most_channels for width in graph.widths(0)):
        return []
    for size in sorted(set(graph.shrinkage[1:]), reverse=True):  # from behind: numbers in front stay
        at = [n for n in graph.numbers if graph[n].is_convolution and graph.shrinkage[n] == size]
        if not at or len(graph) >= bounds.most_layers:
            continue
        number = at[int(generator.integers(len(at)))]
        separable = int(graph[number].operation == "separable")
        step = Step("deeper", number, max(3, graph[number].kernel), separable, int(generator.integers(2**31)))
        steps.append(step)
        graph = changed(graph, [step])
    return steps


# What values are expected to be


def moments(graph: Graph, weights: Weights) -> dict[int, tuple[Tensor, Tensor]]:
    """Return mean and variance of every channel of each layer's output, shape (channels,) each.

    What comes out of a batch norm is taken to be normal, so that its scale and offset tell; values that are added are
    taken to be independent, and pools to change nothing.
    """
    found: dict[int, tuple[Tensor, Tensor]] = {}
    for number in graph.numbers:
        layer = graph[number]
        if layer.is_convolution:
            prefix = "pointwise.norm." if layer.operation == "separable" else "norm."
            found[number] = _rectified(weights[number][prefix + "bias"], weights[number][prefix + "weight"])
            continue
        means, variances = zip(*(found[source] for source in layer.inputs), strict=True)
        if layer.operation == "concat":
            found[number] = torch.cat(means), torch.cat(variances)
        elif layer.operation in SUMS:
            shares = weights[number]["weight"] if layer.operation == "mix" else means[0].new_ones(len(means))
            found[number] = (
                (shares[:, None] * torch.stack(means)).sum(0).clamp(min=0),
                (shares[:, None] ** 2 * torch.stack(variances)).sum(0),
            )
        else:
            found[number] = means[0], variances[0]
    return found


def _rectified(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance, shape (n,) each, of max(x, 0) for normal x of these means and standard deviations."""
    sd = scale.abs().clamp(min=1e-6)
    ratio = mean / sd
    below = 0.5 * (1 + torch.erf(ratio / math.sqrt(2)))
    density = torch.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi)
    first = mean * below + sd * density
    second = (mean**2 + sd**2) * below + mean * sd * density
    return first.clamp(min=0), (second - first**2).clamp(min=0)
