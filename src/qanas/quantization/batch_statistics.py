"""Batch norms of a graph with the statistics of given samples, in place of those gathered in training."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from qanas.quantization.graph import INPUT, Graph
from qanas.quantization.operators.batch_norm import BatchNorm


@torch.no_grad()
def with_batch_statistics(graph: Graph, samples: Tensor) -> Graph:
    """Return an unfolded graph whose every batch norm has the statistics that its inputs have on some samples.

    In a supernet the running statistics are those of many paths mixed; each path has its own (Guo et al. 2020).

    Args:
        graph: from `qanas.quantization.tracing.trace_unfolded`.
        samples: inputs of the torch network.
    """
    last = max((i for i, node in enumerate(graph.nodes) if isinstance(node.operator, BatchNorm)), default=-1)
    values = {INPUT: graph.stored_input(samples)}
    nodes = list(graph.nodes)
    for position, node in enumerate(graph.nodes[: last + 1]):
        operator = node.operator
        if isinstance(operator, BatchNorm):
            operator = operator.with_statistics_of(values[node.inputs[0]])
            nodes[position] = replace(node, operator=operator)
        if position < last:
            values[node.name] = operator.forward(*(values[name] for name in node.inputs))
            for name in graph.last_uses[node.name]:
                del values[name]
    return replace(graph, nodes=tuple(nodes))
