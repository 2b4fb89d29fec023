"""The ranges of all of a network's values, gathered from samples that come a few at a time."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from qanas.quantization.operators.base import Ranges
from qanas.quantization.ranges import METHODS, RangeOf
from qanas.quantization.scheme import Scheme

OUTPUT = ""
"""Stands for a node's output among the names of its internal values."""


class GatheredRanges:
    """The ranges of every node's output, and of the values inside."""

    def __init__(self, scheme: Scheme, samples: int) -> None:
        """Begin.

        Args:
            scheme: how ranges are taken.
            samples: how many there will be.
        """
        self._scheme, self._samples = scheme, samples
        self._gathered: dict[str, dict[str, RangeOf]] = {}

    def add(self, node: str, output: Tensor, internals: Mapping[str, Tensor] | None = None) -> None:
        """Take the values of a node for the next samples.

        Args:
            node: its name.
            output: shape (n, ...).
            internals: what `Operator.observe` returns beside it.

        Raises:
            ValueError: values that are not finite.
        """
        values = {OUTPUT: output, **(internals or {})}
        if node not in self._gathered:
            method = METHODS[self._scheme.of(node).ranges]
            self._gathered[node] = {part: method(f"{node}.{part}" if part else node, self._samples) for part in values}
        for part, value in values.items():
            self._gathered[node][part].add(value)

    def found(self) -> dict[str, Ranges]:
        """Return the ranges of all samples by node."""
        found = {
            node: {part: gathered.found() for part, gathered in parts.items()} for node, parts in self._gathered.items()
        }
        return {node: Ranges(parts.pop(OUTPUT), parts) for node, parts in found.items()}
