"""The task: tell what is heard."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.errors import InputError
from qanas.search_space.settings import Choice, Setting
from qanas.tasks.audio.features import MelFrames
from qanas.tasks.audio.front_end import SoundFrontEnd
from qanas.tasks.audio.reader import SOUND_SUFFIXES, Heard, clips_in, print_of_recording, read_recording
from qanas.tasks.audio.synthetic import write_recordings
from qanas.tasks.base import TaskData
from qanas.tasks.classified import ClassifiedFiles
from qanas.tasks.labelled_files import Divided, counted
from qanas.tasks.labels import Sample
from qanas.tasks.samples import FloatArray, Indices, Split

Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(gt=0, le=1000)]

_SYNTHETIC_SEED = 0
_LOWEST_RATE = 4000
_FEWEST_BANDS = 4


@dataclass(frozen=True)
class Audio(ClassifiedFiles):
    """Recordings, each of a class: clips of one length, as mel bands or MFCC over frames.

    Attributes:
        sample_rate: samples a second that firmware has; recordings of others are resampled.
        seconds: of a clip. Longer recordings are cut into several, behind shorter ones are zeros.
        window_ms: of a frame.
        hop_ms: from one frame to the next.
        bands: mel bands.
        coefficients: 0 gives the network the bands' logarithms, else so many MFCC.
        layout: "image": shape (1, frames, values), for convolutions in two dimensions; "sequence": (frames, values).
        shift: largest random shift in training, as a share of the clip.
        noise: standard deviation of what is added to standardised features in training.
        masked: share of the frames, and of the bands, that are blanked out in training, at most, one piece of each.
        features: "none", or "summary": mean and deviation over the clip of every band, as baselines hear it.

    The input that can be searched is ``sample_rate``, ``hop_ms`` and ``bands`` or ``coefficients``. Clips are the same
    whatever it is.
    """

    sample_rate: Annotated[int, Field(ge=_LOWEST_RATE, le=192000)] = 16000
    seconds: Annotated[float, Field(gt=0, le=60)] = 1.0
    window_ms: Milliseconds = 32.0
    hop_ms: Milliseconds = 20.0
    bands: Annotated[int, Field(ge=_FEWEST_BANDS, le=256)] = 40
    coefficients: Annotated[int, Field(ge=0, le=256)] = 0
    layout: Literal["image", "sequence"] = "image"
    shift: Share = 0.1
    noise: Annotated[float, Field(ge=0, le=10)] = 0.1
    masked: Share = 0.15
    features: Literal["none", "summary"] = "none"

    what: ClassVar[str] = "recordings"
    suffixes: ClassVar[tuple[str, ...]] = SOUND_SUFFIXES

    def write_synthetic(self, folder: Path) -> None:
        """Write generated calls of ten speakers."""
        write_recordings(folder, _SYNTHETIC_SEED)

    def print_of(self, path: Path) -> FloatArray:
        """Return what is alike in copies of a file, shape (192,)."""
        return print_of_recording(path)

    def samples_in(self, sample: Sample) -> int:
        """Return how many clips a recording is cut into."""
        return clips_in(sample.path, self.seconds)

    def load(self) -> TaskData:
        """Read every recording, cut it into clips, compute their features and standardise them.

        Inputs have shape (n, 1, frames, values), (n, frames, values) or (n, 2 * values), targets (n,): classes in the
        order of their names. Extras are ``file``, ``group`` and ``start`` (in seconds), each of shape (n,).

        Raises:
            InputError: files are missing or damaged, or labels or settings don't fit.
        """
        frames = self._frames()
        heard = Heard({})
        with self.divided() as found:
            read = {name: self._read(samples, frames, heard) for name, samples in found.samples.items()}
        means, deviations = _constants(read["train"][0])
        front_end = SoundFrontEnd(frames, means, (1 / deviations).astype(np.float32), self.layout)
        splits = {
            name: Split(
                self._shaped(front_end.scaled(features)),
                found.targets(name)[sources],
                {extra: values[sources] for extra, values in found.extras(name).items()} | {"start": starts},
            )
            for name, (features, sources, starts) in read.items()
        }
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=len(found.classes),
            preprocessing=self._notes(found, frames, means, deviations),
            protocol=self._protocol(found, splits),
            remarks=(*counted(found), *found.remarks, *_deaf(frames), *heard.lines(self.sample_rate, self.seconds)),
        )

    def input_settings(self) -> tuple[Setting, ...]:
        """Return ``sample_rate``, ``hop_ms``, and ``bands`` or ``coefficients``."""
        rates = {self.sample_rate, *(rate for rate in (self.sample_rate // 2,) if rate >= _LOWEST_RATE)}
        values, hops = self.coefficients or self.bands, tuple(share * self.hop_ms for share in (1.0, 1.5, 2.0))
        fewest = _FEWEST_BANDS if not self.coefficients else 1
        counts = tuple(sorted({values, *(max(fewest, round(share * values)) for share in (0.5, 0.75))}))
        return (
            Choice("sample_rate", "input", self.sample_rate, options=tuple(sorted(rates))),
            Choice("hop_ms", "input", self.hop_ms, options=hops, finer="smaller"),
            Choice("coefficients" if self.coefficients else "bands", "input", values, options=counts, finer="larger"),
        )

    def with_features(self) -> Self:
        """Return the task with mean and deviation of every band as input, as they are in training."""
        return replace(self, features="summary", shift=0.0, noise=0.0, masked=0.0)

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, shape (batch, *input_shape), shifted in time, with noise and with pieces blanked out."""
        if self.features != "none" or not (self.shift or self.noise or self.masked):
            return inputs, targets
        batch, (frames, values) = len(inputs), inputs.shape[-2:]
        draws = torch.rand((5, batch), generator=generator)
        changed = inputs.reshape(batch, frames, values)
        moved = ((2 * draws[0] - 1) * self.shift * frames).round().long()
        places = (torch.arange(frames) - moved[:, None]).clamp(0, frames - 1)
        changed = changed.gather(1, places[:, :, None].expand(-1, -1, values).to(inputs.device))
        changed = changed + self.noise * torch.randn(changed.shape, generator=generator).to(inputs)
        blank = _pieces(frames, self.masked, draws[1:3])[:, :, None] | _pieces(values, self.masked, draws[3:])[:, None]
        return changed.masked_fill(blank.to(inputs.device), 0.0).reshape(inputs.shape), targets

    def front_end(self, preprocessing: Mapping[str, Any]) -> SoundFrontEnd | None:
        """Return what makes inputs of samples; None for the bands' mean and deviation.

        Args:
            preprocessing: constants of the training clips.
        """
        return SoundFrontEnd.from_notes(preprocessing) if self.features == "none" else None

    def raw_inputs(self, val: Split, indices: Indices) -> list[NDArray[np.int16]]:
        """Return the samples of clips, each of shape (samples, 1).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        found = []
        with self.divided() as files:
            paths = {sample.name: sample.path for sample in files.samples["val"]}
            for index in indices:
                path, start = paths[str(val.extras["file"][index])], float(val.extras["start"][index])
                clips = read_recording(path, self.sample_rate, self.seconds).clips
                found.append(clips[round(start / self.seconds)][:, None])
        return found

    @property
    def _source(self) -> tuple[object, ...]:
        """Of clips, how long they are, too."""
        return (*super()._source, self.seconds)

    def _frames(self) -> MelFrames:
        """Return how clips become frames.

        Raises:
            InputError: settings don't fit together.
        """
        length = round(self.seconds * self.sample_rate)
        frame_length = round(self.window_ms * self.sample_rate / 1000)
        hop = max(1, round(self.hop_ms * self.sample_rate / 1000))
        if frame_length > length:
            raise InputError(
                f"task.window_ms: {self.window_ms:g} ms, but a clip has {1000 * self.seconds:g} (task.seconds)"
            )
        if self.coefficients > self.bands:
            raise InputError(f"task.coefficients: {self.coefficients} of {self.bands} bands; take as many at most")
        return MelFrames(self.sample_rate, length, frame_length, hop, self.bands, self.coefficients)

    def _read(
        self, samples: Sequence[Sample], frames: MelFrames, heard: Heard
    ) -> tuple[FloatArray, NDArray[np.intp], NDArray[np.float32]]:
        """Return clips' features, shape (n, frames, values), and of each the number of its sample and its start."""
        features: list[FloatArray] = []
        sources: list[int] = []
        starts: list[float] = []
        for source, sample in enumerate(samples):
            recording = read_recording(sample.path, self.sample_rate, self.seconds)
            heard.add(sample.name, recording, self.seconds)
            features += [frames.of(clip) for clip in recording.clips]
            sources += [source] * len(recording.starts)
            starts += recording.starts
        return np.stack(features), np.array(sources, np.intp), np.array(starts, np.float32)

    def _shaped(self, features: FloatArray) -> FloatArray:
        """Return inputs of standardised features, shape (n, frames, values)."""
        if self.features == "summary":
            return np.concatenate([features.mean(axis=1), features.std(axis=1)], axis=1)
        return features[:, None] if self.layout == "image" else features

    def _notes(self, found: Divided, frames: MelFrames, means: FloatArray, deviations: FloatArray) -> dict[str, Any]:
        """Return all that it takes to compute a network's input from samples."""
        kept = (
            "energies"
            if not frames.coefficients
            else "mfcc = sum over bands of energy cos(pi c (b + 0.5) / bands), orthonormal"
        )
        order = (
            "frames, oldest first, each with its values"
            if self.features == "none"
            else "mean of each value over frames, then deviations"
        )
        return {
            **frames.notes(),
            "layout": self.layout,
            "means": means.tolist(),
            "deviations": deviations.tolist(),
            "values": kept,
            "standardisation": "(value - mean) / deviation, constants of the band or coefficient",
            "input": order,
            "classes": list(found.classes),
            "output": "a logit a class; the class is that of the largest one",
            "outside_the_model": {"buffer_values": frames.length, "multiply_adds": frames.multiply_adds},
        }

    def _protocol(self, found: Divided, splits: Mapping[str, Split]) -> dict[str, Any]:
        names = ("sample_rate", "seconds", "window_ms", "hop_ms", "bands", "coefficients", "shift", "noise", "masked")
        own = {name: getattr(self, name) for name in names}
        return self.division_notes(found) | own | {"clips": {name: len(split) for name, split in splits.items()}}


def _constants(features: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return mean and deviation of each value, both of shape (values,), of features, shape (n, frames, values)."""
    exact = features.reshape(-1, features.shape[-1]).astype(np.float64)
    deviations = exact.std(axis=0)
    return exact.mean(axis=0).astype(np.float32), np.where(deviations > 0, deviations, 1.0).astype(np.float32)


def _deaf(frames: MelFrames) -> list[str]:
    """Say which bands lie between two lines of the spectrum: they are constant."""
    count = int((~frames.filters.any(axis=1)).sum())
    said = f"{count} of {frames.bands} bands are narrower than the spectrum's lines and hear nothing"
    return [f"{said}: fewer task.bands, or a longer task.window_ms"] if count else []


def _pieces(size: int, share: float, draws: Tensor) -> Tensor:
    """Return which places are blanked out, shape (batch, size): a random piece of each; draws (2, batch)."""
    length = draws[0] * share * size
    begin = draws[1] * (size - length)
    places = torch.arange(size) + 0.5
    return (places >= begin[:, None]) & (places < (begin + length)[:, None])
