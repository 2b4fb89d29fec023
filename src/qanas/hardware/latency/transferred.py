"""Latency from another device's table and a few whole networks measured on this one."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from qanas.core.errors import InputError
from qanas.deployment.tflite_reader import read_tflite
from qanas.hardware.latency.base import STRICT, Figure, Figured, LatencySource
from qanas.hardware.latency.figures_file import FiguresFile
from qanas.hardware.latency.table import TableFile, signature
from qanas.hardware.latency.transfer import Transfer
from qanas.hardware.work import KERNEL_KINDS, work_of
from qanas.quantization.program import RuntimeOperator

FEWEST = 5
"""Measured networks; fewer tell nothing but the scale."""


class MeasuredNetwork(BaseModel):
    """A network that was measured.

    Attributes:
        operators: how many it has of each, by signature.
        kinds: the kind of kernel of each, by signature.
        value: of the whole network.
    """

    model_config = STRICT
    operators: dict[str, int]
    kinds: dict[str, str]
    value: Figured


class NetworksFile(FiguresFile):
    """What a file of measured networks holds.

    Attributes:
        networks: that were measured.
    """

    key: ClassVar[str] = "device.latency.networks"
    held: ClassVar[str] = "file of measured networks"
    made_by: ClassVar[str] = "qanas table --whole"
    networks: list[MeasuredNetwork]


class Transferred(LatencySource):
    """Another device's table, corrected by networks that were measured on this one, see `Transfer`.

    A network is described by what its operators take on the known device, summed by kind of kernel.

    Attributes:
        path: of the known device's table.
        networks: of the file of measured networks; relative paths start from the device's file.
    """

    method: Literal["transfer"]
    path: str
    networks: str

    @property
    def _measured(self) -> NetworksFile:
        found = NetworksFile.read(Path(self.networks))
        if len(found.networks) < FEWEST:
            raise InputError(f"{self.networks}: {len(found.networks)} measured networks; measure {FEWEST} at least")
        return found

    @property
    def figure(self) -> Figure:
        """What was counted of the measured networks."""
        return self._measured.figure

    @property
    def digest(self) -> str:
        """Changes with both files' content."""
        return f"{TableFile.read(Path(self.path)).digest}-{self._measured.digest}"

    @property
    def described(self) -> str:
        """Both devices."""
        known, own = TableFile.read(Path(self.path)), self._measured
        return f"from a table of {known.device} and {len(own.networks)} networks measured on {own.device}, {own.date}"

    def of(self, contents: Sequence[bytes]) -> list[float]:
        """Return the expectation of each file.

        Raises:
            InputError: it is no .tflite file, or has operators that the table lacks.
        """
        known, measured = TableFile.read(Path(self.path)).values, self._measured.networks
        asked = [described_network(read_tflite(content).operators, 0.0) for content in contents]
        features = np.array([self._features(network, known) for network in (*measured, *asked)])
        transfer = Transfer(features / features.std(axis=0).max(), features.sum(axis=1))
        latency = np.array([network.value for network in measured])
        found = transfer.predict(np.arange(len(measured)), latency)[len(measured) :]
        # A network is never faster than none: far from all that was measured a correction may say so.
        return [float(value) for value in np.maximum(found, latency.min() * 1e-3)]

    def _features(self, network: MeasuredNetwork, known: Mapping[str, float]) -> NDArray[np.float64]:
        """Return what a network takes on the known device by kind of kernel, shape (kinds,)."""
        lacking = [name for name in network.operators if name not in known]
        if lacking:
            raise InputError(f"{self.path} lacks {len(lacking)} operators; add them with qanas table")
        found = dict.fromkeys(KERNEL_KINDS, 0.0)
        for name, count in network.operators.items():
            found[network.kinds[name]] += count * known[name]  # type: ignore[index]  # written by us
        return np.array(list(found.values()))


def described_network(operators: Sequence[RuntimeOperator], value: float) -> MeasuredNetwork:
    """Return a network by its operators."""
    named = [(signature(operator), work_of(operator).kind) for operator in operators]
    return MeasuredNetwork(operators=collections.Counter(name for name, _ in named), kinds=dict(named), value=value)


def measure_networks(name: str, source: LatencySource, contents: Sequence[bytes], path: Path) -> NetworksFile:
    """Measure whole networks in turns and write them.

    Args:
        name: of the device.
        source: what takes them.
        contents: .tflite files.
        path: to write; to a file of the same device and protocol they are added, in place of equal networks.

    Raises:
        InputError: there is another file, or one of another device or protocol.
    """
    before = NetworksFile.read(path) if path.exists() else None
    now = NetworksFile.taken(name, source, networks=[])
    if before is not None and (before.device, before.figure, before.protocol) != (now.device, now.figure, now.protocol):
        raise InputError(f"{path}: it is of {before.device}, {before.protocol}; name another file for {name}")
    values = source.of(contents)
    networks = [described_network(read_tflite(c).operators, v) for c, v in zip(contents, values, strict=True)]
    anew = [network.operators for network in networks]
    kept = [network for network in (before.networks if before is not None else []) if network.operators not in anew]
    made = now.model_copy(update={"networks": [*kept, *networks]})
    made.write(path)
    return made
