"""What is learnt while training: scores on training and on validation data, at a few epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qanas.core.errors import described
from qanas.core.events import Event, Watch
from qanas.core.trials import CurvePoint
from qanas.performance_estimation.scoring import float_outputs, metrics_of, sample_of
from qanas.tasks.base import Task, TaskData
from qanas.tasks.samples import Split
from qanas.training.trainer import SNAPSHOT_SAMPLES, SnapshotTrainer

FEWEST_SAMPLES, MOST_SAMPLES = 32, 256
"""Of each split, spread evenly over it, which the points of a curve are scored on: as many as `SHARE` allows."""

MOST_LOOKS = 3
"""Points of a curve before its last one."""

SHARE = 0.03
"""Of a training's passes through the network, which the points of its curve may take; half of it its last point."""

PASSES_A_STEP = 3
"""A sample's way forward and back costs about as much as three ways forward."""

logger = logging.getLogger("qanas")

Look = Callable[[Event, Callable[[], nn.Module]], bool]
"""Asked after every epoch whether to go on: told how far the training has come, and how to have the FP32 network as it
would be if the training ended there, on the CPU in evaluation mode. Nothing else of the training depends on it."""


class LearningCurve:
    """The points of one training's curve: the FP32 network as it would be if training ended there.

    Nothing of the training depends on whether it is looked at.

    Args:
        task: as the candidate's input makes it.
        data: likewise.
        epochs: of the whole training.

    Attributes:
        points: so far.
    """

    def __init__(self, task: Task, data: TaskData, epochs: int) -> None:
        """Start without a point."""
        self._task = task
        self._data = data
        self._epochs = epochs
        self._affordable = SHARE * PASSES_A_STEP * epochs * len(data.train)
        self._most = max(FEWEST_SAMPLES, min(MOST_SAMPLES, int(self._affordable / 4)))
        self.points: list[CurvePoint] = []

    @cached_property
    def _samples(self) -> Mapping[str, Split]:
        return {"train": sample_of(self._data.train, self._most), "val": sample_of(self._data.val, self._most)}

    def add(self, epoch: int, network: nn.Module) -> None:
        """Score a network, in evaluation mode.

        Args:
            epoch: after which it is.
            network: FP32, on the CPU.
        """
        try:
            scored = {
                f"{split}_{metric}": value
                for split, samples in self._samples.items()
                for metric, value in metrics_of(self._task, float_outputs(network, samples), samples).items()
            }
        except Exception as error:  # noqa: BLE001 - a network without a curve rather than none
            logger.warning("no learning curve: %s: %s", type(self._task).__name__, described(error, __file__))
            return
        self.points.append({"epoch": epoch, **scored})

    def watching(self, trainer: SnapshotTrainer, network: nn.Module, watch: Watch) -> Watch:
        """Return a watch for a training that looks at it on the way.

        Args:
            trainer: of the network.
            network: that is trained.
            watch: who is told, too.
        """
        at = set(self._looked_at(network))

        def look(event: Event) -> bool:
            if event.done in at:
                self.add(event.done, trainer.snapshot())
            return watch(event)

        return look

    def _looked_at(self, network: nn.Module) -> Sequence[int]:
        """Return the epochs after which a training is looked at, evenly over it; the last one is another matter."""
        a_look = sum(min(len(split), self._most) for split in (self._data.train, self._data.val))
        if any(isinstance(module, _BatchNorm) for module in network.modules()):
            a_look += min(len(self._data.train), SNAPSHOT_SAMPLES)
        looks = max(0, min(MOST_LOOKS, int(self._affordable / a_look) - 1, self._epochs - 1))
        return [round(self._epochs * place / (looks + 1)) for place in range(1, looks + 1)]
