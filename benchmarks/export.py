"""Five networks as int8 .tflite files: by qanas, and by litert-torch with ai-edge-quantizer, in one process.

Protocol: the same torch module, samples and calibration on both sides, one thread. Inputs are made up: series are
random walks, images are noise at several resolutions; networks are trained on them for `STEPS` steps to put out sums of
what is around. What the peers refuse is replaced on both sides: `detector`, `with_plain_heads`. Their images have
channels last at the border too, their ranges are true minima and maxima; what their default, a moving average, gives
is beside it.

*Convert* is all that makes a file but running the calibration samples: from the module to a float graph, then, with the
ranges known, to quantized bytes. *Calibrate* is running the samples. The first conversion of either side isn't timed.
Reported are medians, by default of the process's time on the processor, all threads together: on a machine that others
use as well, wall time is mostly waiting. Ratios are peers / qanas.

*Stripped* is a file without names, metadata, signatures and recorded ranges, equal constants stored once, packed anew
(which makes qanas' own larger: the packer stores equal scales several times). *SQNR* is
10 log10(sum y^2 / sum (y - y')^2) over all outputs of other samples than those of the calibration, y from torch in
float32, y' the file's with LiteRT's reference kernels.

    python -m venv peers && peers/bin/pip install -r benchmarks/export_requirements.txt -e .
    OMP_NUM_THREADS=1 peers/bin/python benchmarks/export.py --out docs/results/export.json
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import platform
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from qanas.deployment.litert import LiteRTModel
from qanas.deployment.tflite import write_tflite
from qanas.exporting.report import sqnr_db
from qanas.layers.sequences import ScaledLinear
from qanas.networks.deeplabv3 import DeepLabV3
from qanas.networks.fastestdet import FastestDet
from qanas.networks.lstm import LSTMNetwork
from qanas.networks.tcn import TCNNetwork
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme
from qanas.quantization.tracing import trace

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW, FEATURES = 30, 14
SERIES, SEGMENTED, DETECTED = (WINDOW, FEATURES), (3, 96, 128), (3, 96, 96)

RESOLUTIONS = (4, 12, 48)
"""Rows and columns of the noise that images are made of."""

STEPS, BATCH, RATE = 120, 16, 3e-3
SERIES_SCALE, LAST_STEPS = 20.0, 5

COMPARED = 64
"""Samples that SQNR is taken over."""

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}

PEERS = ("litert-torch", "ai-edge-quantizer", "ai-edge-litert", "torch")


def samples_of(shape: tuple[int, ...], count: int, seed: int) -> Tensor:
    """Return random walks of unit size, or noise at several resolutions added up."""
    generator = torch.Generator().manual_seed(seed)
    if shape == SERIES:
        steps = torch.randn(count, *shape, generator=generator)
        walks: Tensor = torch.cumsum(steps, 1) / WINDOW**0.5
        return walks
    images = torch.zeros(count, *shape)
    for side in RESOLUTIONS:
        noise = torch.randn(count, shape[0], side, side, generator=generator)
        images += functional.interpolate(noise, shape[1:], mode="bilinear") / len(RESOLUTIONS) ** 0.5
    return images


def detector() -> nn.Module:
    """Return a FastestDet that the peers convert: they have no average pool that pads on one side only."""
    network = FastestDet((96, 96))
    network.shrink = nn.AvgPool2d(2)  # type: ignore[assignment]
    return network


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "LSTM 1x20": (lambda: LSTMNetwork(FEATURES, [20], 1, 125.0), SERIES, 128),
    "LSTM 2x32": (lambda: LSTMNetwork(FEATURES, [32, 32], 1, 125.0), SERIES, 128),
    "TCN 4x32": (lambda: TCNNetwork(SERIES, [32] * 4, 3, 2, 1, 125.0), SERIES, 128),
    "DeepLabv3 x0.5": (lambda: DeepLabV3((96, 128), 12, width=0.5), SEGMENTED, 64),
    "FastestDet": (detector, DETECTED, 64),
}
"""The network, the shape of one sample, and how many samples calibrate it."""


def targets_of(samples: Tensor, outputs: tuple[int, ...]) -> Tensor:
    """Return what a network is trained to put out: sums over the last steps, or over what is around a position."""
    generator = torch.Generator().manual_seed(3)
    channels = samples.shape[2] if samples.ndim == len("NTC") else samples.shape[1]
    mixed = torch.randn(outputs[0], channels, generator=generator)
    if samples.ndim == len("NTC"):
        return SERIES_SCALE * samples[:, -LAST_STEPS:].mean(1) @ mixed.T
    pooled = functional.adaptive_avg_pool2d(samples, (outputs[1], outputs[2]))
    return torch.sigmoid(torch.einsum("nchw,oc->nohw", pooled, mixed))


def trained(build: Callable[[], nn.Module], samples: Tensor) -> nn.Module:
    """Return a network after some steps of training: one of random weights multiplies every rounding by its depth."""
    torch.manual_seed(0)
    network = build()
    with torch.no_grad():
        targets = targets_of(samples, tuple(network.eval()(samples[:2]).shape[1:]))
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for _ in range(STEPS):
        rows = torch.randint(len(samples), (BATCH,), generator=generator)
        loss = functional.mse_loss(network(samples[rows]), targets[rows])
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    return with_plain_heads(network.eval())


def with_plain_heads(network: nn.Module) -> nn.Module:
    """Fold the constant factor of heads into their weights: the peers can't quantize the bias of its product."""
    for name, layer in list(network.named_modules()):
        if isinstance(layer, ScaledLinear):
            weight, bias = layer.folded()
            plain = nn.Linear(layer.in_features, layer.out_features)
            plain.weight, plain.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
            network.set_submodule(name, plain)
    return network


@dataclass
class Stopwatch:
    """Adds up the times of named parts.

    Attributes:
        clock: what tells the time, in seconds.
        seconds: of each part so far.
    """

    clock: Callable[[], float]
    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done inside."""
        start = self.clock()
        yield
        self.seconds[name] += self.clock() - start


def ours(network: nn.Module, samples: Tensor, watch: Stopwatch) -> bytes:
    """Return the file as qanas makes it."""
    with watch.part("convert"):
        graph = trace(network, tuple(samples.shape[1:]))
    with watch.part("calibrate"):
        ranges = graph.calibrate(samples)
    with watch.part("convert"):
        return write_tflite(QuantizedGraph.quantize(graph, ranges, Scheme()).program())


class Peers:
    """litert-torch and ai-edge-quantizer, loaded late: it takes seconds."""

    def __init__(self) -> None:
        """Import them, silenced."""
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")
        import litert_torch
        from ai_edge_quantizer import calibrator, quantizer, recipe
        from ai_edge_quantizer.utils import qsv_utils

        self.litert_torch, self.calibrator, self.quantizer = litert_torch, calibrator, quantizer
        self.recipe = recipe.static_wi8_ai8()
        self.updates = {"min_max": qsv_utils.min_max_update, "moving_average": qsv_utils.moving_average_update}

    def file(self, network: nn.Module, samples: Tensor, watch: Stopwatch, ranges: str = "min_max") -> bytes:
        """Return the file as they make it."""
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return self._file(network, samples, watch, ranges)

    def _file(self, network: nn.Module, samples: Tensor, watch: Stopwatch, ranges: str) -> bytes:
        image = samples.ndim == len("NCHW")
        inputs = samples.permute(0, 2, 3, 1).contiguous() if image else samples
        with watch.part("convert"):
            module = self.litert_torch.to_channel_last_io(network, args=[0], outputs=[0]) if image else network
            content = bytes(self.litert_torch.convert(module.eval(), (inputs[:1],)).model_content())
            quantizer = self.quantizer.Quantizer(content, self.recipe)
            calibrator = self.calibrator.Calibrator(content, num_threads=1, qsv_update_func=self.updates[ranges])
        (signature, name) = self._signature(content)
        data = {signature: [{name: sample[None].numpy()} for sample in inputs]}
        with watch.part("calibrate"):
            # There is no public way to choose how ranges are updated.
            calibrator.calibrate(data, quantizer._recipe_manager)
        with watch.part("convert"):
            return bytes(quantizer.quantize(calibrator.get_model_qsvs()).quantized_model)

    @staticmethod
    def _signature(content: bytes) -> tuple[str, str]:
        from ai_edge_litert.interpreter import Interpreter

        ((signature, ends),) = Interpreter(model_content=content).get_signature_list().items()
        return signature, ends["inputs"][0]


def stripped(content: bytes) -> bytes:
    """Return a file without what isn't needed to run it."""
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    model.metadata, model.metadataBuffer, model.signatureDefs, model.description = None, None, None, None
    buffers: dict[bytes, int] = {b"": 0}
    kept = [model.buffers[0]]
    for graph in model.subgraphs:
        graph.name = None
        for tensor in graph.tensors:
            tensor.name, tensor.shapeSignature = None, None
            if tensor.quantization is not None:
                tensor.quantization.min, tensor.quantization.max = None, None
            data = model.buffers[tensor.buffer].data
            raw = b"" if data is None else bytes(data)
            if raw not in buffers:
                buffers[raw] = len(kept)
                kept.append(model.buffers[tensor.buffer])
            tensor.buffer = buffers[raw]
    model.buffers = kept
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def outputs_of(content: bytes, inputs: Tensor) -> NDArray[np.float32]:
    """Return a file's real outputs, in torch's order, with LiteRT's reference kernels; images lie channels last."""
    model = LiteRTModel(content)
    image = inputs.ndim == len("NCHW")
    stored = (inputs.permute(0, 2, 3, 1) if image else inputs).contiguous().numpy()
    outputs = model.predict(stored)
    return outputs.transpose(0, 3, 1, 2) if outputs.ndim == len("NCHW") else outputs


def operators_of(content: bytes) -> int:
    """Return how many operators a file has."""
    from ai_edge_litert import schema_py_generated as schema

    return int(schema.Model.GetRootAs(content).Subgraphs(0).OperatorsLength())


def described(contents: dict[str, bytes], network: nn.Module, inputs: Tensor) -> dict[str, Any]:
    """Return size, operators and SQNR of files."""
    with torch.no_grad():
        wanted = network(inputs).numpy()
    return {
        name: {
            "file_bytes": len(content),
            "stripped_bytes": len(stripped(content)),
            "operators": operators_of(content),
            "sqnr_db": round(sqnr_db(wanted, outputs_of(content, inputs)), 2),
        }
        for name, content in contents.items()
    }


def compared(name: str, peers: Peers, options: argparse.Namespace) -> dict[str, Any]:
    """Return both sides of one network."""
    build, shape, count = NETWORKS[name]
    samples = samples_of(shape, count, seed=1)
    network = trained(build, samples)
    clock = CLOCKS[options.clock]
    # Not timed: both sides' first conversion.
    ours(network, samples, Stopwatch(clock))
    contents = {"peers_moving_average": peers.file(network, samples, Stopwatch(clock), "moving_average")}
    sides = {"qanas": (ours, options.repeats), "peers": (peers.file, 1)}
    times: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for _ in range(options.rounds):
        for side, (make, repeats) in sides.items():
            for _ in range(repeats):
                watch = Stopwatch(clock)
                contents[side] = make(network, samples, watch)
                times[side].append(watch.seconds)
    found = described(contents, network, samples_of(shape, COMPARED, seed=2))
    for part in ("convert", "calibrate"):
        medians = {side: statistics.median(seconds[part] for seconds in times[side]) for side in sides}
        for side, seconds in medians.items():
            found[side][f"{part}_ms"] = round(1e3 * seconds, 1)
        found[f"{part}_ratio"] = round(medians["peers"] / medians["qanas"], 1)
    return {"calibration_samples": count, **found}


def failures(found: dict[str, Any]) -> list[str]:
    """Return what qanas promises and doesn't keep on a network."""
    mine, theirs = found["qanas"], found["peers"]
    smallest = min(theirs["file_bytes"], theirs["stripped_bytes"])
    promises = {
        f"{mine['file_bytes']} bytes, more than {smallest}": mine["file_bytes"] <= smallest,
        f"{mine['sqnr_db']} dB, theirs {theirs['sqnr_db']}": mine["sqnr_db"] >= theirs["sqnr_db"] - 0.5,
        f"only {found['convert_ratio']} times faster": found["convert_ratio"] >= 30.0,  # noqa: PLR2004 - the promise
        f"{mine['convert_ms']} ms": mine["convert_ms"] <= 150.0,  # noqa: PLR2004 - the promise
    }
    return [broken for broken, kept in promises.items() if not kept]


def timed_by(options: argparse.Namespace) -> dict[str, Any]:
    """Return how a network is timed, which is kept with it: others in the same file may be timed otherwise."""
    return {"clock": options.clock, "rounds": options.rounds, "repeats": options.repeats}


def main() -> None:
    """Measure, print and write; the exit code is 1 where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--rounds", type=int, default=3, help="conversions of the peers that are timed")
    parser.add_argument("--repeats", type=int, default=5, help="conversions of qanas in each round")
    parser.add_argument("--clock", choices=list(CLOCKS), default="cpu")
    parser.add_argument("--out", type=Path, help="JSON file; results of other networks in it are kept")
    options = parser.parse_args()
    torch.set_num_threads(1)
    peers = Peers()
    kept = json.loads(options.out.read_text())["networks"] if options.out and options.out.exists() else {}
    broken: list[str] = []
    for name in options.networks:
        kept[name] = timed_by(options) | compared(name, peers, options)
        kept[name]["broken"] = failures(kept[name])
        broken += kept[name]["broken"]
        print(name, json.dumps(kept[name], indent=1), flush=True)
        if options.out is not None:
            versions = {package: version(package) for package in PEERS} | {"python": platform.python_version()}
            result = {"protocol": {"compared_samples": COMPARED}, "versions": versions, "networks": kept}
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
