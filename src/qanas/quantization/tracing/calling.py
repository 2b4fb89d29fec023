"""What a network takes, and how it is handed that."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from qanas.quantization.border import INPUT


@dataclass(frozen=True)
class Arguments:
    """The arguments of a network's forward that tensors can be given for.

    Attributes:
        names: of all of them, in their order.
        needed: those that a call can't leave out.
    """

    names: tuple[str, ...]
    needed: tuple[str, ...]

    @classmethod
    def of(cls, network: nn.Module) -> Self:
        """Look at a network's forward."""
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        parameters = inspect.signature(network.forward).parameters.values()
        named = [entry for entry in parameters if entry.kind not in variable]
        needed = tuple(entry.name for entry in named if entry.default is entry.empty)
        return cls(tuple(entry.name for entry in named), needed)

    @property
    def optional(self) -> tuple[str, ...]:
        """Those that a call can leave out."""
        return tuple(name for name in self.names if name not in self.needed)

    @property
    def first(self) -> str:
        """The one that a single input is for."""
        return next(iter((*self.needed, *self.names)), INPUT)


def called(network: nn.Module, inputs: Mapping[str, Tensor]) -> Any:  # noqa: ANN401 - what the network returns
    """Call a network as its forward takes its inputs.

    Args:
        network: of any signature.
        inputs: one, whatever it is called, is the first argument; several are given by the arguments' names, as far as
            these can be named.
    """
    arguments = inspect.signature(network.forward).parameters
    if len(inputs) == 1:
        (value,) = inputs.values()
        needed = [name for name, own in arguments.items() if own.kind is own.KEYWORD_ONLY and own.default is own.empty]
        return network(**{needed[0]: value}) if needed else network(value)
    placed = [name for name, own in arguments.items() if own.kind is own.POSITIONAL_ONLY and name in inputs]
    named = {name: value for name, value in inputs.items() if name not in placed}
    return network(*(inputs[name] for name in placed), **named)
