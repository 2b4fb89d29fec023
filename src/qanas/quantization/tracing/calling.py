"""How a network is handed its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


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
