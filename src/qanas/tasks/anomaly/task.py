"""The task: tell recordings that aren't normal, from normal ones alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.errors import InputError, unknown
from qanas.core.measures import Direction
from qanas.tasks.anomaly.metrics import FEW_ALARMS, roc_area
from qanas.tasks.anomaly.synthetic import write_hums
from qanas.tasks.audio.features import MelFrames
from qanas.tasks.audio.front_end import SoundFrontEnd
from qanas.tasks.audio.reader import SOUND_SUFFIXES, Heard, print_of_recording, read_recording
from qanas.tasks.base import Arrays, TaskData
from qanas.tasks.labelled_files import LabelledFiles, counted
from qanas.tasks.labels import Sample, Wanted
from qanas.tasks.regression import number_loss, number_loss_gradient
from qanas.tasks.samples import FloatArray, Indices, Split
from qanas.tasks.splits import completed, divided

_SYNTHETIC_SEED = 0


@dataclass(frozen=True)
class Anomaly(LabelledFiles):
    """Recordings of which normal ones alone are trained on: a network gives back what it is given, and errs elsewhere.

    An input is a few frames of mel bands behind each other; a recording's score is the mean squared error over all of
    its inputs, in standard deviations of normal ones. Anomalies are validated and tested on alone: where no split is
    given, in equal shares of theirs, normal ones as usual.

    Attributes:
        normal: the label of what is normal; all others are anomalies.
        sample_rate: samples a second that firmware has; recordings of others are resampled.
        seconds: of a recording that are heard, from its beginning.
        window_ms: of a frame.
        hop_ms: from one frame to the next.
        bands: mel bands.
        context: frames of an input.
        context_hop: frames from one input to the next.
    """

    normal: str = "normal"
    sample_rate: Annotated[int, Field(ge=4000, le=192000)] = 16000
    seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    window_ms: Annotated[float, Field(gt=0, le=1000)] = 64.0
    hop_ms: Annotated[float, Field(gt=0, le=1000)] = 32.0
    bands: Annotated[int, Field(ge=4, le=256)] = 64
    context: Annotated[int, Field(ge=1, le=64)] = 5
    context_hop: Annotated[int, Field(ge=1)] = 2

    metrics: ClassVar[Mapping[str, Direction]] = {"error": "minimize", "auc": "maximize", "pauc": "maximize"}
    losses: ClassVar[tuple[str, ...]] = ("mse",)
    parity_tolerance: ClassVar[Mapping[str, float]] = {"auc": 0.01}
    what: ClassVar[str] = "recordings"
    suffixes: ClassVar[tuple[str, ...]] = SOUND_SUFFIXES

    def write_synthetic(self, folder: Path) -> None:
        """Write generated hums and rattles."""
        write_hums(folder, _SYNTHETIC_SEED)

    def print_of(self, path: Path) -> FloatArray:
        """Return what is alike in copies of a file, shape (192,)."""
        return print_of_recording(path)

    def load(self) -> TaskData:
        """Read every recording, compute its frames, standardise them by normal training ones and cut them into inputs.

        Inputs and targets have shape (n, context * bands) and are equal. Extras are ``recording`` (its number in the
        split), ``group`` and ``anomalous``, each of shape (n,).

        Raises:
            InputError: files are missing or damaged, or labels or settings don't fit.
        """
        frames = self._frames()
        heard = Heard({})
        with self.divided() as found:
            read = {name: self._read(samples, frames, heard) for name, samples in found.samples.items()}
        rows = read["train"].reshape(-1, self.bands).astype(np.float64)
        deviations = rows.std(axis=0)
        means, deviations = rows.mean(axis=0), np.where(deviations > 0, deviations, 1.0)
        notes = self._notes(means, deviations)
        front_end = SoundFrontEnd.from_notes(notes)
        splits = {}
        for name, features in read.items():
            inputs = self._inputs(front_end.scaled(features))
            anomalous = np.array([sample.label != self.normal for sample in found.samples[name]])
            each = inputs.shape[1]
            flat = inputs.reshape(-1, self.context * self.bands)
            extras = {"recording": np.arange(len(inputs)), "group": found.groups[name], "anomalous": anomalous}
            splits[name] = Split(flat, flat.copy(), {key: values.repeat(each) for key, values in extras.items()})
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=self.context * self.bands,
            preprocessing=notes,
            protocol=self.division_notes(found)
            | {name: getattr(self, name) for name in ("normal", "sample_rate", "seconds", "bands", "context")}
            | {"pauc": f"area up to {FEW_ALARMS:g} false alarms, standardised: 0.5 is chance"}
            | {"error": "mean squared error of normal recordings"},
            remarks=(*counted(found), *found.remarks, *heard.lines(self.sample_rate, self.seconds)),
        )

    def front_end(self, preprocessing: Mapping[str, Any]) -> SoundFrontEnd:
        """Return what makes an input of the samples of its frames.

        Args:
            preprocessing: constants of the normal training recordings.
        """
        return SoundFrontEnd.from_notes(preprocessing)

    def raw_inputs(self, val: Split, indices: Indices) -> list[NDArray[np.int16]]:
        """Return the samples of inputs, each of shape (samples, 1).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        length = self._of_an_input.length
        step = self.context_hop * self._frames().hop
        found = []
        with self.divided() as files:
            for index in indices:
                recording = int(val.extras["recording"][index])
                first = int(np.argmax(val.extras["recording"] == recording))
                clips = read_recording(files.samples["val"][recording].path, self.sample_rate, self.seconds).clips
                start = (int(index) - first) * step
                found.append(clips[0][start : start + length, None])
        return found

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean squared error of a batch, a scalar; both of shape (batch, context * bands)."""
        if kind not in self.losses:
            raise InputError(unknown("loss", kind, self.losses))
        return number_loss(kind, outputs, targets, 1.0)

    def loss_gradient(self, kind: str, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
        """Return the loss and its gradient, for outputs and targets of shape (batch, context * bands)."""
        return number_loss_gradient(kind, outputs, targets, 1.0)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the areas under the ROC curve over recordings, and the error of normal ones; NaN where there are none.

        Args:
            outputs: shape (n, context * bands).
            split: the samples.
        """
        return _metrics(*recording_scores(outputs, split))

    def evaluate_draws(
        self, outputs: FloatArray, split: Split, unit_of: NDArray[np.intp], draws: NDArray[np.intp]
    ) -> dict[str, NDArray[np.float64]]:
        """Return every metric over recordings drawn with replacement, each of shape (draws,).

        By its number, a recording that is drawn several times would count once.

        Args:
            outputs: shape (n, context * bands).
            split: the samples.
            unit_of: the unit of each input, numbered from 0, shape (n,).
            draws: which units each draw has, shape (draws, units).
        """
        scores, anomalous = recording_scores(outputs, split)
        _, first = np.unique(split.extras["recording"], return_index=True)
        times = [np.bincount(draw, minlength=draws.shape[1])[unit_of[first]] for draw in draws]
        found = [_metrics(scores.repeat(often), anomalous.repeat(often)) for often in times]
        return {name: np.array([one[name] for one in found]) for name in self.metrics}

    def predictions(self, outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return score and kind of every recording, each of shape (recordings,): outputs are as large as the data."""
        del preprocessing
        scores, anomalous = recording_scores(outputs, split)
        return {"scores": scores, "anomalous": anomalous}

    def confusion(self, outputs: FloatArray, split: Split) -> None:
        """Return nothing: without a threshold, no recording is taken for either; outputs, (n, context * bands)."""
        del outputs, split

    @property
    def _wanted(self) -> Wanted:
        return Wanted(self.what, self.suffixes, self.labels, self.group, self.group_pattern, self.normal)

    def _splits(self, samples: Sequence[Sample], groups: Sequence[int], place: str) -> tuple[list[str], list[str]]:
        """Return the split of each sample, and remarks: anomalies are never trained on."""
        labels = sorted({sample.label for sample in samples})
        if self.normal not in labels:
            raise InputError(
                f"task.normal: {place} has no '{self.normal}', but {', '.join(labels)}: name what is normal"
            )
        normal = [at for at, sample in enumerate(samples) if sample.label == self.normal]
        own, said = completed(
            [self.normal] * len(normal),
            [groups[at] for at in normal],
            [samples[at].split for at in normal],
            self._held_out(),
            self.split_seed,
            place,
        )
        splits = dict(zip(normal, own, strict=True))
        wrong = [sample for sample in samples if sample.label != self.normal and sample.split == "train"]
        if wrong:
            raise InputError(f"{wrong[0].place}: '{wrong[0].label}' in train: put anomalies into val or test alone")
        given = {sample.split for sample in samples if sample.label != self.normal}
        free = [at for at, sample in enumerate(samples) if sample.label != self.normal]
        if {"val", "test"} <= given:
            splits |= {at: samples[at].split for at in free}
        else:
            alone = sorted(given - {""})
            if alone:
                said.append(f"{alone[0]} alone has anomalies: they are dealt out over val and test, a half each")
            # Where a machine's normal recordings are held out, so are its anomalies: else what tells machines apart
            # would tell anomalies.
            held_out = {groups[at]: split for at, split in splits.items() if split != "train"}
            splits |= {at: held_out[groups[at]] for at in free if groups[at] in held_out}
            left = [at for at in free if groups[at] not in held_out]
            dealt = divided([samples[at].label for at in left], [groups[at] for at in left], _EVEN, self.split_seed)
            splits |= dict(zip(left, dealt, strict=True))
            trained = {groups[at] for at in normal if splits[at] == "train"} & {groups[at] for at in left}
            if trained:
                said.append(
                    f"groups that are trained on have anomalies, {len(trained)} of them, which are held out without "
                    "their normal recordings: scores may tell groups apart; give splits of your own"
                )
        for name in ("val", "test"):
            if all(splits[at] != name for at in free):
                raise InputError(
                    f"{place}: no anomaly is left for {name}: give at least two recordings that aren't normal"
                )
        return [splits[at] for at in range(len(samples))], said

    def _frames(self) -> MelFrames:
        length = round(self.seconds * self.sample_rate)
        window = round(self.window_ms * self.sample_rate / 1000)
        frames = MelFrames(
            self.sample_rate, length, window, max(1, round(self.hop_ms * self.sample_rate / 1000)), self.bands
        )
        if window > length or frames.frames < self.context:
            raise InputError(f"task.seconds: {self.seconds:g} hold no {self.context} frames (task.context): take more")
        return frames

    @property
    def _of_an_input(self) -> MelFrames:
        """The frames of one input."""
        frames = self._frames()
        return replace(frames, length=frames.frame_length + (self.context - 1) * frames.hop)

    def _read(self, samples: Sequence[Sample], frames: MelFrames, heard: Heard) -> FloatArray:
        """Return features of the recordings' beginnings, shape (recordings, frames, bands)."""
        features = []
        for sample in samples:
            recording = read_recording(sample.path, self.sample_rate, self.seconds)
            heard.add(sample.name, recording, self.seconds)
            features.append(frames.of(recording.clips[0]))
        return np.stack(features)

    def _inputs(self, features: FloatArray) -> FloatArray:
        """Return frames behind each other, shape (recordings, inputs, context, bands)."""
        starts = np.arange(0, features.shape[1] - self.context + 1, self.context_hop)
        return features[:, starts[:, None] + np.arange(self.context)]

    def _notes(self, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> dict[str, Any]:
        frames = self._of_an_input
        return {
            **frames.notes(),
            "layout": "vector",
            "means": means.tolist(),
            "deviations": deviations.tolist(),
            "standardisation": "(energy - mean) / deviation, constants of the band",
            "context": self.context,
            "context_hop": self.context_hop,
            "input": "context frames, oldest first, each with its bands; every context_hop frames anew",
            "output": "the input again; a recording's score is the mean over its inputs of the mean squared difference",
            "outside_the_model": {"buffer_values": frames.length, "multiply_adds": frames.multiply_adds},
        }


_EVEN = {"val": 0.5, "test": 0.5}


def _metrics(scores: NDArray[np.float64], anomalous: NDArray[np.bool_]) -> dict[str, float]:
    """Return the metrics of recordings' scores and kinds, both of shape (recordings,)."""
    normal = scores[~anomalous]
    return {
        "error": float(normal.mean()) if len(normal) else float("nan"),
        "auc": roc_area(scores, anomalous),
        "pauc": roc_area(scores, anomalous, FEW_ALARMS),
    }


def recording_scores(outputs: FloatArray, split: Split) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return each recording's mean squared error, and whether it is an anomaly, both of shape (recordings,).

    Args:
        outputs: shape (n, values).
        split: the samples.
    """
    errors = np.square(outputs.astype(np.float64) - split.targets).mean(axis=1)
    _, first, numbers = np.unique(split.extras["recording"], return_index=True, return_inverse=True)
    numbers = numbers.reshape(-1)
    scores = np.bincount(numbers, errors) / np.bincount(numbers)
    return scores, split.extras["anomalous"][first].astype(bool)
