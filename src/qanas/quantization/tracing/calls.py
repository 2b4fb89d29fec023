"""Calls of torch as they are noted: with slots in place of values, so that they can be translated again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from qanas.quantization.tracing.batches import translated
from qanas.quantization.tracing.builder import Builder, Translator
from qanas.quantization.tracing.torch_calls import plain
from qanas.quantization.tracing.values import Stacked, Unavailable, Value, mapped

Known = Value | Stacked | Unavailable


@dataclass(frozen=True)
class Slot:
    """Stands for a value among the arguments of a noted call."""

    number: int


@dataclass(frozen=True)
class Call:
    """A translated call.

    Attributes:
        name: of what it gives, for the graph.
        function: the name of the function or of the module's class.
        origin: where its weights come from, see `Node`.
        translator: what translates it.
        arguments: with slots in place of values.
        options: the same, by name.
    """

    name: str
    function: str
    origin: str
    translator: Translator
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    def run(self, builder: Builder, values: list[Known]) -> Any:  # noqa: ANN401 - values in any structure
        """Translate, append the values to those that are there, and return the result with slots in their place."""
        builder.call, builder.origin = self.name, self.origin
        arguments = mapped(self.arguments, Slot, lambda slot: values[slot.number])
        options = mapped(self.options, Slot, lambda slot: values[slot.number])
        result = translated(self.function, self.translator, builder, arguments, options)

        def noted(value: Known) -> Slot:
            values.append(value)
            return Slot(len(values) - 1)

        return mapped(result, (Value, Stacked, Unavailable), noted)


@dataclass(frozen=True)
class Tables:
    """What the recorder asks for translators.

    Attributes:
        modules: by class.
        functions: by function, or by a method's name.
        instead: what to use in place of what has no translator.
    """

    modules: Mapping[type[nn.Module], Translator]
    functions: Mapping[Callable[..., Any] | str, Translator]
    instead: Callable[[object], str]

    @cached_property
    def by_name(self) -> dict[str, Translator]:
        """Those of functions, by the plain name of each."""
        return {plain(str(getattr(key, "__name__", key))): made for key, made in self.functions.items()}


@dataclass(frozen=True)
class Passed:
    """What went into a module and came out of it, as slots in any structure, by its path."""

    path: str
    inputs: Any
    outputs: Any
