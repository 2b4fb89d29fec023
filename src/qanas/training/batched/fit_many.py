"""`qanas.training.fit.fit` for many networks at once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import torch

from qanas.core.errors import TrainingFailed
from qanas.networks.lstm import LSTMNetwork
from qanas.training.batched.request import FitRequest
from qanas.training.batched.support import supports
from qanas.training.batched.trainer import BatchedTrainer
from qanas.training.fit import Loss, TrainingSet, fit, log_once


def fit_many(
    requests: Sequence[FitRequest], data: TrainingSet, loss: Loss, *, epochs: int, device: str
) -> list[TrainingFailed | None]:
    """Train networks in place, in as few batched graphs as they allow.

    Each comes out as `fit` would train it alone, but for rounding: it has its own order of samples, and none sees the
    others, lost ones included. Those of one batch size share a graph. What `supports` has something against is
    trained alone, on the CPU, and the log says why.

    Args:
        requests: networks and how to train them.
        data: on the CPU.
        loss: the task's loss.
        epochs: passes over the data.
        device: "cuda", or "cpu", where this is slower than one after the other.

    Returns:
        For each request None, or why it failed; a failed network is left as it was or half trained.
    """
    failures: list[TrainingFailed | None] = [None] * len(requests)
    groups: dict[tuple[int, ...], list[int]] = {}
    for number, request in enumerate(requests):
        reason = supports(request.network, data, loss, request.settings)
        if reason is None:
            groups.setdefault(_shared(request), []).append(number)
        else:
            log_once(logging.INFO, f"trained one by one: {reason}")
            failures[number] = _fit_alone(request, data, loss, epochs)
    for numbers in groups.values():
        members = [requests[number] for number in numbers]
        found = _fit_group(
            members, BatchedTrainer(members, data, loss, epochs=epochs, device=torch.device(device)), epochs
        )
        for number, failure in zip(numbers, found, strict=True):
            failures[number] = failure
    return failures


def _shared(request: FitRequest) -> tuple[int, ...]:
    """Return what the members of a group have in common."""
    network = cast("LSTMNetwork", request.network)
    return request.settings.batch_size, network.layers[0].input_size, network.head.out_features


def _fit_alone(request: FitRequest, data: TrainingSet, loss: Loss, epochs: int) -> TrainingFailed | None:
    try:
        fit(
            request.network,
            data,
            loss,
            request.settings,
            epochs=epochs,
            seed=request.seed,
            penalties=request.penalties,
            on_epoch=request.on_epoch,
        )
    except TrainingFailed as failure:
        return failure
    return None


def _fit_group(requests: Sequence[FitRequest], trainer: BatchedTrainer, epochs: int) -> list[TrainingFailed | None]:
    """Train a group; end early only where all are lost."""
    failures: list[TrainingFailed | None] = [None] * len(requests)
    for epoch in range(1, epochs + 1):
        losses = trainer.epoch()
        failures = trainer.lost()
        for request, loss, failure in zip(requests, losses, failures, strict=True):
            if failure is None and request.on_epoch is not None:
                request.on_epoch(epoch, loss)
        if None not in failures:
            break
    for number, failure in enumerate(failures):
        if failure is None:
            trainer.finish(number)
    return failures
