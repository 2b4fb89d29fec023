"""Batch norms of a graph with the statistics of given samples, in place of those gathered in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from qanas.quantization.graph import Graph
from qanas.quantization.operators.dense import BatchNorm
from qanas.quantization.passes.folding import folded
from qanas.quantization.ranges import GatheredRanges, Ranges
from qanas.quantization.scheme import Scheme


@dataclass(frozen=True)
class BatchStatistics:
    """What one pass of some samples through an unfolded graph tells.

    Attributes:
        unfolded: every batch norm has the statistics of its inputs.
        ranges: of everything in the folded graph.
        outputs: for the samples, as the torch network puts them out.
    """

    unfolded: Graph
    ranges: Mapping[str, Ranges]
    outputs: Tensor


@dataclass(frozen=True)
class UnfoldedGraph:
    """A graph whose batch norms are operators of their own, so that they can be given other statistics.

    Attributes:
        graph: from `qanas.quantization.tracing.trace_unfolded`.
    """

    graph: Graph

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """For each node, the one that it is folded into, or itself."""
        stays = {node.name for node in folded(self.graph).nodes}
        owners: dict[str, str] = {}
        for node in self.graph.nodes:
            owners[node.name] = node.name if node.name in stays else owners[node.inputs[0]]
        return owners

    @torch.no_grad()
    def with_statistics_of(self, samples: Tensor, scheme: Scheme) -> BatchStatistics:
        """Pass samples through the graph, whose batch norms take their statistics from them.

        In a supernet the running statistics are those of many paths mixed; each path has its own (Guo et al. 2020).

        Args:
            samples: inputs of the torch network, shape (n, *input_shape).
            scheme: how ranges are taken.

        Raises:
            ValueError: values that are not finite.
        """
        graph = self.graph
        last = {owner: name for name, owner in self.owners.items()}
        values = graph.stored_inputs(samples)
        ranges = GatheredRanges(scheme, len(samples))
        for name, value in values.items():
            ranges.add(name, value)
        nodes = []
        for node, sources in graph.walk(values):
            operator = node.operator
            internals: Mapping[str, Tensor] = {}
            if isinstance(operator, BatchNorm):
                operator, values[node.name] = operator.with_statistics_of(sources[0])
            else:
                values[node.name], internals = operator.observe(*sources)
            nodes.append(replace(node, operator=operator))
            owner = self.owners[node.name]
            if last[owner] == node.name:
                ranges.add(owner, values[node.name], internals)
        outputs = graph.torch_output(values[graph.output])
        return BatchStatistics(replace(graph, nodes=tuple(nodes)), ranges.found(), outputs)
