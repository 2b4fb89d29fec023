"""A network layer by layer: what each costs, and which is the bottleneck."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from qanas.hardware.device import Device
from qanas.hardware.latency.base import Figure
from qanas.hardware.memory import live_bytes
from qanas.hardware.work import work_of
from qanas.quantization.program import Program


@dataclass(frozen=True)
class LayerProfile:
    """One operator of the file.

    Attributes:
        layer: the network's name for it, or its number in the file.
        part: of the network that it belongs to: the module that holds it.
        kind: of operator.
        output_shape: without the batch.
        parameters: values of its weights and biases.
        weight_bytes: that they take.
        macs: multiply-accumulates.
        live_bytes: working memory that is needed while it runs.
        taken: on the device, in the profile's figure; None where its source can't tell operators apart.
    """

    layer: str
    part: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    weight_bytes: int
    macs: int
    live_bytes: int
    taken: float | None


@dataclass(frozen=True)
class Profile:
    """A whole network.

    Attributes:
        layers: in the order of execution.
        device: whose latency is told.
        figure: in which it is: milliseconds where the device has them.
    """

    layers: Sequence[LayerProfile]
    device: str
    figure: Figure

    @property
    def timed(self) -> bool:
        """Whether latency is told apart by operators."""
        return all(layer.taken is not None for layer in self.layers)

    def by_part(self, value: Callable[[LayerProfile], float]) -> dict[str, float]:
        """Return the sum of something over the layers of each part, in their order."""
        found: dict[str, float] = {}
        for layer in self.layers:
            found[layer.part] = found.get(layer.part, 0.0) + value(layer)
        return found

    @property
    def additive(self) -> Mapping[str, Callable[[LayerProfile], float]]:
        """What of a layer adds up to the network's, by its name; latency only where it is told."""
        time: dict[str, Callable[[LayerProfile], float]] = {"latency": lambda layer: layer.taken or 0.0}
        return (time if self.timed else {}) | {
            "multiply-accumulates": lambda layer: layer.macs,
            "weight bytes": lambda layer: layer.weight_bytes,
        }

    def bottlenecks(self) -> dict[str, LayerProfile]:
        """Return the layer that has most of each: what adds up, and working memory."""
        found = {name: max(self.layers, key=value) for name, value in self.additive.items()}
        return found | {"working memory": max(self.layers, key=lambda layer: layer.live_bytes)}


def profiled(program: Program, device: Device, parts: Iterable[str] = ()) -> Profile:
    """Return the profile of a program.

    Args:
        program: of a network, or of a file.
        device: whose source tells what operators take, where it can.
        parts: the names of the network's modules, by which layers are summed; what has no weights belongs to the part
            before it.

    Raises:
        ValueError: nothing is known of an operator.
        InputError: the device's source needs something that isn't there.
    """
    works = [work_of(operator) for operator in program.operators]
    figure = device.figures[-1]
    times: Sequence[float | None] = device.by_operator(figure, program) or [None] * len(works)
    known, part = sorted(parts, key=len, reverse=True), ""
    layers = []
    for number, (operator, work, needed, time) in enumerate(
        zip(program.operators, works, live_bytes(program), times, strict=True)
    ):
        name = program.layers[number] or f"{number}"
        part = next((known_part for known_part in known if (name + "_").startswith(known_part + "_")), part)
        constants = [t for t in operator.inputs if t is not None and t.data is not None and t.quantization is not None]
        layers.append(
            LayerProfile(
                layer=name,
                part=part or "network",
                kind=operator.kind,
                output_shape=operator.outputs[0].shape[1:],
                parameters=sum(tensor.elements for tensor in constants),
                weight_bytes=work.weight_bytes,
                macs=work.macs,
                live_bytes=needed,
                taken=time,
            )
        )
    return Profile(layers, device.name, figure)
