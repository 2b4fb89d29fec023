"""How an exported network is quantized: by a named scheme, some fields of it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from qanas.core.errors import InputError, unknown
from qanas.core.keys import LAYERS, Assignment
from qanas.exporting.source import Source
from qanas.quantization.graph import Graph
from qanas.quantization.mean_error import without_mean_error
from qanas.quantization.passes.parameters import lacking_kernels
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import (
    DEFAULT_SCHEME,
    KNOWN,
    Scheme,
    UnknownLayerError,
    UnsupportedSchemeError,
    covers,
    named_schemes,
)


@dataclass(frozen=True)
class ExportScheme:
    """A scheme as it is asked for.

    Attributes:
        name: of ``quantization/schemes.toml``.
        changes: fields that differ from it, ``layers`` by the path of a module.
    """

    name: str = DEFAULT_SCHEME
    changes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str | None, changes: Sequence[str], avoid: str | None = None) -> Self:
        """Read a name and changes from the command line.

        Args:
            name: None: the default one.
            changes: ``field=value``, or ``layers.PATH.field=value`` for a module of the network.
            avoid: kernels that the device has, but wrong; None: what the scheme says.

        Raises:
            InputError: there is no such scheme, field or value.
        """
        fields: dict[str, Any] = {}
        for text in changes:
            given = Assignment.parse(text)
            *tables, key = given.parts
            if not given.complete or tables[:1] not in ([], [LAYERS]) or len(tables) == 1:
                raise InputError(
                    f"--set {text}: give a field and a value, such as --set weight_bits=4, for a layer "
                    f"--set layers.encoder.0.weight_bits=4"
                )
            if key not in KNOWN:
                raise InputError(f"--set {text}: {unknown('field', key, KNOWN)}")
            table = fields.setdefault(LAYERS, {}).setdefault(".".join(tables[1:]), {}) if tables else fields
            table[key] = given.value
        if avoid is not None:
            if avoid not in KNOWN["avoid"]:
                raise InputError(f"--avoid: {unknown('kind of kernel', avoid, KNOWN['avoid'])}")
            fields["avoid"] = avoid
        chosen = cls(DEFAULT_SCHEME if name is None else name, fields)
        _ = chosen.scheme
        return chosen

    @property
    def scheme(self) -> Scheme:
        """The scheme itself.

        Raises:
            InputError: there is none of this name, or a field can't have its value.
        """
        schemes = named_schemes()
        if self.name not in schemes:
            raise InputError(f"--scheme: {unknown('scheme', self.name, schemes)}")
        try:
            return replace(schemes[self.name], **self.changes)
        except ValueError as error:
            raise InputError(f"--set {error}") from error

    def description(self, graph: Graph) -> str:
        """Return how a network is quantized, in words."""
        lacking = lacking_kernels(graph, self.scheme)
        kinds = ", ".join(sorted({type(node.operator).__name__ for node in lacking.values()}))
        told = f"; 8 bits where the runtime has no kernel of 16: {len(lacking)} of {kinds}" if lacking else ""
        return f"{self.scheme.description()}{told}"

    def quantize(self, source: Source) -> QuantizedGraph:
        """Quantize with the ranges of the calibration samples; with 8 bits where there is no kernel of more.

        Raises:
            InputError: the network can't have the scheme, or its values can't be quantized.
        """
        scheme = _with_kernels(self.scheme, source.graph)
        without = _without_weights(scheme, source.graph)
        if without:
            raise InputError(f"--set layers.{without}.weight_bits: it has no weights; leave it out")
        try:
            ranges = source.graph.calibrate(source.tensors, scheme)
            graph = without_mean_error(source.graph, source.tensors, ranges, scheme)
            return QuantizedGraph.quantize(graph, ranges, scheme)
        except UnknownLayerError as error:
            raise InputError(f"--set {error}") from error
        except UnsupportedSchemeError as error:
            mend = "by --set layers.NAME.FIELD=VALUE, or name another scheme"
            raise InputError(f"--scheme: {error}, {mend}") from error
        except ValueError as error:
            raise InputError(f"'{source.name}' can't be quantized: {error}") from error


def _with_kernels(scheme: Scheme, graph: Graph) -> Scheme:
    """Return a scheme in which what has no kernel of its bits has those of one that there is."""
    lacking = lacking_kernels(graph, scheme)
    layers = {name: dict(own) for name, own in scheme.layers.items()}
    for node in graph.nodes:
        if node.name in lacking:
            layers.setdefault(node.name, {})["activation_bits"] = node.operator.activation_bits[0]
        elif any(covers(name, node.name) for name in lacking):
            # What is said of "lstm" holds for everything in it, and "lstm_head" looks as if it were.
            layers.setdefault(node.name, {})["activation_bits"] = scheme.of(node.name).activation_bits
    return replace(scheme, layers=layers)


def _without_weights(scheme: Scheme, graph: Graph) -> str:
    """Return a layer of the network that is to have bits of weights and has none; empty where there is none such."""
    for layer, own in scheme.layers.items():
        covered = [node for node in graph.nodes if covers(layer, node.name)]
        if "weight_bits" in own and covered and not any(node.operator.tensors() for node in covered):
            return layer
    return ""
