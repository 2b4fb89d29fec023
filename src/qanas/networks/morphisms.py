"""Network morphisms (Wei et al. 2016; Elsken et al. 2017): changes of a graph that keep what its network computes.

Each is a `Step`, data that says what is done where. It changes a graph without weights, and the weights of a network of
that graph. What keeps the function keeps it in evaluation mode, up to rounding; in training mode batch norms that are
put in have the statistics that their inputs are expected to have, so that it is nearly kept, too.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch

from qanas.networks.graph import INPUT, JOINTS, Graph, Layer
from qanas.networks.graph_weights import (
    HEAD,
    Channels,
    Tensors,
    Weights,
    consuming,
    moments,
    resized,
    tied,
    with_channels,
)

Kind = Literal["deeper", "wider", "mix", "concat", "kernel", "narrower", "separable", "compound"]
KINDS: tuple[Kind, ...] = get_args(Kind)

StepKind = Kind | Literal["finer"]
"""``finer`` is taken with a compound step alone."""

WIDER = (1.25, 1.5, 2.0, 4.0)
NARROWER = (0.5, 0.75)
COMPOUND = 1.2
"""Factor on all widths of a compound step, near EfficientNet's 1.1 (its depth grows by 1.2, its resolution by 1.15)."""

FEWEST_CHANNELS = 2
LEAST_VARIANCE = 1e-3
"""Of a channel in front of a batch norm that is put in: those that are never active have none."""


@dataclass(frozen=True)
class Bounds:
    """How far networks grow.

    Attributes:
        most_layers: of a graph, joints and pools among them.
        most_channels: of a layer's output.
        most_taps: of a kernel, a side.
        finer_inputs: how often the network's input can be made finer.
    """

    most_layers: int = 40
    most_channels: int = 512
    most_taps: int = 7
    finer_inputs: int = 0


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

    kind: StepKind
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
        changed = {**weights, key: consuming(graph, key, weights[key], channels)}
        return _moved(changed, step.place - 1, {})


def _taken(graph: Graph, number: int) -> int:
    """Return what a layer of one input takes; behind the last layer is the classifier."""
    return len(graph) if number > len(graph) else graph[number].inputs[0]


# Widths


def resizings(graph: Graph, kind: StepKind, factors: Sequence[float], low: int, high: int) -> Iterator[Step]:
    """Return the steps that give convolutions, those that are tied together once, a multiple of their channels.

    Args:
        graph: in front of them.
        kind: of the steps.
        factors: by which.
        low: channels that there have to be.
        high: channels that any layer may have where it grows.
    """
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
                if max(resized(graph, step.place, step.amount).widths(0)) <= high or amount < channels:
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
        yield from resizings(graph, "wider", WIDER, 1, bounds.most_channels)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the width."""
        return resized(graph, step.place, step.amount)

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Copy filters at random, and share out what they did."""
        generator, channels = torch.Generator().manual_seed(step.seed), graph[step.place].channels
        copied = torch.randint(channels, (step.amount - channels,), generator=generator)
        index = torch.cat([torch.arange(channels), copied])
        parts = 0.5 + torch.rand(step.amount, generator=generator, dtype=torch.float64)
        totals = torch.zeros(channels, dtype=torch.float64).index_add(0, index, parts)
        return with_channels(graph, step.place, weights, Channels(index, parts / totals[index]))


class Narrower(Morphism):
    """Fewer filters: those that say least are left out. It doesn't keep what the network computes."""

    keeps = False

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return a step for each convolution and factor."""
        yield from resizings(graph, "narrower", NARROWER, FEWEST_CHANNELS, bounds.most_channels)

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Change the width."""
        return resized(graph, step.place, step.amount)

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Keep the filters whose outputs have most energy."""
        mean, variance = moments(graph, weights)[step.place]
        order = torch.argsort(mean**2 + variance, descending=True, stable=True)
        kept = torch.sort(order[: step.amount]).values
        return with_channels(graph, step.place, weights, Channels(kept, torch.ones(step.amount)))


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


# The input


class FinerInput(Morphism):
    """The network is shown its samples in more detail; weights fit, and what it computes is another thing."""

    keeps = False

    def places(self, graph: Graph, bounds: Bounds) -> Iterator[Step]:
        """Return none: it is a part of compound steps."""
        del graph, bounds
        return iter(())

    def graph(self, graph: Graph, step: Step) -> Graph:
        """Return it as it is: a graph says sizes relative to those of its input."""
        del step
        return graph

    def weights(self, graph: Graph, step: Step, weights: Weights) -> Weights:
        """Return them as they are."""
        del graph, step
        return weights


def _with_layer(graph: Graph, number: int, layer: Layer) -> Graph:
    return Graph((*graph.layers[: number - 1], layer, *graph.layers[number:]))


MORPHISMS: Mapping[StepKind, Morphism] = {
    "deeper": Deeper(),
    "wider": Wider(),
    "mix": SkipByMixing(),
    "concat": SkipByConcatenation(),
    "kernel": LargerKernel(),
    "narrower": Narrower(),
    "separable": MadeSeparable(),
    "finer": FinerInput(),
}
"""What each kind does; ``compound`` is a sequence of others."""
