"""Trains a `TCNNetwork` with compiled code, and lays its parameters and values out in arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from qanas.layers.sequences import ChannelNorm, Conv1xK
from qanas.training.compiled import tcn_kernel as kernel
from qanas.training.compiled.lanes import IntArray
from qanas.training.compiled.step import CompiledTrainer, aligned_zeros
from qanas.training.compiled.tcn_convolution import GROUP
from qanas.training.compiled.tcn_layout import BLOCK, NETWORK, ROW, ROWS, Record, rounded_up
from qanas.training.compiled.tcn_normalization import RUNNING_MEAN, RUNNING_VARIANCE, STATISTICS
from qanas.training.trainer import NO_PENALTIES, Loss, Penalties, TrainingSet

if TYPE_CHECKING:
    from qanas.networks.tcn import ResidualBlock, TCNNetwork
    from qanas.search_space.training_group import TrainingSettings
    from qanas.training.compiled.lanes import FloatArray


class CompiledTCNTrainer(CompiledTrainer):
    """A `TCNNetwork` on the CPU, on one thread, see `kernel`.

    Args:
        network: trained in place.
        data: on the CPU.
        loss: the task's loss.
        settings: how to train; `qanas.training.compiled.supports.why_not_tcn` has nothing against any of these.
        penalties: on the weights.
    """

    def __init__(
        self,
        network: TCNNetwork,
        data: TrainingSet,
        loss: Loss,
        settings: TrainingSettings,
        penalties: Penalties = NO_PENALTIES,
    ) -> None:
        """Copy the parameters and lay out the workspace."""
        chunks = -(-settings.batch_size // ROW)
        plan = NetworkPlan(network, data.inputs.shape[1], chunks)
        super().__init__(network, data, loss, settings, penalties, places=plan.places, size=plan.weights)
        self.blocks = plan.blocks
        self.layout = plan.network
        self.inputs = data.inputs[:, network.unused :].detach().contiguous().numpy().reshape(-1)
        self.statistics = plan.statistics
        self.space = aligned_zeros(plan.space)
        self.outputs = np.zeros((network.head.out_features, chunks * ROW), np.float32)
        self.douts = np.zeros_like(self.outputs)

    def _forward(self, indices: IntArray) -> None:
        """Fill ``self.outputs`` for the batch ``indices``, shape (batch,)."""
        kernel.forward(
            self.weights,
            self.space,
            self.statistics,
            self.blocks,
            self.layout,
            self.inputs,
            indices,
            self.outputs,
        )

    def _backward(self, batch: int) -> None:
        """Fill ``self.gradient``, shape (weights,)."""
        kernel.backward(
            self.weights,
            self.gradient,
            self.space,
            self.statistics,
            self.blocks,
            self.layout,
            self.douts,
            batch,
        )


class NetworkPlan:
    """The layout of one network.

    Args:
        network: to be trained.
        window: steps of a sequence.
        chunks: of 16 samples that the workspace is for.

    Attributes:
        blocks: shape (blocks,), of `BLOCK`.
        network: a `NETWORK`.
        places: for each parameter in the order of ``network.parameters()``, flattened, its place.
        weights: size of the array of parameters.
        statistics: shape (STATISTICS, channels of all batch norms), with the network's running statistics.
        space: size of the workspace.
    """

    def __init__(self, network: TCNNetwork, window: int, chunks: int) -> None:
        """Go through the network, its parameters in torch's order."""
        self.weights = self.space = 0
        self._chunks = chunks
        self._places: list[IntArray] = []
        self._statistics: list[FloatArray] = []
        self.blocks: Record = np.zeros(len(network.residual_blocks), BLOCK)
        before: Record = None
        for record, block in zip(self.blocks, network.residual_blocks, strict=True):
            if before is None:  # the data, whose gradients are not wanted
                positions = window - network.unused
                record["inputs"] = self._values(positions, _layers(block)[0][0].weight.shape[1])
            else:
                positions = before["second"]["out_positions"]
                record["inputs"], record["input_gradients"] = before["outputs"], before["output_gradients"]
            self._place_block(record, block, int(positions))
            before = record
        outputs, channels = network.head.weight.shape
        head = self._parameter((outputs, rounded_up(channels)), (slice(None), slice(channels)))
        self._parameter((outputs,), (slice(None),))
        masks = self._rows(chunks)
        features = _layers(network.residual_blocks[0])[0][0].weight.shape[1]
        self.network: Record = np.array((features, masks, head, network.head.scale), NETWORK)[()]
        self.places = np.concatenate(self._places)
        self.statistics = np.concatenate(self._statistics, axis=1)

    def _place_block(self, record: Record, block: ResidualBlock, positions: int) -> None:
        """Place what there is of one block."""
        convolutions, norms = _layers(block)
        at = positions
        for name, conv, norm in zip(("first", "second"), convolutions, norms, strict=True):
            outputs = (at + conv.left_padding - conv.weight.shape[2]) // conv.stride + 1
            record[name] = self._convolution(conv, (conv.stride, conv.left_padding), (at, outputs))
            record[f"{name}_norm"] = self._norm(norm, outputs)
            at = outputs
            for values in (f"{name}_sums", f"{name}_gradients"):
                record[values] = self._values(outputs, norm.num_features)
        channels = norms[0].num_features
        record["hidden"] = self._values(int(record["first"]["out_positions"]), channels)
        for values in ("outputs", "output_gradients"):
            record[values] = self._values(at, channels)
        record["packed"] = self._rows(
            ROWS * max(GROUP, *(record[name]["out_positions"] for name in ("first", "second")))
        )
        around = (block.kept.step, -block.kept.start)
        if block.shortcut is not None:
            record["shortcut"] = self._convolution(block.shortcut, around, (positions, at))
            record["shortcut_bias"] = self._parameter((rounded_up(channels),), (slice(channels),))
            record["around"] = self._values(at, channels)
        else:
            record["shortcut"] = (0, 0, *around, positions, rounded_up(channels), at, rounded_up(channels))

    def _convolution(self, conv: Conv1xK, steps: tuple[int, int], positions: tuple[int, int]) -> tuple[int, ...]:
        """Place a convolution's weights and return its `CONVOLUTION`."""
        outputs, inputs, taps = conv.weight.shape
        shape = (rounded_up(outputs), taps, rounded_up(inputs))
        start = self._parameter(shape, (slice(outputs), slice(None), slice(inputs)), (0, 2, 1))
        return start, taps, *steps, positions[0], shape[2], positions[1], shape[0]

    def _norm(self, norm: ChannelNorm, positions: int) -> tuple[int, ...]:
        """Place a batch norm's weights and statistics and return its `NORM`."""
        channels = rounded_up(norm.num_features)
        weights = [self._parameter((channels,), (slice(norm.num_features),)) for _ in range(2)]
        first = sum(part.shape[1] for part in self._statistics)
        statistics = np.zeros((STATISTICS, channels), np.float32)
        for row, values in ((RUNNING_MEAN, norm.running_mean), (RUNNING_VARIANCE, norm.running_var)):
            assert values is not None  # noqa: S101
            statistics[row, : norm.num_features] = values.numpy()
        self._statistics.append(statistics)
        return weights[0], first, positions, channels

    def _parameter(self, shape: tuple[int, ...], used: tuple[slice, ...], torchs: tuple[int, ...] | None = None) -> int:
        """Place the next parameter in an array of a shape, of which it uses a part, and return its start.

        Args:
            shape: of the array.
            used: its part.
            torchs: the order of that part's axes in torch, if another one.
        """
        start = self.weights
        self.weights += math.prod(shape)
        places = np.arange(start, self.weights).reshape(shape)[used]
        self._places.append(places.transpose(torchs or range(len(shape))).reshape(-1))
        return start

    def _values(self, positions: int, channels: int) -> int:
        """Return where the next values are in the workspace."""
        return self._rows(self._chunks * positions * rounded_up(channels))

    def _rows(self, rows: int) -> int:
        """Return where the next rows are in the workspace."""
        start = self.space
        self.space += rows * ROW
        return start


def _layers(block: ResidualBlock) -> tuple[list[Conv1xK], list[ChannelNorm]]:
    """Return the convolutions on the way through a block, and their norms."""
    layers = list(block.convolutions)
    convolutions = [layer for layer in layers if isinstance(layer, Conv1xK)]
    return convolutions, [layer for layer in layers if isinstance(layer, ChannelNorm)]
