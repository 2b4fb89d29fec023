"""A network of one's own as it is exported: traced, with calibration samples and what torch makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.errors import InputError
from qanas.core.even_spread import evenly_spread
from qanas.quantization.graph import Graph, UnsupportedNetworkError
from qanas.quantization.tracing import trace
from qanas.workflows.calibration_file import read_samples
from qanas.workflows.export_report import Reals
from qanas.workflows.own_network import load_network

COMPARED_SAMPLES = 256
"""Samples that are run in the runtime, spread over the calibration data: reference kernels are slow."""

CHUNK = 64
"""Samples that torch computes at a time."""


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
    def _positions(self) -> NDArray[np.intp]:
        return evenly_spread(len(self.samples), COMPARED_SAMPLES)


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
