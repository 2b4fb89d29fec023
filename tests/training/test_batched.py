"""Batches of LSTM networks: what sharing one must not change, and who may share one."""

from __future__ import annotations

import contextlib
import copy
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tests.training.small import (
    LSTM_PENALTIES,
    loss,
    lstm_training,
    relative_errors,
    settings,
    train_plainly,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qanas.training.batched.cuda_graph import captured
from qanas.training.batched.fit_many import fit_many
from qanas.training.batched.request import FitRequest
from qanas.training.batched.trainer import BatchedTrainer
from qanas.training.fit import TrainingSet

if TYPE_CHECKING:
    from collections.abc import Sequence


every_device = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])


def trainer_of(requests: Sequence[FitRequest], data: TrainingSet, device: str = "cpu") -> BatchedTrainer:
    return BatchedTrainer(requests, data, loss, epochs=3, device=torch.device(device))


def padding(trainer: BatchedTrainer) -> Tensor:
    """Where the rows are no candidate's weights, of the weights' shape."""
    filled = torch.ones_like(trainer.weights, dtype=torch.bool)
    for row, places in zip(filled, trainer.layout.places, strict=True):
        row[torch.from_numpy(places)] = False
    return filled


def various() -> list[FitRequest]:
    """Candidates that differ in all that they may differ in, in three batch sizes."""
    chosen = [
        ([1], settings(optimizer="adam", scheduler="cosine", batch_size=64)),
        ([4, 3], settings(loss="mae", learning_rate=2e-2, gradient_clip=0.1)),
        ([2, 9, 5], settings(optimizer="adam", scheduler="exponential", ema_decay=0.9)),
        ([17], settings(scheduler="cosine", learning_rate=1e-3, batch_size=64)),
        ([3, 6], settings(optimizer="adam", loss="mae", batch_size=89)),
        ([3, 6], settings()),
    ]
    requests = []
    for number, (units, entry) in enumerate(chosen):
        network, _ = lstm_training(units, seed=number)
        requests.append(FitRequest(network, entry, seed=number, penalties=LSTM_PENALTIES if number == 1 else {}))
    return requests


@hypothesis_settings(max_examples=20, deadline=None, derandomize=True)
@given(
    units=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=3), min_size=1, max_size=4),
    features=st.integers(1, 9),
    steps=st.integers(1, 9),
    outputs=st.integers(1, 3),
    kind=st.sampled_from(["mse", "mae"]),
)
def test_gradients_are_torchs_and_zero_for_padding(
    units: list[list[int]], features: int, steps: int, outputs: int, kind: str
) -> None:
    data = lstm_training([1], steps=steps, features=features, outputs=outputs)[1]
    networks = [
        lstm_training(widths, features=features, outputs=outputs, seed=number)[0] for number, widths in enumerate(units)
    ]
    trainer = trainer_of([FitRequest(network, settings(loss=kind), 0) for network in networks], data)
    indices = torch.randint(len(data.inputs), (len(units), 30), generator=torch.Generator().manual_seed(1))
    values, gradient = trainer.value_and_gradient(indices)
    assert not gradient[padding(trainer)].any()
    for number, network in enumerate(networks):
        expected = loss(kind, network(data.inputs[indices[number]]), data.targets[indices[number]])
        expected.backward()  # type: ignore[no-untyped-call]
        assert values[number].item() == pytest.approx(expected.item(), rel=1e-5)
        found = gradient[number, torch.from_numpy(trainer.layout.places[number])]
        assert max(relative_errors(network, found.numpy())) < 1e-4


def test_the_seed_networks_gradients_are_torchs() -> None:
    networks = [lstm_training(units, steps=30, features=14)[0] for units in ([100, 100], [3])]
    data = lstm_training([1], steps=30, features=14)[1]
    trainer = trainer_of([FitRequest(network, settings(), 0) for network in networks], data)
    _, gradient = trainer.value_and_gradient(torch.arange(64).expand(2, 64))
    for number, network in enumerate(networks):
        loss("mse", network(data.inputs[:64]), data.targets[:64]).backward()  # type: ignore[no-untyped-call]
        found = gradient[number, torch.from_numpy(trainer.layout.places[number])]
        assert max(relative_errors(network, found.numpy())) < 1e-4


@every_device
def test_each_of_a_mixed_lot_is_trained_as_if_alone(device: str) -> None:
    requests, data = various(), lstm_training([1])[1]
    alone = [copy.deepcopy(request.network) for request in requests]
    assert fit_many(requests, data, loss, epochs=3, device=device) == [None] * len(requests)
    for request, network in zip(requests, alone, strict=True):
        train_plainly(network, data, request.settings, epochs=3, seed=request.seed, penalties=request.penalties)
        assert not request.network.training
        for found, expected in zip(request.network.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.0, atol=2e-4)


@every_device
def test_padding_stays_exactly_zero(device: str) -> None:
    requests = [request for request in various() if request.settings.batch_size == 32]
    trainer = trainer_of(requests, lstm_training([1])[1], device)
    for _ in range(3):
        trainer.epoch()
    unused = padding(trainer)
    assert unused.any(dim=1).all()
    for tensor in trainer.optimizer.state:
        assert not tensor[unused].any()
        assert tensor[~unused].any()


@every_device
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_a_lost_candidate_harms_no_other(device: str, optimizer: str) -> None:
    def trained(learning_rate: float) -> tuple[list[Any], list[Tensor]]:
        data = lstm_training([1])[1]
        networks = [lstm_training(units)[0] for units in ([4], [3, 5], [2])]
        chosen = [
            settings(),
            settings(optimizer=optimizer, learning_rate=learning_rate, gradient_clip=1e38),
            settings(),
        ]
        requests = [FitRequest(network, entry, 0) for network, entry in zip(networks, chosen, strict=True)]
        failures = fit_many(requests, data, loss, epochs=3, device=device)
        return failures, [nn.utils.parameters_to_vector(networks[n].parameters()).detach() for n in (0, 2)]

    healthy, expected = trained(1e-3)
    lost, found = trained(1e38)
    assert healthy == [None] * 3
    assert lost[0] is None
    assert lost[2] is None
    assert "the training loss became" in str(lost[1])
    for values, wanted in zip(found, expected, strict=True):
        assert values.isfinite().all()
        torch.testing.assert_close(values, wanted, rtol=0.0, atol=0.0)


class NoValuesAsked(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses what a CUDA graph can't hold: operators whose result the processor has to wait for."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        waits = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero"}
        assert func.overloadpacket.__name__ not in waits
        return func(*args, **(kwargs or {}))


def test_a_step_could_be_a_cuda_graph() -> None:
    """It asks for no value, and its state stays where it is."""
    trainer = trainer_of([various()[1], various()[2], various()[5]], lstm_training([1])[1])
    state = [*trainer.optimizer.state, *trainer.record.state, trainer.steps]
    before = [(tensor.data_ptr(), tensor.clone()) for tensor in state]
    trainer.epoch()
    with NoValuesAsked():  # type: ignore[no-untyped-call]
        for order in trainer.orders:
            trainer._step(order)
        with pytest.raises(AssertionError):
            trainer.weights.sum().item()
    assert all(tensor.data_ptr() == place for tensor, (place, _) in zip(state, before, strict=True))
    assert not torch.equal(trainer.weights, before[0][1])


def test_the_warm_up_of_a_capture_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """With CUDA replaced by nothing: how often the step is taken, and what becomes of its state."""
    graph = mock.Mock()
    for name in ("Stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, mock.Mock())
    for name in ("stream", "graph"):
        monkeypatch.setattr(torch.cuda, name, lambda _: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    counter, taken = torch.zeros(1), []

    def step() -> None:
        taken.append(counter.add_(1).item())

    assert captured(step, [counter], torch.device("cuda")) is graph.replay
    assert taken == [1.0, 2.0, 3.0, 4.0]
    assert counter.item() == 0.0


def test_a_lot_that_is_lost_ends_early() -> None:
    network, data = lstm_training([4])
    told: list[int] = []
    bad = settings(learning_rate=1e38, gradient_clip=1e38)
    request = FitRequest(network, bad, 0, on_epoch=lambda epoch, _: told.append(epoch))
    (failure,) = fit_many([request], data, loss, epochs=10**6, device="cpu")
    assert failure is not None
    assert told == []


def test_who_shares_a_batch_does_not_matter() -> None:
    together, alone = various(), various()
    data = lstm_training([1])[1]
    fit_many(together, data, loss, epochs=2, device="cpu")
    for request in alone:
        fit_many([request], data, loss, epochs=2, device="cpu")
    for one, other in zip(together, alone, strict=True):
        for found, expected in zip(one.network.parameters(), other.network.parameters(), strict=True):
            torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-5)
