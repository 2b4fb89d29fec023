"""The quantized score of one candidate: by qanas, and by torchao's PT2E flow, in one process.

Protocol: from a float torch module to the quantized outputs of `EVALUATED` samples. qanas: trace, calibrate, quantize,
prepare the evaluator and run it in fast arithmetic. PT2E: ``torch.export``, ``prepare_pt2e``, run the calibration
samples, ``convert_pt2e``, run the converted graph as it is; static int8, weights by channel. Both have the same module
and samples; inputs and most networks are those of ``benchmarks/export.py``, weights initial ones. One thread.

PT2E has four sides: the quantizer that torchao documents for CPUs, `X86InductorQuantizer`, and the XNNPACK quantizer,
of which torchao ships a copy in ``torchao.testing`` (the other one is executorch's); each with the observers of its
default, histograms, and with smallest and largest values, which is what qanas takes. ``torch.compile`` of the converted
graph is left out: it takes longer than it saves on one score. Samples go through PT2E's graphs 64 windows or 8
images at a time. Ratios are PT2E / qanas.

The first run of every side is not timed. Reported are medians, by default of the process's time on the processor,
all threads together: on a machine that others use as well, wall time is mostly waiting.

*SQNR* is 10 log10(sum y^2 / sum (y - y')^2) over all outputs, y in float32. *Float* are the layers with weights that a
PT2E graph computes on values that no quantizer touched: what is left of them in float is not paid for.

    python -m venv peers && peers/bin/pip install -r benchmarks/pt2e_requirements.txt -c constraints.txt -e .
    OMP_NUM_THREADS=1 peers/bin/python benchmarks/candidate_score.py --out docs/results/candidate_score.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import export
from export import CLOCKS, SERIES, Stopwatch, samples_of, timed_by
from qanas.exporting.report import sqnr_db
from qanas.layers.mbconv import MBConv, MBConvChoice
from qanas.networks.mobilenet import MobileNetSpace
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace
from qanas.search_space.network_space import TaskShape


def mobilenet() -> nn.Module:
    """Return MobileNetV2 of half the width for ten classes."""
    shape = TaskShape((3, 96, 96), 10, 1.0, ("cross_entropy",))
    return MobileNetSpace(reference="mobilenet_v2_0.5").reference_network(shape)


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    **{name: export.NETWORKS[name] for name in ("TCN 4x32", "LSTM 2x32", "DeepLabv3 x0.5", "FastestDet")},
    "MobileNetV2 x0.5": (mobilenet, (3, 96, 128), 64),
    "MBConv 16-96-16": (lambda: MBConv(16, 16, MBConvChoice()), (16, 24, 32), 64),
}
"""The network, the shape of one sample, and how many samples calibrate it."""

EVALUATED = 64
"""Samples whose quantized outputs are the score."""

CHUNKS = {"window": 64, "image": 8}
"""Samples that PT2E's graphs are exported for; they divide the numbers of samples."""

PROMISE = 5.0
"""Times that qanas is faster at least than any of PT2E's sides."""

PARTS = ("trace", "calibrate", "quantize", "evaluate")

WEIGHTED = ("conv", "linear", "addmm", "matmul", "lstm")
"""Parts of the names of operators that have weights."""

Side = Callable[[nn.Module, Tensor, Tensor, Stopwatch], Tensor]
"""From network, calibration samples and evaluated samples to quantized outputs."""


def ours(network: nn.Module, samples: Tensor, inputs: Tensor, watch: Stopwatch) -> Tensor:
    """Return the outputs that qanas scores."""
    with watch.part("trace"):
        graph = trace(network, tuple(samples.shape[1:]))
    with watch.part("calibrate"):
        ranges = graph.calibrate(samples)
    with watch.part("quantize"):
        quantized = QuantizedGraph.quantize(graph, ranges, Scheme())
        evaluator = quantized.evaluator("fast")
    with watch.part("evaluate"):
        return quantized.output.dequantize(evaluator.codes(inputs))


@dataclass
class PT2E:
    """One way through PT2E.

    Attributes:
        quantizer: makes the quantizer, anew for each network.
        strict: whether the network is exported through torch's compiler; the X86 quantizer finds operators by what that
            notes down, and without it leaves whole networks of layers of one's own in float.
        chunk: samples at a time.
        converted: the last network's graph.
    """

    quantizer: Callable[[], Any]
    strict: bool
    chunk: int
    converted: fx.GraphModule | None = None

    @torch.no_grad()
    def outputs(self, network: nn.Module, samples: Tensor, inputs: Tensor, watch: Stopwatch) -> Tensor:
        """Return the outputs of the converted graph."""
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

        with watch.part("trace"):
            exported = torch.export.export(network, (samples[: self.chunk],), strict=self.strict).module()
        with watch.part("quantize"):
            prepared = prepare_pt2e(exported, self.quantizer())
        with watch.part("calibrate"):
            for batch in torch.split(samples, self.chunk):
                prepared(batch)
        with watch.part("quantize"):
            self.converted = convert_pt2e(prepared)
        with watch.part("evaluate"):
            return torch.cat([self.converted(batch) for batch in torch.split(inputs, self.chunk)])

    def layers_in_float(self) -> list[str]:
        """Return the operators with weights of the last network whose input is not a dequantized value."""
        assert self.converted is not None
        return [
            node.name
            for node in self.converted.graph.nodes
            if node.op == "call_function"
            and any(part in str(node.target) for part in WEIGHTED)
            and not _dequantized(node.args[0])
        ]


def _dequantized(value: Any) -> bool:  # noqa: ANN401 - whatever an operator takes
    """Tell whether a value is dequantized, or its values in another shape or order are."""
    while isinstance(value, fx.Node) and any(part in str(value.target) for part in ("view", "reshape", "permute")):
        value = value.args[0]
    return isinstance(value, fx.Node) and "dequantize" in str(value.target)


def peers(chunk: int) -> dict[str, PT2E]:
    """Return PT2E's sides by name."""
    warnings.simplefilter("ignore")
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86
    from torchao.testing.pt2e import _xnnpack_quantizer as xnnpack

    configurations = {
        "x86": (x86.X86InductorQuantizer, x86.get_default_x86_inductor_quantization_config()),
        "xnnpack": (xnnpack.XNNPACKQuantizer, xnnpack.get_symmetric_quantization_config(is_per_channel=True)),
    }
    sides: dict[str, PT2E] = {}
    for name, (quantizer, config) in configurations.items():
        for observer, given in (("histogram", config), ("min_max", _with_extremes(config))):
            sides[f"{name}_{observer}"] = PT2E(partial(_configured, quantizer, given), name == "x86", chunk)
    return sides


def _configured(quantizer: Callable[[], Any], config: Any) -> Any:  # noqa: ANN401 - torchao's classes
    return quantizer().set_global(config)


def _with_extremes(config: Any) -> Any:  # noqa: ANN401 - either quantizer's own class
    """Return a configuration whose activations are observed by their smallest and largest values."""
    from torchao.quantization.pt2e import MinMaxObserver

    spec = replace(config.input_activation, observer_or_fake_quant_ctr=MinMaxObserver.with_args(eps=2**-12))
    return replace(config, input_activation=spec, output_activation=spec)


def network_of(build: Callable[[], nn.Module], samples: Tensor) -> nn.Module:
    """Return a network with initial weights and batch norms that have the statistics of samples."""
    torch.manual_seed(0)
    network = build()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    network.train()
    with torch.no_grad():
        for batch in torch.split(samples, 32):
            network(batch)
    return network.eval()


def seconds_of(side: Side, network: nn.Module, samples: Tensor, inputs: Tensor, clock: str) -> dict[str, float]:
    """Return what each part of a score took."""
    watch = Stopwatch(CLOCKS[clock])
    side(network, samples, inputs, watch)
    return dict(watch.seconds)


def compared(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return all sides of one network."""
    build, shape, count = NETWORKS[name]
    samples, inputs = samples_of(shape, count, seed=1), samples_of(shape, EVALUATED, seed=2)
    network = network_of(build, samples)
    others = peers(CHUNKS["window" if shape == SERIES else "image"])
    score = partial(seconds_of, network=network, samples=samples, inputs=inputs, clock=options.clock)
    sides: dict[str, Side] = {"qanas": ours, **{name: peer.outputs for name, peer in others.items()}}
    times: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    with torch.no_grad():
        wanted = network(inputs).numpy()
    outputs = {side: run(network, samples, inputs, Stopwatch(CLOCKS[options.clock])) for side, run in sides.items()}
    for _ in range(options.rounds):
        for side, run in sides.items():
            times[side] += [score(run) for _ in range(options.repeats if side == "qanas" else 1)]
    found: dict[str, Any] = {"calibration_samples": count}
    for side in sides:
        parts = {part: statistics.median(seconds[part] for seconds in times[side]) for part in PARTS}
        found[side] = {
            "milliseconds": round(1e3 * statistics.median(sum(seconds.values()) for seconds in times[side]), 1),
            "parts": {part: round(1e3 * seconds, 1) for part, seconds in parts.items()},
            "sqnr_db": round(sqnr_db(wanted, outputs[side].numpy()), 1),
        }
    for side, peer in others.items():
        found[side] |= {
            "float": peer.layers_in_float(),
            "ratio": round(found[side]["milliseconds"] / found["qanas"]["milliseconds"], 1),
        }
    return found | {"least_ratio": min(found[side]["ratio"] for side in others)}


def table(networks: Mapping[str, Any]) -> list[str]:
    """Return the results as lines of a Markdown table."""
    sides = [side for side, entry in next(iter(networks.values())).items() if isinstance(entry, dict)][1:]
    lines = [
        f"| network | qanas, ms | {' | '.join(side.replace('_', ' ') for side in sides)} | dB: qanas, x86, xnnpack |",
        f"|---|---:|{'---:|' * len(sides)}---:|",
    ]
    for name, found in networks.items():
        ratios = " | ".join(f"{found[side]['ratio']}" for side in sides)
        decibels = ", ".join(f"{found[side]['sqnr_db']}" for side in ("qanas", "x86_min_max", "xnnpack_min_max"))
        lines.append(f"| {name} | {found['qanas']['milliseconds']} | {ratios} | {decibels} |")
    return lines


def main() -> None:
    """Measure, print and write; the exit code is 1 where the promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="scores by PT2E that are timed")
    parser.add_argument("--repeats", type=int, default=5, help="scores by qanas in each round")
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file; results of other networks in it are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    kept = json.loads(options.out.read_text())["networks"] if options.out and options.out.exists() else {}
    for name in options.networks:
        kept[name] = timed_by(options) | compared(name, options)
        print(name, json.dumps(kept[name], indent=1), flush=True)
        if options.out is not None:
            versions = {package: version(package) for package in ("torch", "torchao", "numba")}
            result = {
                "protocol": {"evaluated_samples": EVALUATED},
                "versions": versions | {"python": platform.python_version()},
                "networks": kept,
            }
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(table(kept)))
    raise SystemExit(any(kept[name]["least_ratio"] < PROMISE for name in options.networks))


if __name__ == "__main__":
    main()
