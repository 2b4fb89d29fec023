"""From a torch module to the graph."""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from qanas.core.errors import described
from qanas.quantization.border import AxisOrder, named_parts
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.operators.base import Shape
from qanas.quantization.passes.folding import folded, unfolded
from qanas.quantization.tracing.attention import TRANSLATORS as OF_MATRICES
from qanas.quantization.tracing.builder import Builder, FunctionTranslators, ModuleTranslators, Translator
from qanas.quantization.tracing.functions import TRANSLATORS as OF_SINGLE_VALUES
from qanas.quantization.tracing.images import TRANSLATORS as OF_IMAGES
from qanas.quantization.tracing.joining import TRANSLATORS as OF_SEVERAL_VALUES
from qanas.quantization.tracing.layers import TRANSLATORS as OF_LAYERS
from qanas.quantization.tracing.norms import TRANSLATORS as OF_NORMS
from qanas.quantization.tracing.parts import TRANSLATORS as OF_PARTS
from qanas.quantization.tracing.pointwise import TRANSLATORS as OF_PAIRS
from qanas.quantization.tracing.recurrent import TRANSLATORS as OF_RECURRENCES
from qanas.quantization.tracing.reductions import TRANSLATORS as OF_AXES
from qanas.quantization.tracing.shapes import TRANSLATORS as OF_SHAPES
from qanas.quantization.tracing.values import Value

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
    if _Tracer().is_leaf_module(network, ""):
        network = nn.Sequential(network)
    try:
        with _evaluated(network):
            calls = _Tracer().trace(network)
    except fx.proxy.TraceError as error:
        raise UnsupportedNetworkError(f"{type(network).__name__}: {error}; remove control flow on values") from error
    except Exception as error:  # forward runs with symbols for values, which not all of a user's code can take
        raise UnsupportedNetworkError(
            f"{type(network).__name__}: its forward can't be traced: {described(error, fx.__file__)}; "
            "keep to torch calls on values, and take sizes from the constructor"
        ) from error
    return unfolded(_cheapest(network, calls, _by_argument(calls, input_shape)))


@contextlib.contextmanager
def _evaluated(network: nn.Module) -> Iterator[None]:
    """Keep a network in evaluation mode: what ships is its branch there, whatever it does while it is trained."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


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


def _by_argument(calls: fx.Graph, given: InputShapes) -> Mapping[str, Shape]:
    """Return the shapes of the inputs by the names of the arguments, in their order.

    Raises:
        UnsupportedNetworkError: they are not those of the network.
    """
    arguments = [str(call.target).lstrip("*") for call in calls.nodes if call.op == "placeholder"]
    if isinstance(given, Mapping):
        if set(given) != set(arguments):
            raise UnsupportedNetworkError(f"inputs {', '.join(given)} for a network that takes {', '.join(arguments)}")
        return {name: given[name] for name in arguments}
    if len(arguments) > 1:
        raise UnsupportedNetworkError(f"{arguments[1]}: a second input; give the shape of each by its name")
    return dict.fromkeys(arguments, given)


def _cheapest(network: nn.Module, calls: fx.Graph, shapes: Mapping[str, Shape]) -> Graph:
    """Return the graph with that order of the inputs in which fewer numbers are moved, then fewer operators needed.

    The order that is likely to be it comes first; of each input, one after the other, the other one is tried, and
    given up once it can't be it any more.
    """
    images = {name: len(shape) == len("CHW") for name, shape in shapes.items()}
    first_last = {name: AxisOrder((*range(1, len(shape)), 0)) for name, shape in shapes.items()}
    orders = {name: first_last[name] if image else AxisOrder() for name, image in images.items()}
    best = _Translation(network, calls, shapes, orders)
    graph = best.run()
    for name, image in images.items():
        most = best.builder.rearranged
        if not image:
            if not most:
                continue
            most = (most[0], most[1] - 1)
        others = {**orders, name: AxisOrder() if image else first_last[name]}
        other = _Translation(network, calls, shapes, others)
        found = other.run_within(most)
        if found is not None:
            graph, best, orders = found, other, others
    return graph


class _Tracer(fx.Tracer):
    """Stops at the modules that are translated; everything else is looked into."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Tell whether the module is translated, or torch's own and so unknown."""
        return type(m) in MODULES or super().is_leaf_module(m, module_qualified_name)


class _Translation:
    """Translates the calls of a network, one after the other.

    What doesn't depend on the network's input, shapes included, is computed at once.
    """

    def __init__(
        self, network: nn.Module, calls: fx.Graph, shapes: Mapping[str, Shape], orders: Mapping[str, AxisOrder]
    ) -> None:
        self.network = network
        self.modules = dict(network.named_modules(remove_duplicate=False))
        self.calls = calls
        self.builder = Builder(shapes, orders)
        tensors = (*network.named_parameters(), *network.named_buffers())
        self.tensor_names = {id(tensor): name for name, tensor in tensors}
        self.results: dict[fx.Node, Any] = {}

    def run(self) -> Graph:
        """Return the graph."""
        for call in self.calls.nodes:
            self._translate(call)
        return self._finished()

    def run_within(self, most: tuple[int, ...]) -> Graph | None:
        """Return the graph, or None as soon as more than ``most`` is rearranged (`Builder.rearranged`)."""
        for call in self.calls.nodes:
            self._translate(call)
            if self.builder.rearranged > most:
                return None
        graph = self._finished()
        return None if self.builder.rearranged > most else graph

    def _translate(self, call: fx.Node) -> None:
        """Note the result of a call; of the last one, what the network puts out."""
        try:
            self.results[call] = self._arguments(call)[0][0] if call.op == "output" else self._result(call)
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            raise UnsupportedNetworkError(f"{_place(call)}: {error}") from error

    def _finished(self) -> Graph:
        try:
            outputs = named_parts(list(self.results.values())[-1], Value)
            return self.builder.finished(outputs)
        except ValueError as error:
            raise UnsupportedNetworkError(f"what the network puts out: {error}") from error

    def _arguments(self, call: fx.Node) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
        return fx.node.map_arg((call.args, dict(call.kwargs)), self.results.__getitem__)

    def _result(self, call: fx.Node) -> Any:  # noqa: ANN401 - a value, or whatever Python computes
        self.builder.call = call.name
        if call.op == "placeholder":
            return self.builder.inputs[str(call.target).lstrip("*")]
        if call.op == "get_attr":
            return _attribute(self.network, str(call.target))
        arguments, options = self._arguments(call)
        if call.target is operator.getitem and not isinstance(arguments[0], Value):
            return arguments[0][arguments[1]]
        if not _holds_value((arguments, options)):
            return self._computed(call, arguments, options)
        if isinstance(call.target, type):  # a named tuple of values, to be returned
            return call.target(*arguments, **options)
        self.builder.origin = self._origin(call)
        result = _called(self._translator(call), (self.builder, *self._module(call), *arguments), options)
        if isinstance(result, Value) and not call.users:
            raise ValueError("its result is not used; remove it from the network")
        return result

    def _origin(self, call: fx.Node) -> str:
        """Return the names of the parameters that a call takes; empty where others are computed from them."""
        names = []
        for module in self._module(call):
            names += [self.tensor_names[id(tensor)] for tensor in (*module.parameters(), *module.buffers())]
        for argument in call.all_input_nodes:
            if isinstance(self.results[argument], Tensor):
                if argument.op != "get_attr":
                    return ""
                names.append(str(argument.target))
        return ", ".join(names)

    def _module(self, call: fx.Node) -> tuple[nn.Module, ...]:
        """Return the module that is called, if it is one."""
        return (self.modules[str(call.target)],) if call.op == "call_module" else ()

    def _translator(self, call: fx.Node) -> Translator:
        target: Any = call.target
        for module in self._module(call):
            target = type(module)
        translator = (MODULES if isinstance(target, type) else FUNCTIONS).get(target)
        if translator is None:
            name = target if isinstance(target, str) else target.__name__
            raise ValueError(f"{name} has no operator; {instead_of(target)}")
        return translator

    def _computed(self, call: fx.Node, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
        """Return what doesn't depend on the network's input."""
        if call.op == "call_method":
            return getattr(arguments[0], str(call.target))(*arguments[1:], **options)
        function: Any = call.target
        for module in self._module(call):
            function = module
        with torch.no_grad():
            return function(*arguments, **options)


def _holds_value(entry: object) -> bool:
    """Tell whether anything in nested arguments is a value."""
    if isinstance(entry, Mapping):
        return any(map(_holds_value, entry.values()))
    if isinstance(entry, slice):
        return any(map(_holds_value, (entry.start, entry.stop, entry.step)))
    if isinstance(entry, list | tuple):
        return any(map(_holds_value, entry))
    return isinstance(entry, Value)


def _called(translator: Translator, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Call a translator; torch's first parameter may come by its name."""
    named = dict(options)
    if "input" in named:
        arguments = (*arguments, named.pop("input"))
    signature = _signature(translator)
    # torch hands options on that nobody gave: None is their default.
    named = {name: option for name, option in named.items() if name in signature.parameters or option is not None}
    signature.bind(*arguments, **named)
    return translator(*arguments, **named)


@functools.cache
def _signature(translator: Translator) -> inspect.Signature:
    return inspect.signature(translator)


def _attribute(network: nn.Module, path: str) -> Any:  # noqa: ANN401 - a parameter, or whatever the module holds
    owner, _, name = path.rpartition(".")
    found = getattr(network.get_submodule(owner), name)
    return found.detach() if isinstance(found, Tensor) else found


def _place(call: fx.Node) -> str:
    """Return the path of the module that a call is in, for people."""
    stack = list(call.meta.get("nn_module_stack") or {})
    path = str(call.target) if call.op == "call_module" else stack[-1] if stack else ""
    return path or call.name


KINDS = (
    OF_AXES,
    OF_IMAGES,
    OF_LAYERS,
    OF_MATRICES,
    OF_NORMS,
    OF_PAIRS,
    OF_PARTS,
    OF_RECURRENCES,
    OF_SEVERAL_VALUES,
    OF_SHAPES,
    OF_SINGLE_VALUES,
)
"""Every call of torch that has a translation; a new file of translators comes here."""

FUNCTIONS: FunctionTranslators = {target: made for kind in KINDS for target, made in kind.functions.items()}
"""Functions, and methods by their name."""

MODULES: ModuleTranslators = {target: made for kind in KINDS for target, made in kind.modules.items()}

_INSTEAD: dict[Any, str] = {
    nn.RNN: "LSTM or GRU",
}
"""What to use in place of what some networks have and no runtime here."""


def instead_of(target: object) -> str:
    """Return what to use in place of an unknown module's class, function or method."""
    if target in _INSTEAD:
        return f"use {_INSTEAD[target]}"
    if isinstance(target, type):
        return f"known are {', '.join(sorted(known.__name__ for known in MODULES))}"
    names = {known if isinstance(known, str) else known.__name__ for known in FUNCTIONS}
    return f"known are {', '.join(sorted(names))}"
