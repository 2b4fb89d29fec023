"""Shipped networks layer by layer, as strips over depth: kernel, expansion and bits of every layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qanas.core.run_folder import SEED_ID
from qanas.reporting.figures import bits_colour
from qanas.reporting.models import main_cost, sized

if TYPE_CHECKING:
    from qanas.core.card import Card
    from qanas.reporting.run_data import RunData

_WIDTH, _NAMES, _HEAD = 1050.0, 190.0, 22.0
_ROW, _TALLEST, _BELOW = 78.0, 46.0, 4.0
_WIDEST, _GAP = 46.0, 14.0  # of a layer; between blocks
_NARROWEST = 0.35  # of a bar, of its cell's width


@dataclass(frozen=True)
class Layer:
    """One searched layer.

    Attributes:
        kernel: taps a side of its depthwise convolution.
        expansion: inner channels per channel of its input.
        bits: of its weights.
    """

    kernel: int
    expansion: int
    bits: int


Blocks = Mapping[int, Sequence[Layer]]
"""The layers of each block, by the block's number."""


@dataclass(frozen=True)
class Bar:
    """A layer as drawn; lengths in the chart's units.

    Attributes:
        x: of its left edge.
        y: of its top.
        width: grows with the kernel.
        height: grows with the expansion.
        text: the kernel.
        told: all that is known of it.
        colour: by bits, the name of one of the page's colours.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    told: str
    colour: str


@dataclass(frozen=True)
class Label:
    """A text; lengths in the chart's units.

    Attributes:
        x: of its anchor.
        y: of its baseline.
        text: what it says.
        anchor: start or middle.
        soft: whether it is only a remark.
    """

    x: float
    y: float
    text: str
    anchor: str = "middle"
    soft: bool = False


@dataclass(frozen=True)
class StripChart:
    """All strips below each other, their blocks aligned.

    Attributes:
        width: in its own units.
        height: likewise.
        bars: of all layers.
        labels: names of networks and blocks.
        legend: bits and the names of their colours.
        expansions: that occur, in words: the lowest bars' first.
    """

    width: float
    height: float
    bars: list[Bar]
    labels: list[Label]
    legend: list[tuple[str, str]]
    expansions: str


def layers_of(card: Card) -> Blocks:
    """Read a network's layers off its settings, ``kernel_B_L``, ``expansion_B_L``, ``weight_bits_B`` and so on.

    Returns:
        Nothing for a network whose settings have other names.
    """
    shape, bits = card.config.get("architecture", {}), card.config.get("quantization", {})
    blocks: dict[int, dict[int, Layer]] = {}
    for name, kernel in shape.items():
        place = re.fullmatch(r"kernel_(\d+)_(\d+)", name)
        expansion = shape.get(name.replace("kernel", "expansion", 1))
        if place is not None and isinstance(kernel, int) and isinstance(expansion, int):
            block, layer = int(place[1]), int(place[2])
            layers = blocks.setdefault(block, {})
            of_block = bits.get(f"weight_bits_{block}", 8)
            layers[layer] = Layer(kernel, expansion, int(bits.get(f"weight_bits_{block}_{layer}", of_block)))
    return {block: [layers[layer] for layer in sorted(layers)] for block, layers in sorted(blocks.items())}


def layer_strips(data: RunData) -> StripChart | None:
    """Draw a strip for each shipped network; None where the settings tell no layers by block."""
    found = {name: layers_of(card) for name, card in data.cards.items()}
    strips = {name: blocks for name, blocks in found.items() if blocks}
    if not strips:
        return None
    grid = _Grid.of(list(strips.values()))
    bars, labels = [], grid.headings()
    for row, (name, blocks) in enumerate(strips.items()):
        base = _HEAD + row * _ROW + _TALLEST + 6
        named = "reference" if name == SEED_ID else name
        labels.append(Label(0, base - 18, named, "start"))
        labels.append(Label(0, base - 2, sized(main_cost(data), data.cards[name]), "start", soft=True))
        for block, layers in blocks.items():
            bars += [grid.bar(block, place, layer, base) for place, layer in enumerate(layers)]
            labels.append(Label(grid.middle(block, len(layers)), base + 13, _told_bits(layers), soft=True))
    drawn = [layer for blocks in strips.values() for layers in blocks.values() for layer in layers]
    legend = [(f"{bits} bits", bits_colour(bits)[1:]) for bits in sorted({layer.bits for layer in drawn})]
    expansions = ", ".join(str(expansion) for expansion in sorted({layer.expansion for layer in drawn}))
    return StripChart(_WIDTH, _HEAD + len(strips) * _ROW + _BELOW, bars, labels, legend, expansions)


def _told_bits(layers: Sequence[Layer]) -> str:
    bits = sorted({layer.bits for layer in layers})
    return f"{bits[0]} bits" if len(bits) == 1 else "/".join(map(str, bits))


@dataclass(frozen=True)
class _Grid:
    """Where blocks and layers lie, so that the blocks of all strips are aligned.

    Attributes:
        starts: left edge of each block.
        places: layers that each block has room for.
        cell: width of a layer.
        kernel: the largest one.
        expansion: the largest one.
    """

    starts: Mapping[int, float]
    places: Mapping[int, int]
    cell: float
    kernel: int
    expansion: int

    @classmethod
    def of(cls, strips: Sequence[Blocks]) -> _Grid:
        numbers = sorted({block for blocks in strips for block in blocks})
        places = {number: max(len(blocks.get(number, ())) for blocks in strips) for number in numbers}
        room = _WIDTH - _NAMES - _GAP * (len(numbers) - 1)
        cell = min(_WIDEST, room / sum(places.values()))
        starts, x = {}, _NAMES
        for number in numbers:
            starts[number] = x
            x += places[number] * cell + _GAP
        layers = [layer for blocks in strips for found in blocks.values() for layer in found]
        return cls(starts, places, cell, max(la.kernel for la in layers), max(la.expansion for la in layers))

    def middle(self, block: int, layers: int) -> float:
        return round(self.starts[block] + layers * self.cell / 2, 1)

    def headings(self) -> list[Label]:
        return [Label(self.middle(block, most), 13, f"block {block}") for block, most in self.places.items()]

    def bar(self, block: int, place: int, layer: Layer, base: float) -> Bar:
        width = self.cell * (_NARROWEST + (0.94 - _NARROWEST) * layer.kernel / self.kernel)
        height = _TALLEST * layer.expansion / self.expansion
        left = self.starts[block] + place * self.cell + (self.cell - width) / 2
        told = (
            f"block {block}, layer {place + 1}: kernel {layer.kernel} x {layer.kernel}, expansion {layer.expansion}, "
            f"{layer.bits} bits"
        )
        x, y, width, height = (round(length, 1) for length in (left, base - height, width, height))
        return Bar(x, y, width, height, str(layer.kernel), told, bits_colour(layer.bits)[1:])
