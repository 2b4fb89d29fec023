"""A network of one's own, trained already, to a file that ships: quantized, run in its runtime, compared; no search."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.core.run_folder import write_atomically
from qanas.core.suggestions import unknown
from qanas.deployment.litert import LiteRTModel, dequantize
from qanas.deployment.parity import ParitySteps
from qanas.deployment.tflite import write_tflite
from qanas.hardware.costs import FLOAT_PREFIX, SHIPPED_COSTS, costs_of
from qanas.quantization.affine import Affine
from qanas.quantization.axis_order import Border
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.named_schemes import named_schemes
from qanas.quantization.quantized_graph import QuantizedGraph
from qanas.quantization.scheme import Scheme, UnsupportedSchemeError
from qanas.quantization.tracing import trace
from qanas.workflows.calibration_file import read_samples
from qanas.workflows.export_report import Export, Reals, StoredTensor, sqnr_db
from qanas.workflows.own_network import load_network

COMPARED_SAMPLES = 256
"""Samples that are run in the runtime, spread over the calibration data: reference kernels are slow."""

CHUNK = 64
"""Samples that torch computes at a time."""

MIN_FLOAT_SQNR_DB = 60.0
"""What a float file has to reach. Float32 itself leaves 100 dB and more; a wrong operator tens of dB."""


@dataclass(frozen=True)
class Source:
    """What is exported.

    Attributes:
        name: ``module:object``.
        graph: of the network.
        samples: of the calibration, (n, *input shape) as torch has them.
        outputs: torch's on them, float32.
    """

    name: str
    graph: Graph
    samples: Reals
    outputs: Reals

    @classmethod
    def load(cls, name: str, calibration: Path, *, weights: Path | None = None, array: str | None = None) -> Source:
        """Read samples, make the network, run it in torch and trace it.

        Args:
            name: ``module:object``, see `qanas.workflows.own_network.load_network`.
            calibration: an .npz file with samples.
            weights: a state dict for the network; None: it has its weights.
            array: the samples' name in the file; None: its only array.

        Raises:
            InputError: any of it can't be had, or the network has what the runtime has not.
        """
        samples = read_samples(calibration, array)
        network = load_network(name, weights)
        outputs = _torch_outputs(name, network, samples, calibration)
        try:
            graph = trace(network, samples.shape[1:])
        except UnsupportedNetworkError as error:
            raise InputError(f"'{name}' can't be exported: {error}") from error
        return cls(name, graph, samples, outputs)

    @property
    def compared(self) -> Reals:
        """The samples that are run in the runtime."""
        return self.samples[self._positions]

    @property
    def compared_outputs(self) -> Reals:
        """Torch's outputs on them."""
        return self.outputs[self._positions]

    @property
    def _positions(self) -> NDArray[np.int64]:
        return np.unique(np.linspace(0, len(self.samples) - 1, COMPARED_SAMPLES).astype(np.int64))


class Runtime(Protocol):
    """A file that was loaded into its runtime."""

    border: Border
    input: Affine | None
    output: Affine | None
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]


@dataclass(frozen=True)
class Deployed:
    """A file that was run on the compared samples.

    Attributes:
        content: the file.
        model: in its runtime.
        precision: ``int8`` or ``float32``.
        scheme: the quantization scheme's name; None where nothing is quantized.
        outputs: real values in torch's order.
        costs: in bytes and multiply-accumulates.
        parity: distance between simulated and deployed outputs in steps; None where nothing is quantized.
        failure: why it must not ship; empty if it may.
    """

    content: bytes
    model: Runtime
    precision: str
    scheme: str | None
    outputs: Reals
    costs: Mapping[str, float]
    parity: ParitySteps | None
    failure: str


def require_folder_of(path: Path) -> None:
    """Refuse a file that can't be written, before anything is computed.

    Raises:
        InputError: its folder doesn't exist, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise InputError(f"--out {path}: the folder {path.parent} doesn't exist; make it first")
    if path.is_dir():
        raise InputError(f"--out {path}: is a folder; name a file in it, such as {path / 'model.tflite'}")


def named_scheme(name: str) -> Scheme:
    """Return a scheme of ``quantization/schemes.toml``.

    Raises:
        InputError: there is none of this name.
    """
    schemes = named_schemes()
    if name not in schemes:
        raise InputError(f"--scheme: {unknown('scheme', name, schemes)}")
    return schemes[name]


def int8_tflite(source: Source, scheme: str) -> Deployed:
    """Quantize, write the .tflite file and run it in LiteRT.

    Args:
        source: what is exported.
        scheme: a name of ``quantization/schemes.toml``.

    Raises:
        InputError: there is no such scheme, or the network can't have it.
    """
    quantized = quantize(source, named_scheme(scheme))
    content = write_tflite(quantized.program())
    model = LiteRTModel(content, border=source.graph.border)
    codes = model.codes(source.compared)
    parity = ParitySteps.between(quantized.codes(torch.from_numpy(source.compared)).numpy(), codes)
    reason = parity.failure()
    costs = costs_of(source.graph, quantized)
    return Deployed(
        content=content,
        model=model,
        precision="int8",
        scheme=scheme,
        outputs=dequantize(codes, quantized.output),
        costs={name: costs[name] for name in SHIPPED_COSTS},
        parity=parity,
        failure="" if reason is None else f"outside parity: {reason}",
    )


def float_tflite(source: Source) -> Deployed:
    """Write the .tflite file in float32 and run it in LiteRT."""
    content = write_tflite(source.graph.program())
    model = LiteRTModel(content, border=source.graph.border)
    outputs = model.predict(source.compared)
    ratio = sqnr_db(source.compared_outputs, outputs)
    low = f"outputs are at {ratio:.1f} dB of torch's, less than {MIN_FLOAT_SQNR_DB:g}"
    # `costs_of` wants a quantized graph as well; what that costs is not looked at.
    costs = costs_of(source.graph, QuantizedGraph.from_shapes(source.graph, Scheme()))
    return Deployed(
        content=content,
        model=model,
        precision="float32",
        scheme=None,
        outputs=outputs,
        costs={name: costs[FLOAT_PREFIX + name] for name in SHIPPED_COSTS},
        parity=None,
        failure="" if ratio >= MIN_FLOAT_SQNR_DB else low,
    )


def ship(source: Source, deployed: Deployed, out: Path) -> Export:
    """Write a file, atomically, unless it failed; say what it is."""
    model = deployed.model
    if not deployed.failure:
        write_atomically(out, deployed.content)
    return Export(
        network=source.name,
        path=str(out),
        failure=deployed.failure,
        precision=deployed.precision,
        scheme=deployed.scheme,
        sha256=hashlib.sha256(deployed.content).hexdigest(),
        costs={name: int(cost) for name, cost in deployed.costs.items()},
        input=StoredTensor.of(model.input_shape, model.input, model.border.input),
        output=StoredTensor.of(model.output_shape, model.output, model.border.output),
        samples=len(source.compared),
        sqnr_db=sqnr_db(source.compared_outputs, deployed.outputs),
        parity=deployed.parity,
    )


def quantize(source: Source, scheme: Scheme) -> QuantizedGraph:
    """Quantize with the ranges of the calibration samples.

    Raises:
        InputError: the network can't have the scheme, or its values can't be quantized.
    """
    try:
        ranges = source.graph.calibrate(torch.from_numpy(source.samples), scheme)
        return QuantizedGraph.quantize(source.graph, ranges, scheme)
    except UnsupportedSchemeError as error:
        raise InputError(f"--scheme: {error}; name another one") from error
    except ValueError as error:
        raise InputError(f"'{source.name}' can't be quantized: {error}") from error


@torch.no_grad()
def _torch_outputs(name: str, network: nn.Module, samples: Reals, path: Path) -> Reals:
    """Return what torch computes.

    Raises:
        InputError: the samples don't fit the network, or it puts out something else than finite values of one tensor.
    """
    outputs: list[Tensor] = []
    for chunk in torch.split(torch.from_numpy(samples), CHUNK):
        try:
            found = network(chunk)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise InputError(f"{path}: '{name}' refuses samples of the shape {samples.shape[1:]}: {reason}") from error
        if not isinstance(found, Tensor) or found.ndim == 0 or len(found) != len(chunk):
            raise InputError(f"'{name}' must put out one tensor, the samples in front; it puts out {_told(found)}")
        outputs.append(found)
    values: Reals = torch.cat(outputs).to(torch.float32).numpy()
    if not np.isfinite(values).all():
        raise InputError(f"'{name}' puts out NaN or infinite values on {path}; look at its weights")
    return values


def _told(found: object) -> str:
    return f"the shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
