"""A model's inputs and outputs as C has them: names, types, numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from qanas.core.c_text import Side, labels
from qanas.deployment.litert import LiteRTModel
from qanas.quantization.numbers.affine import Affine


@dataclass(frozen=True)
class FirmwareTensor:
    """An input or output of a model.

    Attributes:
        side: which of the two.
        name: as the network has it.
        label: what its identifiers have behind the model's name; differs from that of all others.
        index: what ``interpreter.input()`` and ``output()`` take.
        affine: of its codes.
        shape: as stored, with the batch of 1 in front.
        layout: how its axes lie, in words.
        axes: for each stored axis but the batch, its number in torch; empty where both orders are one.
    """

    side: Side
    name: str
    label: str
    index: int
    affine: Affine
    shape: tuple[int, ...]
    layout: str
    axes: tuple[int, ...]

    @property
    def size(self) -> int:
        """Values."""
        return math.prod(self.shape)

    @property
    def type(self) -> str:
        """Of a code, in C."""
        return f"int{self.affine.bits}_t"

    @property
    def member(self) -> str:
        """Of a TfLiteTensor's data."""
        return {8: "int8", 16: "i16"}[self.affine.bits]


def tensors_of(model: LiteRTModel) -> list[FirmwareTensor]:
    """Return a model's inputs, then its outputs.

    Raises:
        ValueError: one of them has real values.
    """
    border = model.border
    sides: Mapping[Side, tuple[Mapping[str, Affine | None], Mapping[str, tuple[int, ...]]]] = {
        "input": (model.inputs, model.input_shapes),
        "output": (model.outputs, model.output_shapes),
    }
    orders = {"input": {port.name: port.order for port in border.inputs}}
    orders["output"] = {port.name: port.order for port in border.outputs}
    found = []
    for side, (affines, shapes) in sides.items():
        for index, (name, label) in enumerate(labels(side, list(affines)).items()):
            affine, shape, order = affines[name], shapes[name], orders[side][name]
            if affine is None:
                raise ValueError("firmware takes a model with integer inputs and outputs")
            layout = order.described(len(shape))
            found.append(FirmwareTensor(side, name, label, index, affine, shape, layout, order.axes))
    return found
