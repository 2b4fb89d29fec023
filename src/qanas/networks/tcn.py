"""Temporal convolutional network for sequences, read at the last step, of which only what that step needs exists.

The head reads the last step alone, so that a residual block of dilation d needs its input at every d-th step only,
counted back from the last (`cone_of`). Values that hold just those steps turn every dilated causal convolution into
an ordinary one: without dilation, with a stride between blocks. Training, costs and the shipped file are those of
this smaller network; what comes out is what the whole one gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.layers.initializers import INITIALIZERS, BiasInitializer, Initializer, initialize_bias
from qanas.layers.sequences import ChannelNorm, Conv1xK, ScaledLinear
from qanas.search_space.network_space import NetworkSpace, TaskShape, narrowed_width, sequence_shape
from qanas.search_space.quantization_group import quantization_settings
from qanas.search_space.settings import Integer, Setting, exists, sizes_of_parts
from qanas.search_space.training_group import (
    Penalty,
    TrainingSettings,
    initializer_setting,
    penalty_of,
    regularizer_settings,
    training_settings,
)


@dataclass(frozen=True)
class ConvolutionCone:
    """One convolution over the positions that are needed.

    Attributes:
        taps: of the kernel; the oldest ones are left out where they would see nothing but padding.
        stride: positions of the input between two outputs.
        left_padding: zeros in front of the input.
        outputs: positions computed.
    """

    taps: int
    stride: int
    left_padding: int
    outputs: int

    @property
    def inputs(self) -> int:
        """Positions of the input, padding left out."""
        return (self.outputs - 1) * self.stride + self.taps - self.left_padding

    @classmethod
    def of(cls, kernel_size: int, stride: int, outputs: int, available: int) -> ConvolutionCone:
        """Return the convolution whose input has at most ``available`` positions, the rest being padding."""
        span = (outputs - 1) * stride
        padding = max(span + kernel_size - available, 0)
        unseen = max(padding - span, 0)
        return cls(kernel_size - unseen, stride, padding - unseen, outputs)


@dataclass(frozen=True)
class BlockCone:
    """A residual block over the positions that are needed; each holds the last steps of its own raster.

    Attributes:
        first: the convolution of the block's input.
        second: the convolution of the first one's output.
    """

    first: ConvolutionCone
    second: ConvolutionCone

    @property
    def kept(self) -> slice:
        """The positions of the block's input that stand for the same steps as its outputs."""
        first = self.first.inputs - 1 - (self.second.outputs - 1) * self.second.stride
        return slice(first, None, self.second.stride)


def cone_of(window: int, blocks: int, kernel_size: int, dilation_base: int) -> tuple[BlockCone, ...]:
    """Return what the last step of a TCN depends on.

    Going back from the last block: if a block of dilation d = base^i has to give n outputs, base * d steps apart,
    its second convolution reads the raster of step d: there it has no dilation and stride ``base``; the first one
    keeps the raster; the block before has to give that one's inputs. Steps before the sequence are zeros at
    *every* layer, as in the causal form, so they are padding there and not positions that are computed.

    With a kernel smaller than the base, every ``base``-th position between a block's convolutions is not needed;
    as no convolution leaves gaps, it is computed nevertheless.

    Args:
        window: steps of the sequence.
        blocks: residual blocks.
        kernel_size: taps of a convolution.
        dilation_base: the dilation of the i-th block, from 0, is ``dilation_base ** i``.

    Returns:
        The blocks from the first to the last.

    >>> [(block.first.inputs, block.first.outputs, block.second.outputs) for block in cone_of(30, 3, 3, 2)]
    [(29, 27, 13), (13, 11, 5), (5, 3, 1)]
    """
    cones: list[BlockCone] = []
    outputs = 1
    for block in reversed(range(blocks)):
        available = (window - 1) // dilation_base**block + 1
        stride = dilation_base if outputs > 1 else 1
        second = ConvolutionCone.of(kernel_size, stride, outputs, available)
        first = ConvolutionCone.of(kernel_size, 1, second.inputs, available)
        cones.append(BlockCone(first, second))
        outputs = first.inputs
    return tuple(reversed(cones))


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm and ReLU, and a way around them (Bai et al. 2018, figure 1b).

    Batch norm in place of weight norm: folded, either costs nothing, and its statistics are over the positions
    that exist. No dropout. Where the widths differ, a 1 x 1 convolution is on the way around.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        cone: the positions.
    """

    def __init__(self, in_channels: int, out_channels: int, cone: BlockCone) -> None:
        """Create the layers."""
        super().__init__()
        layers: list[nn.Module] = []
        for channels, part in ((in_channels, cone.first), (out_channels, cone.second)):
            conv = Conv1xK(channels, out_channels, part.taps, stride=part.stride, padding=part.left_padding, bias=False)
            layers += [conv, ChannelNorm(out_channels), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        self.kept = cone.kept
        self.keeps_all = cone.first.inputs == cone.second.outputs
        self.shortcut = Conv1xK(in_channels, out_channels, 1) if in_channels != out_channels else None

    def reset_parameters(self, kernel: Initializer, bias: BiasInitializer) -> None:
        """Draw the kernels anew, and the batch norms' offsets."""
        for module in self.modules():
            if isinstance(module, Conv1xK):
                module.reset_parameters(kernel)
            elif isinstance(module, ChannelNorm):
                initialize_bias(module.bias, bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, 1, positions, in_channels) to (batch, 1, positions', out_channels)."""
        around = inputs if self.keeps_all else inputs[:, :, self.kept]
        hidden = self.convolutions(inputs)
        if self.shortcut is not None:
            around = self.shortcut(around)
        return torch.relu(hidden + around)


class TCNNetwork(nn.Module):
    """Residual blocks of dilated causal convolutions (Bai et al. 2018), the last step into a linear head.

    Args:
        input_shape: steps and features of a sequence.
        channels: the width of each block, from the first to the last.
        kernel_size: taps of a convolution.
        dilation_base: the dilation of the i-th block, from 0, is ``dilation_base ** i``.
        output_size: values put out per sample.
        output_scale: constant factor of the head, see `ScaledLinear`.
    """

    def __init__(
        self,
        input_shape: tuple[int, int],
        channels: Sequence[int],
        kernel_size: int,
        dilation_base: int,
        output_size: int = 1,
        output_scale: float = 1.0,
    ) -> None:
        """Create the layers."""
        super().__init__()
        window, features = input_shape
        cones = cone_of(window, len(channels), kernel_size, dilation_base)
        widths = [features, *channels[:-1]]
        self.unused = window - cones[0].first.inputs
        self.blocks = nn.Sequential(*map(ResidualBlock, widths, channels, cones))
        self.head = ScaledLinear(channels[-1], output_size, output_scale)
        # As Bai et al. draw theirs: the values before it have no bound, and large outputs are long unlearnt.
        nn.init.normal_(self.head.weight, 0.0, 0.01)

    @property
    def residual_blocks(self) -> list[ResidualBlock]:
        """The blocks, from the first to the last."""
        return [block for block in self.blocks if isinstance(block, ResidualBlock)]

    def forward(self, inputs: Tensor) -> Tensor:
        """Map (batch, window, features) to (batch, output_size)."""
        seen = inputs[:, self.unused :] if self.unused else inputs
        hidden: Tensor = self.blocks(torch.unsqueeze(seen, 1))
        output: Tensor = self.head(torch.flatten(hidden, 1))
        return output


REFERENCE_TRAINING = TrainingSettings(
    learning_rate=0.0025, optimizer="adam", scheduler="none", batch_size=64, loss="mae"
)
"""The LSTM's training but for Adam, with which Bai et al. train most TCNs, at rates of 0.0005 to 0.004."""

REFERENCE_KERNEL: Initializer = "he_uniform"
REFERENCE_BIAS: BiasInitializer = "zeros"


@dataclass(frozen=True)
class TCNSpace(NetworkSpace):
    """TCNs around a reference network of four blocks of 32 channels, kernel 3, dilations 1, 2, 4 and 8.

    The paper names a TCN after Bai et al. as its second reference network and does not state its size (van de Waterlaat
    et al. 2023). Ours has the kernel and the dilations of that work's figure; four blocks are the fewest whose
    receptive field, 1 + 4 (2^4 - 1) = 61 steps, covers the turbofan task's window of 30 (three see 29); 32 channels
    are about the 25 that that work takes for sequences of single digits, and in the upper half of the (logarithmic)
    range searched.

    Attributes:
        max_blocks: blocks searched: 1 to this many.
        max_channels: channels searched in each block: 1 to this many.
        channels_scale: whether samplers see channels on a logarithmic or a linear scale.
        weight_bits: bits of a weight that are searched with the group ``quantization``; the reference has 8.
        per_layer_training: whether regularization and initialization of each block belong to what is searched with
            the group ``training``, or stay at the reference's.
        max_kernel_size: taps searched: 2 to this many, the same in all blocks.
        max_dilation_base: bases searched: 1 (no dilation) to this; a single block has none.
        seed_blocks: blocks of the reference network.
        seed_channels: channels of each of them.
        seed_kernel_size: taps of its convolutions.
        seed_dilation_base: how its dilations grow.
    """

    max_blocks: Annotated[int, Field(ge=1, le=8)] = 5
    max_channels: Annotated[int, Field(ge=1, le=1024)] = 64
    channels_scale: Literal["log", "linear"] = "log"
    per_layer_training: bool = True
    weight_bits: Annotated[tuple[Literal[4, 6, 8], ...], Field(strict=False)] = (8,)
    max_kernel_size: Annotated[int, Field(ge=2, le=16)] = 7
    max_dilation_base: Annotated[int, Field(ge=1, le=4)] = 3
    seed_blocks: Annotated[int, Field(ge=1, le=8)] = 4
    seed_channels: Annotated[int, Field(ge=1, le=1024)] = 32
    seed_kernel_size: Annotated[int, Field(ge=2, le=16)] = 3
    seed_dilation_base: Annotated[int, Field(ge=1, le=4)] = 2

    def settings(self, shape: TaskShape) -> list[Setting]:
        """Return blocks, what belongs to them (if they exist), training, training by block, quantization."""
        numbers = range(1, max(self.max_blocks, self.seed_blocks) + 1)
        channels = sizes_of_parts(
            "channels", "blocks", len(numbers), self.seed_channels, self.max_channels, log=self.channels_scale == "log"
        )
        blocks = Integer("blocks", "architecture", self.seed_blocks, low=1, high=self.max_blocks)
        kernel = Integer("kernel_size", "architecture", self.seed_kernel_size, low=2, high=self.max_kernel_size)
        base = Integer(
            "dilation_base",
            "architecture",
            self.seed_dilation_base,
            low=1,
            high=self.max_dilation_base,
            condition=exists("blocks", 2),
        )
        training = training_settings(shape.losses, replace(REFERENCE_TRAINING, loss=shape.losses[0]))
        if self.per_layer_training:
            training += [setting for block in numbers for setting in _block_settings(block)]
        return [blocks, *channels, kernel, base, *training, *quantization_settings(self.weight_bits)]

    def build(self, candidate: Candidate, shape: TaskShape) -> nn.Module:
        """Return the candidate's `TCNNetwork`.

        Raises:
            ValueError: a task whose samples are no sequences.
        """
        window, features = sequence_shape("tcn", shape)
        architecture = candidate.architecture
        network = TCNNetwork(
            (window, features),
            [int(architecture[f"channels_{block}"]) for block in range(1, int(architecture["blocks"]) + 1)],
            int(architecture["kernel_size"]),
            int(architecture.get("dilation_base", 1)),
            shape.output_size,
            shape.output_scale,
        )
        for number, block in enumerate(network.residual_blocks, 1):
            block.reset_parameters(
                cast("Initializer", candidate.training.get(f"kernel_initializer_{number}", REFERENCE_KERNEL)),
                cast("BiasInitializer", candidate.training.get(f"bias_initializer_{number}", REFERENCE_BIAS)),
            )
        return network

    def narrowed(self, share: float) -> Self:
        """Return the space around the reference with that share of the channels of every block."""
        return replace(self, seed_channels=narrowed_width(self.seed_channels, share))

    def penalties(self, candidate: Candidate, network: nn.Module) -> dict[str, Penalty]:
        """Return the penalties on the blocks' kernels and on their biases, which are the batch norms' offsets."""
        found: dict[str, Penalty] = {}
        for name, module in network.named_modules():
            weights, parameter = _PENALISED.get(type(module), ("", ""))
            if name.startswith("blocks.") and weights:
                penalty = penalty_of(candidate.training, weights, int(name.split(".")[1]) + 1)
                if penalty is not None:
                    found[f"{name}.{parameter}"] = penalty
        return found


_PENALISED: Mapping[type[nn.Module], tuple[str, str]] = {Conv1xK: ("kernel", "weight"), ChannelNorm: ("bias", "bias")}
"""For each kind of layer which weights of a block it has, and what the layer calls them."""


def _block_settings(block: int) -> list[Setting]:
    """Return how one block is initialised and regularised."""
    there = exists("blocks", block)
    return [
        initializer_setting("kernel", block, there, INITIALIZERS, REFERENCE_KERNEL),
        initializer_setting("bias", block, there, ("zeros", "uniform"), REFERENCE_BIAS),
        *regularizer_settings("kernel", block, there),
        *regularizer_settings("bias", block, there),
    ]
