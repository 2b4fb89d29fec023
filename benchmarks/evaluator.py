"""The evaluator's two arithmetics against torch's fake quantization and LiteRT, all in one run.

    python benchmarks/evaluator.py --out docs/results/evaluator.json

Sides: `Evaluator` in fast and in exact arithmetic; the same graph with ``torch.fake_quantize_per_tensor_affine`` on
every value that gets parameters of its own and weights that were fake-quantized before the clock runs; LiteRT's
reference and optimized kernels on the written file, a sample at a time, as it runs on a device. One thread; sides take
turns; times are medians over the rounds of the process's time on the processor for all samples. Weights are initial
ones, batch norms have made-up statistics, inputs are normal. Preparing the evaluator (all constants) is timed by
itself.

Accuracy, fast against exact, on the same samples: the largest and the mean distance in output steps, the share of
outputs that differ, and both signal-to-noise ratios against the float network in dB.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.layers.mbconv import MBConv, MBConvChoice
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.mobilenet import MobileNetSpace
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.border import INPUT
from qanas.quantization.graph import Graph, Node
from qanas.quantization.numbers.affine import Affine
from qanas.quantization.operators.base import Operator
from qanas.quantization.operators.lstm import LSTM
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.network_space import TaskShape

WINDOW = (30, 14)

FEW = 64
"""Samples at most where these are images."""


@dataclass(frozen=True)
class Case:
    """A network and what it is measured on."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    samples: int

    @property
    def chunks(self) -> tuple[int, ...]:
        """Samples at a time that the sides are given which don't choose by themselves: images, or windows."""
        return (8, 64) if self.samples <= FEW else (128, 1024)


def mobilenet() -> nn.Module:
    """Return MobileNetV2 of half the width for ten classes."""
    shape = TaskShape((3, 96, 96), 10, 1.0, ("cross_entropy",))
    return MobileNetSpace(reference="mobilenet_v2_0.5").reference_network(shape)


CASES: Mapping[str, Case] = {
    "LSTM 1x4": Case(lambda: LSTMNetwork(14, [4]), WINDOW, 3666),
    "LSTM 1x16": Case(lambda: LSTMNetwork(14, [16]), WINDOW, 3666),
    "LSTM 2x32": Case(lambda: LSTMNetwork(14, [32, 32]), WINDOW, 3666),
    "TCN 4x32": Case(lambda: TCNNetwork(WINDOW, [32] * 4, 3, 2), WINDOW, 3666),
    "MobileNetV2 0.5, 96x96": Case(mobilenet, (3, 96, 96), 64),
    "DeepLabv3 0.5, 96x128": Case(lambda: DeepLabV3((96, 128), 12, width=0.5), (3, 96, 128), 64),
    "FastestDet, 96x96": Case(lambda: FastestDet((96, 96)), (3, 96, 96), 64),
    "MBConv 16-96-16, 24x32, 8 images": Case(lambda: MBConv(16, 16, MBConvChoice()), (16, 24, 32), 8),
}


class FakeQuantized:
    """A graph that computes in float32, values and weights rounded by torch's own operators."""

    def __init__(self, quantized: QuantizedGraph, scheme: Scheme) -> None:
        self.affines = quantized.affines
        self.graph = quantized.graph
        self.operators = {node.name: self._rounded(node, scheme) for node in self.graph.nodes}

    def _rounded(self, node: Node, scheme: Scheme) -> Operator:
        """Return the operator with rounded weights."""
        inputs = [self.affines[name] for name in node.inputs]
        rounded: dict[str, Tensor] = {}
        for name, weights in node.operator.quantized_weights(inputs, scheme).items():
            real = node.operator.tensors()[name].detach()
            parts = zip(real.chunk(weights.groups), torch.from_numpy(weights.scales), strict=True)
            rounded[name] = torch.cat(
                [torch.fake_quantize_per_tensor_affine(part, float(scale), 0, -127, 127) for part, scale in parts]
            )
        return replace(node.operator, **rounded) if rounded else node.operator  # type: ignore[type-var]

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return the output."""
        values = {INPUT: _rounded_values(self.graph.stored_input(inputs), self.affines[INPUT])}
        for node in self.graph.nodes:
            operator, affine = self.operators[node.name], self.affines[node.name]
            arguments = [values[name] for name in node.inputs]
            if isinstance(operator, LSTM):
                values[node.name] = _rounded_lstm(operator, arguments[0], affine)
                continue
            result = operator.forward(*arguments)
            values[node.name] = result if operator.parameters_from == "input" else _rounded_values(result, affine)
        return self.graph.torch_output(values[self.graph.output])


def _rounded_values(values: Tensor, affine: Affine) -> Tensor:
    return torch.fake_quantize_per_tensor_affine(values, affine.scale, affine.zero_point, affine.low, affine.high)


def _rounded_lstm(operator: LSTM, inputs: Tensor, affine: Affine) -> Tensor:
    """Return the hidden states, each rounded before it is fed back."""
    hidden = cell = inputs.new_zeros(len(inputs), operator.units)
    projected, recurrent = inputs @ operator.weight_ih.T + operator.bias, operator.weight_hh.T.contiguous()
    states = []
    for step in range(inputs.shape[1]):
        i, f, g, o = torch.addmm(projected[:, step], hidden, recurrent).chunk(4, 1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        hidden = _rounded_values(torch.sigmoid(o) * torch.tanh(cell), affine)
        states.append(hidden)
    return torch.stack(states, 1)


def network_of(case: Case) -> nn.Module:
    """Return the network with initial weights and made-up statistics."""
    torch.manual_seed(0)
    network = case.build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.2)
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, 0.0, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return network.eval()


def in_chunks(function: Callable[[Tensor], Tensor], inputs: Tensor, size: int) -> None:
    """Call a function on parts."""
    for part in torch.split(inputs, size):
        function(part)


def medians(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each side; one round that is not counted goes first."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds + 1):
        for name, side in sides.items():
            start = time.process_time()
            side()
            times[name].append(time.process_time() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def decibels(signal: Tensor, other: Tensor) -> float:
    """Return the ratio of a signal to its distance from another one."""
    return float(10.0 * torch.log10(signal.double().square().sum() / (signal - other).double().square().sum()))


def accuracy(graph: Graph, quantized: QuantizedGraph, inputs: Tensor) -> dict[str, float]:
    """Return how far fast arithmetic is from exact."""
    exact, fast = quantized.codes(inputs), quantized.codes(inputs, "fast")
    steps = (exact - fast).abs()
    with torch.no_grad():
        real = torch.cat([graph.forward(part) for part in torch.split(inputs, 64)])
    return {
        "max_steps": float(steps.max()),
        "mean_steps": float(steps.mean()),
        "share_differing": float((steps > 0).double().mean()),
        "sqnr_exact_db": decibels(real, quantized.output.dequantize(exact)),
        "sqnr_fast_db": decibels(real, quantized.output.dequantize(fast)),
    }


def measure(case: Case, rounds: int, litert_samples: int) -> dict[str, Any]:
    """Return times and accuracy of one case."""
    network = network_of(case)
    torch.manual_seed(1)
    inputs = torch.randn(case.samples, *case.shape)
    graph, scheme = trace(network, case.shape), Scheme()
    quantized = QuantizedGraph.quantize(graph, graph.calibrate(inputs[:256]), scheme)
    fast, exact = quantized.evaluator("fast"), quantized.evaluator("exact")
    fake, content = FakeQuantized(quantized, scheme), write_tflite(quantized.program())
    few = inputs[:litert_samples]
    sides: dict[str, Callable[[], object]] = {
        "fast": lambda: fast.codes(inputs),
        "exact": lambda: exact.codes(inputs),
        "preparation": lambda: quantized.evaluator("fast"),
        "float": lambda: in_chunks(torch.no_grad()(graph.forward), inputs, case.chunks[-1]),
    }
    for size in case.chunks:
        sides[f"fake_quantize_{size}"] = lambda size=size: in_chunks(fake.forward, inputs, size)  # type: ignore[misc]
    for kernels in ("reference", "optimized"):
        model = LiteRTModel(content, kernels, border=graph.border)
        sides[f"litert_{kernels}"] = lambda model=model: model.codes(few.numpy())  # type: ignore[misc]
    found = medians(sides, rounds)
    for kernels in ("reference", "optimized"):
        found[f"litert_{kernels}"] *= len(inputs) / len(few)
    chunked = {name: found.pop(name) for name in list(found) if name.startswith("fake_quantize_")}
    found["fake_quantize"] = min(chunked.values())
    return {
        "samples": case.samples,
        "milliseconds": {name: 1e3 * seconds for name, seconds in found.items()},
        "fake_quantize_chunk": int(min(chunked, key=chunked.__getitem__).rsplit("_", 1)[1]),
        "times_of_fast": {n: found[n] / found["fast"] for n in found if n not in {"fast", "preparation"}},
        **accuracy(graph, quantized, inputs),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--litert-samples", type=int, default=16)
    parser.add_argument("--out", type=Path, help="JSON file; other cases in it are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if options.out is not None and options.out.is_file():
        results = json.loads(options.out.read_text("utf-8"))["cases"]
    timed_by = {"torch": torch.__version__, "rounds": options.rounds, "litert_samples": options.litert_samples}
    for name in options.cases:
        results[name] = timed_by | measure(CASES[name], options.rounds, options.litert_samples)
        print(name, json.dumps(results[name], indent=1), flush=True)
    if options.out is not None:
        options.out.write_text(json.dumps({"cases": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
