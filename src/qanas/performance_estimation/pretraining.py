"""Training in front of training: a candidate's network learns the task under other settings first, such as all classes.

Each candidate is pretrained alike, whatever its architecture, so that none is ahead by weights that fit it alone; and
nothing is trained on that the task itself keeps for validation and test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from qanas.core.candidate import Candidate
from qanas.core.errors import InputError
from qanas.core.seeds import derive_seed
from qanas.performance_estimation.bench import Bench, PreparedData, training_set_of
from qanas.performance_estimation.procedure import FullTraining
from qanas.search_space.start import Start
from qanas.search_space.training_group import TrainingSettings
from qanas.tasks.base import Task
from qanas.tasks.samples import DecodedSplit, FloatArray, Split
from qanas.training.choice import make_trainer
from qanas.training.loop import Epochs, fit

FILE, GROUP = "file", "group"
"""Extras of splits by which samples of one task are told among those of another."""


@dataclass(frozen=True)
class Pretraining:
    """What networks learn before the task itself.

    Attributes:
        task: as the recipe's, but for some settings.
        changes: those settings, as the recipe has them.
        epochs: passes over its training samples.
        same_files: whether it reads the files that the task reads; then it is given what the task trains on alone.
        fingerprint: of its data.
    """

    task: Task
    changes: Mapping[str, Any]
    epochs: int
    same_files: bool
    fingerprint: str

    @cached_property
    def data(self) -> PreparedData:
        """Its data, prepared once in each process."""
        return PreparedData(self.task)

    def __getstate__(self) -> dict[str, object]:
        """Pickle the fields alone."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def as_table(self) -> dict[str, Any]:
        """Return a recipe's table that says it, with the fingerprint of its data."""
        return {"epochs": self.epochs, **self.changes, "fingerprint": self.fingerprint}

    @property
    def facts(self) -> dict[str, Any]:
        """What pretrained weights depend on beside candidate and seed."""
        return {"pretraining": {"task": repr(self.task), "epochs": self.epochs, "data": self.fingerprint}}

    def bench(self, bench: Bench) -> Bench:
        """Return what candidates are pretrained on."""
        return replace(bench, data=self.data)

    def samples(self, bench: Bench, candidate: Candidate) -> Split:
        """Return the samples that a candidate is pretrained on.

        Raises:
            InputError: there is none that the task itself trains on.
        """
        data = self.data.of(candidate.input)
        if not self.same_files:
            return data.train
        parts, train = (data.train, data.val, data.test), bench.data_of(candidate).train
        chosen = [np.isin(part.extras[FILE], train.extras[FILE]) for part in parts]
        if not any(own.any() for own in chosen):
            raise InputError("pretraining: it has no sample that the task itself trains on: change its keys")
        return _joined(parts, [np.flatnonzero(own) for own in chosen])

    def teach(self, bench: Bench, candidate: Candidate, network: nn.Module, seed: int, device: str) -> None:
        """Give a network what a network of its kind has learnt; what is of another shape, such as outputs, stays.

        Args:
            bench: of the task itself.
            candidate: whose network it is.
            network: with random weights; changed in place.
            seed: of all that is random.
            device: where it is trained.
        """
        other = self.bench(bench)
        pupil = other.build(candidate, derive_seed(seed, "pretraining weights"))
        data = training_set_of(
            other.task_of(candidate), self.samples(bench, candidate), derive_seed(seed, "pretraining augmentation")
        )
        settings = TrainingSettings.from_group(candidate.training)
        trainer = make_trainer(pupil, data, other.task_of(candidate).loss, settings, device=device)
        fit(trainer, Epochs(len(data), settings, self.epochs, derive_seed(seed, "pretraining order")))
        network.load_state_dict(kept_of(pupil.state_dict(), network.state_dict()))

    def check(self, bench: Bench) -> None:
        """Refuse what networks of the space can't be pretrained on.

        Raises:
            InputError: names what is wrong.
        """
        own, other = bench.shape.input_shape, self.data.of({}).input_shape
        if own != other:
            raise InputError(f"pretraining: its inputs have shape {other}, the task's {own}: change its keys")
        split = self.data.of({}).train
        if self.same_files and FILE not in split.extras:
            name = type(self.task).__name__
            raise InputError(
                f"pretraining: samples of {name} have no '{FILE}' that tells them apart: give it other data"
            )
        self.samples(bench, bench.reference)


def kept_of(taught: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by name: those that were taught where their shapes are the network's own, else its own.

    Args:
        taught: of any shapes.
        own: likewise; all of the network.
    """
    return {
        name: taught[name] if name in taught and taught[name].shape == tensor.shape else tensor
        for name, tensor in own.items()
    }


def _joined(parts: tuple[Split, ...], chosen: list[NDArray[np.intp]]) -> Split:
    """Return some samples of several splits as one.

    Args:
        parts: of the same data.
        chosen: of each, positions from 0, shape (n,).
    """
    decoded = next((part for part in parts if isinstance(part, DecodedSplit)), None)
    if decoded is not None:  # others may be small enough to be in memory
        sources = [(number, int(at)) for number, own in enumerate(chosen) for at in own]
        return DecodedSplit(sources, partial(_input_of, parts), partial(_target_of, parts), join=decoded.join)
    batches = [part.batch(own) for part, own in zip(parts, chosen, strict=True) if len(own)]
    return Split(np.concatenate([inputs for inputs, _ in batches]), np.concatenate([targets for _, targets in batches]))


def _input_of(parts: tuple[Split, ...], source: tuple[int, int]) -> FloatArray:
    """Return the input, shape input_shape, of a sample of one of several splits: number of the split, and position."""
    part, at = parts[source[0]], source[1]
    found: FloatArray = part.decode_input(part.sources[at]) if isinstance(part, DecodedSplit) else part.inputs[at]
    return found


def _target_of(parts: tuple[Split, ...], source: tuple[int, int]) -> NDArray[Any]:
    """Return its target, shape (...)."""
    part, at = parts[source[0]], source[1]
    return part.decode_target(part.sources[at]) if isinstance(part, DecodedSplit) else np.asarray(part.targets[at])


@dataclass(frozen=True)
class PretrainedTraining(FullTraining):
    """Training that begins with weights that have learnt something else; weights that come from elsewhere stay theirs.

    Attributes:
        pretraining: what.
    """

    pretraining: Pretraining = field(kw_only=True)

    @property
    def notes(self) -> Mapping[str, Any]:  # type: ignore[override]  # made of the fields
        """What is pretrained, for cards."""
        own = self.pretraining
        samples = "those that the task trains on" if own.same_files else "the training samples of its own data"
        return {"pretraining": {"epochs": own.epochs, "samples": samples, **own.changes}}

    def alone(self) -> FullTraining:
        """Return the training without it."""
        return FullTraining(**{own.name: getattr(self, own.name) for own in fields(FullTraining)})

    @property
    def further_facts(self) -> Mapping[str, Any]:
        """What the weights depend on beside what all trainings do."""
        return self.pretraining.facts

    def _begin(self, bench: Bench, candidate: Candidate, network: nn.Module, start: Start, seed: int) -> None:
        if not start.digest:
            self.pretraining.teach(bench, candidate, network, seed, self.device)

    def check(self, bench: Bench) -> None:
        """Refuse what can't be pretrained on, too."""
        super().check(bench)
        self.pretraining.check(bench)

    def forecast(self, bench: Bench, candidate: Candidate) -> float:
        """Time a few steps of both trainings."""
        other = self.pretraining.bench(bench)
        share = len(self.pretraining.samples(bench, candidate)) / len(other.data_of(candidate).train)
        once = self._epoch_seconds(other, candidate, other.build(candidate, 0)) * share
        return super().forecast(bench, candidate) + self.pretraining.epochs * once
