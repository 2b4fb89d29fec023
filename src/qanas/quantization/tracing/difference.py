"""Whether a graph computes what its torch network does; where it doesn't, the module from which on they differ.

What a trace can't see (a dropout that torch applies in evaluation mode, a state that changes from call to call, a
forward that looks at the numbers) ends here, in a line, and in no file.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qanas.core.errors import described
from qanas.quantization.border import named_parts, tensors_by_name
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.ranges import joined
from qanas.quantization.tracing.calling import called
from qanas.quantization.tracing.calls import Passed, Slot
from qanas.quantization.tracing.trace import Trace, unwrapped
from qanas.quantization.tracing.values import Value

MIN_DB = 60.0
"""What a graph has to reach against torch. Float32 itself leaves 100 dB and more; a wrong operator tens of dB."""

MIN_DB_ABOUT_MEAN = 30.0
"""The same about the mean of every number of an output, where a large constant would hide an error."""

ROUNDING_DB = 110.0
"""From here on the error is the rounding of float32, however small the rest of an output is beside its mean."""

MIN_SAMPLE_DB = 40.0
"""What the worst sample has to reach, against the mean signal of all: one in a thousand may go another way."""

REPEATED_DB = 100.0
"""What torch has to reach against itself on the same samples."""

CHUNK = 64
"""Samples at a time."""

SHOWN = 8
"""Samples with which the module is looked for."""


@torch.no_grad()
def traced_difference(graph: Graph, network: nn.Module, samples: Tensor | Mapping[str, Tensor]) -> str | None:
    """Return why a graph is not its network: how far apart their outputs are, and at which module they part.

    Args:
        graph: of the network.
        network: in torch; it is run in evaluation mode.
        samples: inputs, each of shape (n, *input shape), by the arguments' names where there are several.

    Returns:
        One line; None where both compute the same.
    """
    given = tensors_by_name(samples, graph.border.input_names)
    network = unwrapped(network)
    with _in_evaluation(network):
        few = {name: values[:SHOWN] for name, values in given.items()}
        try:
            wanted = _outputs(network, given)
            once, again = _outputs(network, few), _outputs(network, few)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own code
            return f"the network fails on the samples: {described(error, __file__)}"
        got = joined([graph.forward(chunk) for chunk in _chunks(given)])
        told = [apart for name, values in wanted.items() if (apart := how_far_apart(values, got.get(name, values[:0])))]
        for name, values in once.items():
            noise = float((again[name].to(torch.float64) - values).square().mean())
            if _decibels(float(values.to(torch.float64).square().mean()), noise) < REPEATED_DB:
                told.append("it puts out something else each time")
        if not told:
            return None
        return f"the traced network is not what torch computes ({told[0]}); {_where(network, given)}"


def how_far_apart(wanted: Tensor, got: Tensor) -> str | None:
    """Return how far two values differ, in words; None where no further than float32 rounds.

    Args:
        wanted: torch's, shape (n, ...).
        got: the graph's.
    """
    if wanted.shape != got.shape:
        return f"its shape is {tuple(wanted.shape[1:])}, not {tuple(got.shape[1:])}"
    exact = wanted.to(torch.float64).flatten(1) if wanted.ndim > 1 else wanted.to(torch.float64)[:, None]
    errors = (got.to(torch.float64).reshape(exact.shape) - exact).square()
    if not bool(torch.isfinite(errors).all()):
        return "values that are NaN or infinite"
    signal, noise = float(exact.square().mean()), float(errors.mean())
    ratio = _decibels(signal, noise)
    if ratio < MIN_DB:
        return f"{ratio:.1f} dB"
    about_mean = _decibels(float((exact - exact.mean(0)).square().mean()), noise)
    if len(exact) > 1 and about_mean < MIN_DB_ABOUT_MEAN and ratio < ROUNDING_DB:
        return f"{about_mean:.1f} dB about the mean"
    worst = _decibels(signal, float(errors.mean(1).max()))
    return f"{worst:.1f} dB in the worst sample" if worst < MIN_SAMPLE_DB else None


def _decibels(signal: float, noise: float) -> float:
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def _chunks(samples: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for parts in zip(*(torch.split(values, CHUNK) for values in samples.values()), strict=True):
        yield dict(zip(samples, parts, strict=True))


def _outputs(network: nn.Module, samples: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what torch computes, each of shape (n, *shape), by the outputs' names."""
    return joined([named_parts(_called(network, chunk), Tensor) for chunk in _chunks(samples)])


def _called(network: nn.Module, samples: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - what the network returns
    # The samples stay as they are, whatever the network does to its input.
    return called(network, {name: values.clone() for name, values in samples.items()})


@contextlib.contextmanager
def _in_evaluation(network: nn.Module) -> Iterator[None]:
    """Have a network in the mode that its own `eval` puts it in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _where(network: nn.Module, samples: Mapping[str, Tensor]) -> str:
    """Return the first module that the graph has otherwise than torch, in words."""
    few = {name: values[:SHOWN] for name, values in samples.items()}
    try:
        first, second = _passed(network, few), _passed(network, few)
        for (path, inputs, outputs), (_, others, repeated) in zip(first, second, strict=False):
            if _equal(inputs, others) and not _equal(outputs, repeated):
                return (
                    f"torch puts out something else each time, from {_told(network, path)} on: a dropout or a state "
                    "that it has in evaluation mode, too? pass training=self.training"
                )
        return _first_apart(network, few, first)
    except (UnsupportedNetworkError, ValueError, RuntimeError, KeyError) as error:  # a help, not the verdict
        return f"where they part can't be told ({' '.join(str(error).split())[:120]})"


def _first_apart(network: nn.Module, samples: Mapping[str, Tensor], passed: list[_Pass]) -> str:
    shapes = {name: tuple(values.shape[1:]) for name, values in samples.items()}
    trace = Trace.of(network, shapes if len(shapes) > 1 else next(iter(shapes.values())))
    values = trace.recorder.values
    computed = trace.recorder.builder.computed(dict(zip(trace.recorder.builder.inputs, samples.values(), strict=True)))
    known: dict[str, list[Passed]] = {}
    for entry in trace.recorder.passed:
        known.setdefault(entry.path, []).append(entry)
    counts: Counter[str] = Counter()
    hint = (
        "look at hooks, forwards that are replaced, values that are changed in place, and what depends on numbers there"
    )
    for path, inputs, outputs in passed:
        own = known.get(path if trace.network is network else f"0.{path}".rstrip("."), [])
        if counts[path] >= len(own):
            return f"they part at {_told(network, path)}, which the trace did not see run; {hint}"
        entry = own[counts[path]]
        counts[path] += 1
        pairs = zip(outputs, _slots(entry.outputs), strict=False)
        if any(_apart(wanted, slot, values, computed) for wanted, slot in pairs):
            before = any(
                _apart(wanted, slot, values, computed)
                for wanted, slot in zip(inputs, _slots(entry.inputs), strict=False)
            )
            where = f"in front of {_told(network, path)}" if before and path else f"at {_told(network, path)}"
            return f"they part {where}; {hint}"
    return f"they part at {_told(network, '')}; {hint}"


def _apart(wanted: Tensor, slot: Slot, values: list[Any], computed: Mapping[str, Tensor]) -> bool:
    value = values[slot.number]
    if not isinstance(value, Value) or value.batch or value.beside:
        return False
    return how_far_apart(wanted, value.in_torch(computed[value.name])) is not None


def _told(network: nn.Module, path: str) -> str:
    kind = type(network.get_submodule(path)).__name__
    return f"'{path}' ({kind})" if path else f"the forward of {kind} itself"


_Pass = tuple[str, list[Tensor], list[Tensor]]
"""A module's path, what went in and what came out."""


def _passed(network: nn.Module, samples: Mapping[str, Tensor]) -> list[_Pass]:
    """Return what goes through every module, in the order in which they are done."""
    found: list[_Pass] = []
    inputs: dict[str, list[list[Tensor]]] = {}

    def before(path: str) -> Any:  # noqa: ANN401 - a hook
        def hook(_: nn.Module, given: Any, named: Any) -> None:  # noqa: ANN401 - in any structure
            inputs.setdefault(path, []).append([tensor.clone() for tensor in _parts((given, named), Tensor)])

        return hook

    def behind(path: str) -> Any:  # noqa: ANN401 - a hook
        def hook(_: nn.Module, __: Any, result: Any) -> None:  # noqa: ANN401 - in any structure
            found.append((path, inputs[path].pop(), [tensor.clone() for tensor in _parts(result, Tensor)]))

        return hook

    handles = []
    try:
        for path, module in network.named_modules():
            handles.append(module.register_forward_pre_hook(before(path), prepend=True, with_kwargs=True))
            handles.append(module.register_forward_hook(behind(path)))
        _called(network, samples)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _slots(entry: object) -> list[Slot]:
    return _parts(entry, Slot)


def _parts(entry: object, kind: type) -> list[Any]:
    """Return everything of a kind in a structure."""
    if isinstance(entry, kind):
        return [entry]
    if isinstance(entry, Mapping):
        return [found for part in entry.values() for found in _parts(part, kind)]
    if isinstance(entry, list | tuple):
        return [found for part in entry for found in _parts(part, kind)]
    return []


def _equal(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))
