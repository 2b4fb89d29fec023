"""The supernet whose options are mixed by gates, and how both are trained: which options are worth their cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath

import torch
from torch import Tensor, nn

from qanas.core.errors import TrainingFailed
from qanas.core.events import Watch
from qanas.quantization.numbers.affine import SMALLEST_NORMAL
from qanas.search_space.blockwise_space import Block
from qanas.search_space.gates import Draw, GateLoss, GateSettings, LearntGates, OptionCosts, Places
from qanas.supernet.block_supernet import BlockSupernet, Path
from qanas.supernet.paths import GRADIENT_CLIP, MOMENTUM
from qanas.supernet.segments import Checkpoint, train_in_segments
from qanas.training.loop import Passes
from qanas.training.pointwise import strides_first
from qanas.training.trainer import TrainingSet, channels_last

UNROUNDED = (8,)
"""Bits at which weights are left as they are: what rounding to 8 bits changes is lost in what gates see."""


def gumbel_shares(logits: Tensor, temperature: float, uniform: Tensor) -> Tensor:
    """Return ``softmax((logits + gumbel noise) / temperature)``: nearly one option where temperature is low.

    Args:
        logits: shape (options,).
        temperature: above 0.
        uniform: numbers in [0, 1) that the noise is made of, shape (..., options).

    Returns:
        The shape of ``uniform``.

    Source: Jang et al. and Maddison et al., both ICLR 2017.
    """
    tiny = torch.finfo(uniform.dtype).tiny
    exponential = -uniform.clamp_min(tiny).log()
    return ((logits - exponential.clamp_min(tiny).log()) / temperature).softmax(-1)


class Gates(nn.Module):
    """A logit for every option of every layer, and for the bits of every part.

    Args:
        places: that are chosen.
    """

    def __init__(self, places: Places) -> None:
        """Begin with all options equally likely."""
        super().__init__()
        self.options = nn.ParameterList(nn.Parameter(torch.zeros(len(names))) for names in places.options)
        self.bits = nn.ParameterList(nn.Parameter(torch.zeros(len(known))) for known in places.bits)

    def drawn(
        self, temperature: float, generator: torch.Generator, samples: int, draw: Draw
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return shares of each layer's options, shape (samples, options) or (options,), and of bits, shape (bits,).

        Bits are drawn once for all samples, as the weights are.

        Args:
            temperature: see `gumbel_shares`.
            generator: of the noise.
            samples: of the batch.
            draw: whether each has its own options.
        """
        each = (samples,) if draw == "sample" else ()
        options = [
            gumbel_shares(logits, temperature, self.uniform((*each, len(logits)), generator)) for logits in self.options
        ]
        return options, [
            gumbel_shares(logits, temperature, self.uniform((len(logits),), generator)) for logits in self.bits
        ]

    def uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Return numbers in [0, 1) of a shape, for the next layer's noise."""
        return torch.rand(shape, generator=generator)

    def probabilities(self) -> tuple[list[Tensor], list[Tensor]]:
        """Return those of each layer's options, shape (options,), and of each part's bits, shape (bits,)."""
        return [logits.softmax(0) for logits in self.options], [logits.softmax(0) for logits in self.bits]

    def learnt(self, loss: GateLoss) -> LearntGates:
        """Return the logits as values."""
        return LearntGates(
            loss,
            tuple(logits.detach().double() for logits in self.options),
            tuple(logits.detach().double() for logits in self.bits),
        )


class _GatedBlock(BlockSupernet):
    """A block whose layers put out the sum of their options' outputs, each times its share."""

    def __init__(self, block: Block, bits: Sequence[tuple[int, ...]]) -> None:
        """Take the bits that each layer can have."""
        super().__init__(block)
        self.known_bits = bits
        self.shares: Sequence[Tensor] = ()
        self.bit_shares: Sequence[Tensor] = ()

    def forward(self, inputs: Tensor, path: Path = ()) -> Tensor:
        """Map the block's input, shape (batch, channels, ...), to its output along all paths at once."""
        del path
        for options, shares, bits, bit_shares in zip(
            self.options, self.shares, self.known_bits, self.bit_shares, strict=True
        ):
            mixed: Tensor | None = None
            for position, option in enumerate(options):
                outputs = _output(option, inputs, bits, bit_shares)
                share = shares[..., position]
                if share.ndim:  # one for each sample
                    share = share.view(-1, *[1] * (outputs.ndim - 1))
                mixed = outputs * share if mixed is None else mixed + outputs * share
            assert mixed is not None  # noqa: S101 - every layer has an option
            inputs = mixed
        return inputs


def _output(option: nn.Module, inputs: Tensor, bits: tuple[int, ...], shares: Tensor) -> Tensor:
    """Return what an option makes of inputs, shape (batch, channels, ...), its weights a mixture of shares (bits,)."""
    if bits == UNROUNDED:
        outputs: Tensor = option(inputs)
        return outputs
    mixed = {
        f"{name}.weight" if name else "weight": mixed_bits(module.weight, bits, shares)
        for name, module in option.named_modules()
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear)
    }
    rounded: Tensor = torch.func.functional_call(option, mixed, (inputs,))
    return rounded


def mixed_bits(weights: Tensor, bits: Sequence[int], shares: Tensor) -> Tensor:
    """Return the sum of weights as each bit-width stores them, each times its share.

    A layer is linear in its weights, so that this is the mixture of its outputs for the price of one (Cai and
    Vasconcelos, CVPR 2020). Scales are a channel's own: a batch norm that is folded in later changes no code.

    Args:
        weights: shape (channels, ...), which all bit-widths share; gradients pass the rounding unchanged.
        bits: of a weight.
        shares: shape (bits,).
    """
    with torch.no_grad():  # as `QuantizedWeights.from_float`, for all bits at once
        tops = torch.tensor([2 ** (count - 1) - 1 for count in bits], dtype=torch.float64)
        exact = weights.double()
        scales = exact.abs().flatten(1).amax(1) / tops[:, None]  # shape (bits, channels)
        scales = torch.where(scales >= SMALLEST_NORMAL, scales, 1.0).float()
        scales = scales.view(*scales.shape, *[1] * (weights.ndim - 1))
        stored = (exact / scales).round().float() * scales  # shape (bits, channels, ...)
    mixed: Tensor = torch.einsum("b...,b->...", stored, shares)
    return mixed + (weights - weights.detach())


class GatedSupernet(nn.Module):
    """All networks of a family at once, its options mixed.

    Args:
        reference: a network of the family; its blocks are replaced, in place.
        blocks: where they are, and what can stand in them.
        places: the same, as it is chosen.

    Attributes:
        network: the reference with supernets for blocks; its weights are called as a `NetworkSupernet`'s.
    """

    def __init__(self, reference: nn.Module, blocks: Sequence[Block], places: Places) -> None:
        """Create every option with initial weights."""
        super().__init__()
        self.network = reference
        self.places = places
        self._blocks: list[_GatedBlock] = []
        taken = 0
        for block in blocks:
            parts = places.part_of[taken : taken + len(block.layers)]
            gated = _GatedBlock(block, [places.bits[part] for part in parts])
            reference.set_submodule(block.module, gated)
            self._blocks.append(gated)
            taken += len(block.layers)

    def forward(self, inputs: Tensor, options: Sequence[Tensor], bits: Sequence[Tensor]) -> Tensor:
        """Map inputs, shape (batch, *input_shape), to outputs.

        Args:
            inputs: of the network.
            options: shares of each layer's options, shape (batch, options) or (options,).
            bits: shares of each part's bits, shape (bits,).
        """
        taken = 0
        for block in self._blocks:
            layers = slice(taken, taken + len(block.layers))
            block.shares = options[layers]
            block.bit_shares = [bits[part] for part in self.places.part_of[layers]]
            taken += len(block.layers)
        outputs: Tensor = self.network(inputs)
        return outputs


class GatesTrainer:
    """Weights and gates in turn, each on samples of their own: SGD with momentum, and Adam.

    Args:
        supernet: trained in place, on the CPU.
        gates: trained in place.
        costs: of every option, by column.
        loss: of outputs and targets, both of shape (batch, ...).
        gate_loss: what gates are trained by.
        settings: how.
        places: what gates choose.
    """

    def __init__(
        self,
        supernet: nn.Module,
        gates: Gates,
        costs: Mapping[str, OptionCosts],
        loss: Callable[[Tensor, Tensor], Tensor],
        gate_loss: GateLoss,
        settings: GateSettings,
        places: Places,
    ) -> None:
        """Create the optimizers."""
        self.supernet = supernet
        self.gates = gates
        self.costs = costs
        self.loss = loss
        self.gate_loss = gate_loss
        self.settings = settings
        self.places = places
        self.optimizer = torch.optim.SGD(supernet.parameters(), lr=settings.learning_rate, momentum=MOMENTUM)
        self.gate_optimizer = torch.optim.Adam(
            gates.parameters(), lr=settings.gate_learning_rate, weight_decay=settings.weight_decay
        )
        self.units = {name: cost.spread(places) for name, cost in costs.items()}
        self.steps = 0

    def begin(self, weights_on: TrainingSet, gates_on: TrainingSet, generator: torch.Generator) -> None:
        """Take the samples of the next steps, and what they draw from."""
        self.weights_on, self.gates_on, self.generator = weights_on, gates_on, generator

    @property
    def temperature(self) -> float:
        """Of the next step."""
        return self.settings.temperature_at(min(self.steps / max(self.settings.steps - 1, 1), 1.0))

    def step(self, indices: Tensor, learning_rate: float) -> float:
        """Train the weights on one batch, then the gates on another one; return the weights' loss.

        Args:
            indices: the weights' batch, shape (batch,).
            learning_rate: of the weights.
        """
        self.supernet.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        with torch.no_grad():
            shares = self.gates.drawn(self.temperature, self.generator, len(indices), self.settings.draw)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._performance(self.weights_on, indices, shares)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.supernet.parameters(), GRADIENT_CLIP)
        self.optimizer.step()
        told = loss.item()
        if self.steps >= self.settings.frozen * self.settings.steps:
            gate_loss = self._gate_step(len(indices))
            told = told if gate_loss.isfinite() else gate_loss.item()
        self.steps += 1
        return told

    def _performance(
        self, data: TrainingSet, indices: Tensor, shares: tuple[Sequence[Tensor], Sequence[Tensor]]
    ) -> Tensor:
        """Return the loss of a batch, shape (batch,), with shares of options and bits."""
        inputs, targets = (channels_last(values) for values in data.batch(indices))
        with strides_first(self.supernet):
            outputs = self.supernet(inputs, *shares)
        return self.loss(outputs, targets).mean()

    def _gate_step(self, batch: int) -> Tensor:
        indices = torch.randint(len(self.gates_on), (batch,), generator=self.generator)
        loss = self.loss_of_gates(indices)
        parameters = list(self.gates.parameters())
        # Of the gates alone: those of the weights would take half of the time.
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True
        ):
            parameter.grad = gradient
        self.gate_optimizer.step()
        return loss.detach()

    def loss_of_gates(self, indices: Tensor) -> Tensor:
        """Return the gates' loss on some of their samples, shape (batch,), at the present temperature."""
        shares = self.gates.drawn(self.temperature, self.generator, len(indices), self.settings.draw)
        return self.gate_loss.of(self._performance(self.gates_on, indices, shares), self.expected(), self.units)

    def expected(self) -> dict[str, Tensor]:
        """Return the mean of every cost over networks drawn from the gates, a scalar each, by column."""
        probabilities = self.gates.probabilities()
        return {name: cost.expected(self.places, *probabilities) for name, cost in self.costs.items()}

    def finish(self) -> None:
        """Leave the supernet in evaluation mode."""
        self.supernet.eval()


def train_gates(
    trainer: GatesTrainer,
    data: Callable[[int], tuple[TrainingSet, TrainingSet]],
    *,
    seed: int,
    checkpoint: FilePath,
    watch: Watch,
) -> list[dict[str, float]]:
    """Train gates to the end; return what they expected and how sure they were after each part of the way.

    Args:
        trainer: with initial gates, and the weights that all begin with.
        data: what weights and gates are trained on, by the seed of its random changes.
        seed: of batches, draws and random changes.
        checkpoint: written after each part, and gone on from where it is there.
        watch: told of every hundredth of the way; a training that it stops is not at its end.

    Raises:
        TrainingFailed: a loss became NaN or infinite, or ``watch`` said stop.
    """
    settings = trainer.settings
    kept = Checkpoint(
        checkpoint,
        {"supernet": (trainer.supernet, trainer.optimizer), "gates": (trainer.gates, trainer.gate_optimizer)},
    )
    first, facts = kept.restored()
    trainer.steps = facts.get("steps", 0)
    history: list[dict[str, float]] = facts.get("history", [])

    def begin(changes: int, generator: torch.Generator) -> tuple[GatesTrainer, Passes]:
        weights_on, gates_on = data(changes)
        trainer.begin(weights_on, gates_on, generator)
        passes = Passes(len(weights_on), settings.batch_size, settings.learning_rate, settings.steps, 1, generator)
        return trainer, passes

    def keep(segments: int) -> None:
        history.append(_seen(trainer))
        kept.write(segments, {"steps": trainer.steps, "history": history})

    if not train_in_segments(first, begin, keep, seed=seed, watch=watch):
        raise TrainingFailed("the training of gates was stopped")
    return history


def _seen(trainer: GatesTrainer) -> dict[str, float]:
    """Return the steps so far, the costs that gates expect, and the mean probability of the likeliest options."""
    with torch.no_grad():
        options, bits = trainer.gates.probabilities()
        likeliest = [float(p.max()) for p in (*options, *bits) if len(p) > 1]
        expected = {name: float(value) for name, value in trainer.expected().items()}
    return {"step": trainer.steps, **expected, "likeliest": sum(likeliest) / max(len(likeliest), 1)}
