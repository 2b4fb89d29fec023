"""What translates a call of torch into operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

Translator = Callable[..., Any]
"""Called as ``translator(builder, *arguments)`` with the arguments that the traced code passed, by position or by name.

Modules come as ``translator(builder, module, *arguments)``. Arguments are `Value` where they depend on the network's
input, else what they are in Python. Returns a `Value`, a tuple of them, or something of Python's that later calls take.
Raises ValueError, with what to use instead, for a use that no operator covers.
"""

FunctionTranslators = Mapping[Callable[..., Any] | str, Translator]
"""By function, or by the name of a tensor's method."""

ModuleTranslators = Mapping[type[nn.Module], Translator]

Sizes = int | Sequence[int]
"""One number for rows and columns, or two."""


def pair(sizes: Sizes) -> tuple[int, int]:
    """Return sizes of rows and columns."""
    return (sizes, sizes) if isinstance(sizes, int) else (int(sizes[0]), int(sizes[-1]))
