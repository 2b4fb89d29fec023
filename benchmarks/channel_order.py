"""What shuffles cost a detector's file, and what is left of it without them.

    python benchmarks/channel_order.py --out docs/results/channel_order.json

Both sides in one run, in turns: the file with the shuffles that torch has, and the one that ships. Weights are initial
ones with uneven batch norms, inputs are random; only sizes, times and whether outputs are equal mean anything.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qanas.deployment.litert import Kernels, LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import Blueprint, costs_of
from qanas.networks.fastestdet import FastestDet
from qanas.quantization.graph import Graph
from qanas.quantization.passes.channel_order import without_shuffles
from qanas.quantization.passes.folding import absorbed, fold_batch_norm, fuse_activation
from qanas.quantization.passes.parameters import with_shared_parameters
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace_unfolded

SIZES = ((96, 96), (220, 220))
MOVERS = {"TRANSPOSE", "RESHAPE", "STRIDED_SLICE", "CONCATENATION"}
KERNELS: tuple[Kernels, ...] = ("reference", "optimized")
REPEATS = 13
COSTS = ("weight_bytes", "file_bytes", "peak_ram_bytes", "macs")


def network(size: tuple[int, int]) -> nn.Module:
    """Return the detector with batch norms that differ by channel."""
    torch.manual_seed(0)
    detector = FastestDet(size).eval()
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.3)
    return detector


def processor_time(model: LiteRTModel) -> float:
    """Return the processor's time for some samples, one by one, in seconds."""
    start = time.process_time()
    model.latency_ms(REPEATS)
    return time.process_time() - start


def measured(size: tuple[int, int], rounds: int) -> dict[str, Any]:
    """Return costs and operators of both files, the ratios of their times, and how many outputs differ."""
    shuffled = absorbed(absorbed(trace_unfolded(network(size), (3, *size)), fold_batch_norm), fuse_activation)
    start = time.process_time()
    stored = without_shuffles(shuffled)
    entry: dict[str, Any] = {"search_ms": round((time.process_time() - start) * 1e3)}
    graphs = {name: with_shared_parameters(graph) for name, graph in (("before", shuffled), ("after", stored))}
    samples = torch.randn(16, 3, *size)
    ranges = graphs["before"].calibrate(samples)
    models: dict[str, dict[Kernels, LiteRTModel]] = {}
    for name, graph in graphs.items():
        quantized = QuantizedGraph.quantize(graph, {value: ranges[value] for value in graph.shapes}, Scheme())
        entry[name] = described(graph, quantized)
        content = write_tflite(quantized.program())
        models[name] = {kernels: LiteRTModel(content, kernels, graph.border) for kernels in KERNELS}
    before, after = (models[name]["reference"].codes(samples.numpy()) for name in ("before", "after"))
    entry["outputs"], entry["differing_outputs"] = before.size, int((before != after).sum())
    for kernels in KERNELS:
        times = [{name: processor_time(models[name][kernels]) for name in graphs} for _ in range(rounds)]
        ratios = [pair["after"] / pair["before"] for pair in times]
        entry[f"time_ratio_{kernels}"] = round(statistics.median(ratios), 3)
    return entry


def described(graph: Graph, quantized: QuantizedGraph) -> dict[str, Any]:
    """Return costs, operators by kind, and the bytes that those write which only move numbers."""
    operators = quantized.program().operators
    costs = costs_of(Blueprint(graph, quantized))
    moved = sum(operator.outputs[0].elements for operator in operators if operator.kind in MOVERS)
    kinds = dict(Counter(operator.kind for operator in operators))
    return {**{name: costs[name] for name in COSTS}, "moved_bytes": moved, "operators": kinds}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of both sides")
    parser.add_argument("--out", type=Path, help="the JSON file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {f"FastestDet {size[0]}x{size[1]}": measured(size, arguments.rounds) for size in SIZES}
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
