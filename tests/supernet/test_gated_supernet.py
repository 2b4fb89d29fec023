"""Gates: their gradients against enumeration, what a mixture is at its corners, and what a killed training leaves."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qanas.core.errors import TrainingFailed
from qanas.core.events import Event, Watch, go_on
from qanas.performance_estimation.bench import PreparedData
from qanas.performance_estimation.gated_networks import candidate_of, gates_trainer, held_out, places_of
from qanas.performance_estimation.weight_sharing import new_supernet
from qanas.quantization.numbers.affine import QuantizedWeights
from qanas.search_space.gates import Choice, GateLoss, GateSettings, OptionCosts, Places
from qanas.supernet.gated_supernet import Gates, GatesTrainer, mixed_bits, train_gates
from qanas.supernet.network_supernet import SharedStart
from qanas.tasks.samples import Split
from qanas.testing.small import SmallSpace, SmallTask, small_bench
from qanas.training.trainer import PartOfSet, TrainingSet

if TYPE_CHECKING:
    from pathlib import Path

    from qanas.performance_estimation.bench import Bench

# A toy of 3 layers x 3 options

PLACES = Places((("a", "b", "c"),) * 3, (0, 0, 1), ((8,), (8,)), (0, 0, 1))
COSTS = {"macs": OptionCosts(5.0, ((0.0,), (0.0,)), (((0.0, 1.0, 3.0),), ((0.0, 2.0, 1.0),), ((0.0, 4.0, 1.0),)))}
FACTORS = torch.tensor([[0.2, 1.0, 1.6], [1.2, 0.6, 1.5], [0.7, 1.1, 0.5]])
LOGITS = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.4, -0.3], [-0.5, 0.2, 0.1]])
TARGET, SCALE, DRAWS = 0.7, 0.3, 1 << 17


class Product(nn.Module):
    """Multiplies a number by a factor that each layer's option has."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, inputs: Tensor, options: list[Tensor], bits: list[Tensor]) -> Tensor:
        del bits
        for factors, shares in zip(FACTORS, options, strict=True):
            inputs = inputs * (shares @ factors).view(-1, 1)
        return inputs


class EvenlyDrawn(Gates):
    """Draws noise from a sequence that fills the space evenly, so that means are exact soon."""

    def __init__(self, places: Places) -> None:
        super().__init__(places)
        self.points = torch.quasirandom.SobolEngine(9, scramble=True, seed=0).draw(DRAWS)  # type: ignore[no-untyped-call]
        self.taken = 0

    def uniform(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        if len(shape) == 1:
            return super().uniform(shape, generator)
        self.taken += 3
        return self.points[:, self.taken - 3 : self.taken]


def error(outputs: Tensor, targets: Tensor) -> Tensor:
    return SCALE * (outputs - targets).square().mean()


def estimated(loss: GateLoss, temperature: float) -> Tensor:
    """Return the gradient of the gates' loss, shape (3, 3), as a step has it, over many samples."""
    gates = EvenlyDrawn(PLACES)
    with torch.no_grad():
        for own, logits in zip(gates.options, LOGITS, strict=True):
            own.copy_(logits)
    settings = GateSettings(temperature=temperature, last_temperature=temperature)
    trainer = GatesTrainer(Product(), gates, COSTS, error, loss, settings, PLACES)
    data = TrainingSet(torch.ones(DRAWS, 1), torch.full((DRAWS, 1), TARGET))
    trainer.begin(data, data, torch.Generator().manual_seed(0))
    return torch.stack(torch.autograd.grad(trainer.loss_of_gates(torch.arange(DRAWS)), list(gates.options)))


def enumerated(loss: GateLoss, unit: float) -> Tensor:
    """Return the gradient of the loss, shape (3, 3), with the mean over all 27 networks, each weighed as it is likely.

    Args:
        loss: of the gates.
        unit: by how much the mean network costs more than the cheapest.
    """
    logits = LOGITS.clone().requires_grad_()
    chances = logits.softmax(1)
    performance, cost = torch.zeros(()), torch.zeros(())
    for path in itertools.product(range(3), repeat=3):
        chance = torch.stack([own[position] for own, position in zip(chances, path, strict=True)]).prod()
        output = torch.stack([own[position] for own, position in zip(FACTORS, path, strict=True)]).prod()
        performance = performance + chance * SCALE * (output - TARGET).square()
        cost = cost + chance * COSTS["macs"].of(PLACES, Choice(path, (0, 0)))
    return torch.autograd.grad(loss.of(performance, {"macs": cost}, {"macs": unit}), logits)[0]


@pytest.mark.parametrize("loss", [GateLoss("sum", 0.1, ("macs",)), GateLoss("product", 1.5, ("macs",), factor=0.5)])
def test_gradients_of_gates_tend_to_those_of_the_enumerated_mean(loss: GateLoss) -> None:
    """Mixtures of a temperature are off in proportion to it, so that two of them tell where the limit is."""
    exact = enumerated(loss, unit=4 / 3 + 1 + 5 / 3)
    warm, cold = (estimated(loss, temperature) for temperature in (0.2, 0.1))
    assert exact.abs().max() > 0.03
    assert (cold - exact).abs().max() < (warm - exact).abs().max()
    assert (2 * cold - warm - exact).abs().max() < 1e-3


# What a mixture is at its corners


@pytest.fixture(scope="module")
def bench() -> Bench:
    return small_bench(networks=SmallSpace((4, 6, 8)), search=("architecture", "quantization"))


def one_hot(places: Places, choice: Choice) -> tuple[list[Tensor], list[Tensor]]:
    options = [
        nn.functional.one_hot(torch.tensor(position), len(names)).float()
        for position, names in zip(choice.options, places.options, strict=True)
    ]
    return options, [
        nn.functional.one_hot(torch.tensor(position), len(known)).float()
        for position, known in zip(choice.bits, places.bits, strict=True)
    ]


def test_a_corner_of_the_mixture_is_the_network_with_its_bits(bench: Bench, tmp_path: Path) -> None:
    """With 4, 6 and 8 bits by block and by layer, and for a space of 8 bits alone, where weights stay as they are."""
    inputs = torch.from_numpy(bench.data.of({}).val.inputs)
    file = tmp_path / "supernet.safetensors"
    save_file({name: values.contiguous() for name, values in new_supernet(bench).network.state_dict().items()}, file)
    by_layer = small_bench(networks=SmallSpace((4, 6, 8), "layer"), search=("architecture", "quantization"))
    for own in (bench, by_layer, small_bench(search=("architecture", "quantization"))):
        places = places_of(own)
        supernet = gates_trainer(own, GateSettings(), GateLoss("sum", 1.0, ()), {}).supernet.eval()
        last = tuple(len(known) - 1 for known in places.bits)
        for choice in (Choice((0, 1, 0), (0, *last[1:])), Choice((1, 0, 1), (0,) * len(last))):
            candidate = candidate_of(own, places, choice)
            network = own.build(candidate, 0, SharedStart(SmallSpace(), file)).eval()
            for name, bits in own.networks.module_weight_bits(candidate).items():
                for module in network.get_submodule(name).modules():
                    if (4,) < places.bits[0] < (8,) and isinstance(module, nn.Conv2d):
                        module.weight.data = mixed_bits(module.weight, [bits], torch.ones(1))
            with torch.no_grad():
                assert torch.allclose(supernet(inputs, *one_hot(places, choice)), network(inputs), atol=1e-5)


def test_a_mixture_of_bits_is_that_of_outputs_and_passes_all_gradients() -> None:
    weights = torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    shares = torch.tensor([0.25, 0.75], requires_grad=True)
    mixed_bits(weights, (4, 8), shares).sum().backward()  # type: ignore[no-untyped-call]
    assert torch.allclose(weights.grad, torch.ones_like(weights))  # type: ignore[arg-type]
    for count, gradient in zip((4, 8), shares.grad, strict=True):  # type: ignore[arg-type]
        stored = QuantizedWeights.from_float(weights, count, groups=3).dequantize()
        alone = mixed_bits(weights, (count,), torch.ones(1)).detach()
        assert torch.equal(alone, stored)
        assert gradient.item() == pytest.approx(stored.sum().item(), abs=1e-4)


# Training

LOSS = GateLoss("sum", 0.5, ("macs",))
SETTINGS = GateSettings(steps=20, batch_size=8, frozen=0.25, gate_learning_rate=0.1)
SMALL_COSTS = {"macs": OptionCosts(9.0, ((0.0,) * 3,) * 2, (((0.0, 5.0),) * 3,) * 3)}


def trained(bench: Bench, path: Path, watch: Watch) -> GatesTrainer:
    trainer = gates_trainer(bench, SETTINGS, LOSS, SMALL_COSTS)
    parts = held_out(bench, 0.25)

    def data(seed: int) -> tuple[TrainingSet, TrainingSet]:
        first, second = (PartOfSet.of(bench.training_set(bench.reference, seed), part) for part in parts)
        return first, second

    train_gates(trainer, data, seed=1, checkpoint=path, watch=watch)
    return trainer


def stop_at(step: int, event: Event) -> bool:
    return event.done < step


def test_a_killed_training_goes_on_to_the_same_gates(bench: Bench, tmp_path: Path) -> None:
    whole = trained(bench, tmp_path / "whole.safetensors", go_on)
    path = tmp_path / "killed.safetensors"
    for step in (3, 11):
        with pytest.raises(TrainingFailed):
            trained(bench, path, partial(stop_at, step))
    again = trained(bench, path, go_on)
    for own, other in ((whole.gates, again.gates), (whole.supernet, again.supernet)):
        state = other.state_dict()
        assert all(torch.equal(values, state[name]) for name, values in own.state_dict().items())
    assert whole.expected()["macs"].item() < 9 + 1.5 * 5


def test_a_damaged_checkpoint_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    whole = trained(bench, tmp_path / "whole.safetensors", go_on)
    path = tmp_path / "killed.safetensors"
    with pytest.raises(TrainingFailed):
        trained(bench, path, partial(stop_at, 11))
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts = file.metadata()
    # What optimizers have is of parameters that there are not: found out when the weights are loaded.
    save_file({name.replace("/", "_gone/"): values for name, values in tensors.items()}, path, facts)
    again = trained(bench, path, go_on)
    for own, other in ((whole.gates, again.gates), (whole.supernet, again.supernet)):
        state = other.state_dict()
        assert all(torch.equal(values, state[name]) for name, values in own.state_dict().items())


@dataclass(frozen=True)
class InGroups(SmallTask):
    """Samples of four at a time."""

    def units(self, split: Split) -> NDArray[Any]:
        return np.arange(len(split)) // 4


def test_gates_see_other_units_than_weights() -> None:
    weights_on, gates_on = held_out(small_bench(data=PreparedData(InGroups())), 0.25)
    assert sorted([*weights_on.tolist(), *gates_on.tolist()]) == list(range(48))
    assert len(gates_on) == 12
    assert not {place // 4 for place in weights_on.tolist()} & {place // 4 for place in gates_on.tolist()}


def test_gates_stay_while_they_are_frozen_and_see_other_samples_than_weights(bench: Bench) -> None:
    weights_on, gates_on = held_out(bench, 0.25)
    assert sorted([*weights_on.tolist(), *gates_on.tolist()]) == list(range(48))
    assert len(gates_on) == 12
    moved = []
    trainer = gates_trainer(bench, SETTINGS, LOSS, SMALL_COSTS)
    whole = bench.training_set(bench.reference, 0)
    trainer.begin(PartOfSet.of(whole, weights_on), PartOfSet.of(whole, gates_on), torch.Generator().manual_seed(0))
    for _ in range(7):
        trainer.step(torch.arange(8), 0.01)
        moved.append(any(bool(logits.any()) for logits in trainer.gates.parameters()))
    assert moved == [False] * 5 + [True] * 2
