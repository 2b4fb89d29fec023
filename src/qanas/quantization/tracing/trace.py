"""From a torch module to the graph."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from qanas.core.errors import described, nearest
from qanas.quantization.border import AxisOrder
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.operators.base import Shape
from qanas.quantization.passes.folding import folded, unfolded
from qanas.quantization.tracing.attention import TRANSLATORS as OF_MATRICES
from qanas.quantization.tracing.batches import whole
from qanas.quantization.tracing.builder import Builder, FunctionTranslators, ModuleTranslators
from qanas.quantization.tracing.calling import Arguments
from qanas.quantization.tracing.calls import Call, Known, Slot, Tables
from qanas.quantization.tracing.cells import TRANSLATORS as OF_CELLS
from qanas.quantization.tracing.comparisons import TRANSLATORS as OF_CONDITIONS
from qanas.quantization.tracing.contractions import TRANSLATORS as OF_CONTRACTIONS
from qanas.quantization.tracing.functions import TRANSLATORS as OF_SINGLE_VALUES
from qanas.quantization.tracing.gathering import TRANSLATORS as OF_POSITIONS
from qanas.quantization.tracing.images import TRANSLATORS as OF_IMAGES
from qanas.quantization.tracing.joining import TRANSLATORS as OF_SEVERAL_VALUES
from qanas.quantization.tracing.layers import TRANSLATORS as OF_LAYERS
from qanas.quantization.tracing.norms import TRANSLATORS as OF_NORMS
from qanas.quantization.tracing.parts import TRANSLATORS as OF_PARTS
from qanas.quantization.tracing.pointwise import TRANSLATORS as OF_PAIRS
from qanas.quantization.tracing.recording import RECORDING, Recorder
from qanas.quantization.tracing.recurrent import TRANSLATORS as OF_RECURRENCES
from qanas.quantization.tracing.reductions import TRANSLATORS as OF_AXES
from qanas.quantization.tracing.shapes import TRANSLATORS as OF_SHAPES
from qanas.quantization.tracing.torch_calls import plain
from qanas.quantization.tracing.values import LackingCellError
from qanas.quantization.tracing.writing import TRANSLATORS as OF_WRITING

InputShapes = Shape | Mapping[str, Shape]
"""The shape of one sample of the only input, or of every input by the name of forward's argument; as torch has it."""


def trace(network: nn.Module, input_shape: InputShapes) -> Graph:
    """Return the graph of a network, batch norms folded and activations fused.

    The input is stored in torch's order, or with its first axis behind the others (an image's channels) where fewer
    numbers have to be moved then. Weights are referred to, not copied, where the file has torch's order.

    Args:
        network: takes a tensor, (batch, *input_shape), or several, and puts out tensors in any structure.
        input_shape: of one sample, as torch has it; by the arguments' names where there are several.

    Raises:
        UnsupportedNetworkError: an operator that the graph doesn't have, data-dependent control flow, or
            shapes that don't fit.
    """
    return folded(trace_unfolded(network, input_shape))


def trace_unfolded(network: nn.Module, input_shape: InputShapes) -> Graph:
    """Return the graph of a network as `trace` does, its batch norms and activations by themselves.

    They can be given other statistics then, before `folded` makes it a graph that can be quantized.

    Args:
        network: takes a tensor, (batch, *input_shape), or several, and puts out tensors in any structure.
        input_shape: of one sample, as torch has it; by the arguments' names where there are several.

    Raises:
        UnsupportedNetworkError: as `trace`.
    """
    return unfolded(Trace.of(network, input_shape).graph)


def trace_shapes(build: Callable[[], nn.Module], input_shape: InputShapes) -> Graph:
    """Return the graph of a network with zero weights: enough for shapes and costs, and no time on initialising.

    Args:
        build: makes the network; called with torch's meta device as the default one.
        input_shape: of one sample, as torch has it; by the arguments' names where there are several.

    Raises:
        UnsupportedNetworkError: as `trace`.
    """
    with torch.device("meta"):
        network = build()
    # Tracing needs values it can look at; on the meta device even a detach() loads seconds' worth of torch.
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            tensor.zero_()
    return trace(network, input_shape)


@dataclass(frozen=True)
class Trace:
    """A network's graph before anything is folded, and where its values come from.

    Attributes:
        graph: with that order of the inputs in which fewest numbers are moved.
        network: what was run, in one of torch's containers where it is a single layer.
        recorder: what noted the calls.
    """

    graph: Graph
    network: nn.Module
    recorder: Recorder

    @classmethod
    def of(cls, network: nn.Module, given: InputShapes) -> Trace:
        """Run a network's forward once, in evaluation mode, on values of known shapes.

        Args:
            network: see `trace`.
            given: the shape of one sample, or of one sample of every input by its name.

        Raises:
            UnsupportedNetworkError: as `trace`.
        """
        network = unwrapped(network)
        _require_float(network)
        if type(network) in MODULES:
            network = nn.Sequential(network)
        shapes = _by_argument(network, given)
        unrolled: set[nn.Module] = set()
        while True:
            try:
                return cls._recorded(network, shapes, unrolled)
            except UnsupportedNetworkError as error:
                layer = _lacking_cell(error)
                if layer is None or layer in unrolled:
                    raise
                unrolled.add(layer)

    @classmethod
    def _recorded(cls, network: nn.Module, shapes: Mapping[str, Shape], unrolled: Collection[nn.Module]) -> Trace:
        orders = {name: _likely(shape) for name, shape in shapes.items()}
        recorder = Recorder(network, TABLES, Builder(shapes, orders, unrolled))
        try:
            returned = recorder.run()
        except UnsupportedNetworkError:
            raise
        except (Exception, SystemExit) as error:  # what a user's code does with values that have no numbers
            raise UnsupportedNetworkError(
                f"{type(network).__name__}: its forward can't be traced: {described(error, __file__, RECORDING)}"
            ) from error
        try:
            graph = _cheapest(recorder, returned, shapes, orders)
        except ValueError as error:
            raise UnsupportedNetworkError(f"what the network puts out: {error}") from error
        return cls(graph, network, recorder)


def _lacking_cell(error: BaseException | None) -> nn.Module | None:
    """Return the LSTM whose cell a network uses, by what its trace ended in; None where it ended in something else."""
    while error is not None and not isinstance(error, LackingCellError):
        error = error.__cause__
    return None if error is None else error.layer


def unwrapped(network: nn.Module) -> nn.Module:
    """Return the network inside of what torch puts around one to run it in parallel or compiled.

    Raises:
        UnsupportedNetworkError: it is scripted, so that nothing of its code is left.
    """
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):  # torch.compile's
            network = network._orig_mod  # type: ignore[assignment]  # just looked at
        elif isinstance(network, torch.jit.ScriptModule):
            raise UnsupportedNetworkError(
                "a scripted module (torch.jit) has no code that can be traced; export the module that it was made from"
            )
        else:
            return network


TORCHS_INTEGERS = re.compile(r"torch\.ao\..*(\.qat\.|\.quantized\.|\.observer$|\.fake_quantize$)")
"""Files of torch whose modules hold its own integers, or what comes before them."""

OF_FLOATS = ("FloatFunctional", "FXFloatFunctional")
"""Modules among these that compute sums and products in float, of networks that may be quantized by torch one day."""


def _require_float(network: nn.Module) -> None:
    """Refuse a network that torch has quantized, or prepared for that.

    Raises:
        UnsupportedNetworkError: it has such a module.
    """
    for path, module in network.named_modules():
        if TORCHS_INTEGERS.match(type(module).__module__) is not None and type(module).__name__ not in OF_FLOATS:
            raise UnsupportedNetworkError(
                f"{path or type(network).__name__}: {type(module).__name__} of a network that torch has quantized or "
                "prepared for it; give the float network that it was made from"
            )


def _by_argument(network: nn.Module, given: InputShapes) -> Mapping[str, Shape]:
    """Return the shapes of the inputs by the names of the arguments, in their order.

    Raises:
        UnsupportedNetworkError: they are not those of the network.
    """
    arguments = Arguments.of(network)
    needed = arguments.needed
    if isinstance(given, Mapping):
        if not set(needed) <= set(given) <= set(arguments.names):
            raise UnsupportedNetworkError(f"inputs {', '.join(given)} for a network that takes {', '.join(needed)}")
        return {name: given[name] for name in arguments.names if name in given}
    if len(needed) > 1:
        raise UnsupportedNetworkError(f"{needed[1]}: a second input; give the shape of each by its name")
    return {arguments.first: given}


def _likely(shape: Shape) -> AxisOrder:
    """Return the order in which an input is likely to be stored: images with their channels last."""
    return _channels_last(shape) if len(shape) == len("CHW") else AxisOrder()


def _channels_last(shape: Shape) -> AxisOrder:
    return AxisOrder((*range(1, len(shape)), 0))


def _cheapest(
    recorder: Recorder, returned: Mapping[str, Slot], shapes: Mapping[str, Shape], orders: Mapping[str, AxisOrder]
) -> Graph:
    """Return the graph with that order of the inputs in which fewer numbers are moved, then fewer operators needed.

    The order that is likely to be it was recorded; of each input, one after the other, the other one is tried, and
    given up once it can't be it any more.
    """
    builder = recorder.builder
    graph = _finished(builder, returned, recorder.values)
    for name, shape in shapes.items():
        most = builder.rearranged
        image = len(shape) == len("CHW")
        if not image:
            if not most:
                continue
            most = (most[0], most[1] - 1)
        others = {**orders, name: AxisOrder() if image else _channels_last(shape)}
        other = Builder(shapes, others, builder.unrolled)
        found = _repeated(recorder.calls, other, returned, most)
        if found is not None:
            graph, builder, orders = found, other, others
    return graph


def _repeated(
    calls: Sequence[Call], builder: Builder, returned: Mapping[str, Slot], most: tuple[int, ...]
) -> Graph | None:
    """Translate calls anew; None as soon as more than ``most`` is rearranged (`Builder.rearranged`)."""
    values: list[Known] = list(builder.inputs.values())
    for call in calls:
        call.run(builder, values)
        if builder.rearranged > most:
            return None
    graph = _finished(builder, returned, values)
    return None if builder.rearranged > most else graph


def _finished(builder: Builder, returned: Mapping[str, Slot], values: Sequence[Known]) -> Graph:
    """Return the graph of what a network returned.

    Raises:
        ValueError: an output has its batch elsewhere than in front.
    """
    return builder.finished({name: whole(builder, values[slot.number]) for name, slot in returned.items()})


KINDS = (
    OF_AXES,
    OF_CELLS,
    OF_CONDITIONS,
    OF_CONTRACTIONS,
    OF_IMAGES,
    OF_LAYERS,
    OF_MATRICES,
    OF_NORMS,
    OF_PAIRS,
    OF_PARTS,
    OF_POSITIONS,
    OF_WRITING,
    OF_RECURRENCES,
    OF_SEVERAL_VALUES,
    OF_SHAPES,
    OF_SINGLE_VALUES,
)
"""Every call of torch that has a translation; a new file of translators comes here."""

FUNCTIONS: FunctionTranslators = {target: made for kind in KINDS for target, made in kind.functions.items()}
"""Functions, and methods by their name."""

MODULES: ModuleTranslators = {target: made for kind in KINDS for target, made in kind.modules.items()}

_INSTEAD: dict[str, str] = {
    **dict.fromkeys(
        ("argmax", "argmin", "topk", "sort", "argsort", "msort", "median", "kthvalue", "mode"),
        "return the scores, and take {} outside of the network, on its output",
    ),
    **dict.fromkeys(
        ("isnan", "isinf", "isfinite", "isposinf", "isneginf", "isclose", "any", "all", "count_nonzero"),
        "what a forward does can't depend on numbers; leave the check to whoever calls the network",
    ),
    **dict.fromkeys(
        ("randn_like", "rand_like", "randint_like", "bernoulli", "normal", "uniform", "multinomial", "poisson"),
        "a file computes the same each time; leave noise to training (if self.training), or give it as an input",
    ),
    **dict.fromkeys(
        ("scatter", "scatter_add", "index_add", "index_copy", "index_fill", "index_put", "masked_select", "nonzero"),
        "positions must be constants: write x[:, a:b] = y, take index_select, or choose by torch.where",
    ),
    **dict.fromkeys(
        ("stft", "fft_fft", "fft_rfft", "fft_rfft2", "fft_fft2", "istft", "fft_irfft", "spectrogram"),
        "a conv1d with cosines and sines as its kernels is one; or give the spectrum as the input",
    ),
    **dict.fromkeys(
        ("complex", "view_as_complex", "view_as_real", "polar"),
        "keep real and imaginary parts as two tensors; (a**2 + b**2).sqrt() is a magnitude",
    ),
    **dict.fromkeys(
        ("bucketize", "searchsorted"), "(x.unsqueeze(-1) > borders).float().sum(-1) is the same without it"
    ),
    **dict.fromkeys(
        ("affine_grid_generator", "affine_grid", "grid_sampler", "grid_sample"),
        "no runtime here samples at positions that are computed; do it before the network, or resize",
    ),
    "logcumsumexp": "x.exp().cumsum(dim).log() is the same for values that are not large",
    "atan2": "return sine and cosine, and take the angle outside of the network",
    **dict.fromkeys(("take_along_dim", "take"), "positions must be constants; take index_select"),
    **dict.fromkeys(
        ("_pack_padded_sequence", "_pad_packed_sequence"),
        "a file's samples are of one length; give the recurrence the whole sequence",
    ),
}
"""What to do in place of calls that some networks have and no runtime here, by the function's name."""


def instead_of(target: object) -> str:
    """Return what to use in place of an unknown module's class, function or method."""
    raw = str(getattr(target, "__name__", target))
    known = _INSTEAD.get(plain(raw))
    if known is not None:
        return known.format(plain(raw))
    name = raw.strip("_")
    if isinstance(target, type):
        close = nearest(name, [known.__name__ for known in MODULES])
    else:
        close = nearest(name, [str(getattr(known, "__name__", known)) for known in FUNCTIONS])
    hint = f"the nearest that has one is {close}" if close else "no operator is like it"
    return f"{hint}; compute it by operators that are known (docs/export.md), or outside of the network"


TABLES = Tables(MODULES, FUNCTIONS, instead_of)
