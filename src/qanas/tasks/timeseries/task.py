"""The task: tell a class or a number from a window of readings."""

import hashlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.candidate import Value
from qanas.core.errors import InputError
from qanas.core.measures import Direction
from qanas.search_space.settings import Choice, Integer, Setting
from qanas.tasks.base import Task, TaskData
from qanas.tasks.classification import (
    CLASS_LOSSES,
    CLASS_METRICS,
    ClassWeights,
    balanced_weights,
    class_loss,
    class_metrics,
)
from qanas.tasks.labelled_files import SYNTHETIC, Fraction
from qanas.tasks.labels import Wanted
from qanas.tasks.regression import NUMBER_LOSSES, NUMBER_METRICS, number_loss, number_loss_gradient, number_metrics
from qanas.tasks.remembered import Remembered
from qanas.tasks.samples import FloatArray, Indices, Split
from qanas.tasks.splits import SPLITS, shares_held_out
from qanas.tasks.timeseries.division import Division, numbered_groups
from qanas.tasks.timeseries.front_end import SeriesFrontEnd
from qanas.tasks.timeseries.notes import channel_notes, counted, seen
from qanas.tasks.timeseries.reader import SERIES_SUFFIXES, Columns, Floats, Found, Series, find_series
from qanas.tasks.timeseries.synthetic import write_activities, write_machines
from qanas.tasks.timeseries.targets import Integers, Learnt, Predicted, Targets
from qanas.tasks.window_split import Windows
from qanas.tasks.windows import LONGEST_WINDOW, FeatureNames, feature_notes

_SYNTHETIC_SEED = 0
_FEATURES: FeatureNames = "mean+slope+deviation+last"
_SEARCHED_THINNING = 3


_LEARNT = Remembered[Learnt]()


@dataclass(frozen=True)
class TimeSeries(Task):
    """Windows of readings, and what is told from them.

    Attributes:
        data: a folder with a folder a class of tables, or with a table of labels; or, with ``target``, a folder of
            tables or one table. CSV or Parquet, a row a reading. "synthetic" for generated ones.
        predict: "class", "number", or "life": the rows that are left of the recording, each of which ends where
            something failed.
        life_cap: the largest remaining life that is told: before, wear can't be seen. By default there is none.
        target: the column of what is predicted, at the window's last row; by default the file's class.
        horizon: rows behind the window's last one at which the target is predicted: a forecast. The target's past is
            then among the channels.
        change: numbers: predict the difference from the target at the window's last row (with a horizon).
        channels: columns that the network is given; by default all of numbers that mean nothing else.
        recording: the column that tells recordings of a file apart.
        time: the column of times, seconds or dates: rows have to follow each other, no window reaches over a gap.
        group: the column, of the table or of the table of labels, that tells what stays in one split, such as a person.
        group_pattern: a regular expression whose one group (...) finds it in a file's path.
        labels: the name of the table of labels.
        split: "recording": recordings, or groups, are held out whole; "time": the last part of each is.
        val_fraction: share that is validated on, where no split is given.
        test_fraction: share that is tested on, likewise.
        split_seed: which ones.
        class_weights: see `qanas.tasks.classification.ClassWeights`.
        window: rows that the network is given.
        hop: rows from one window to the next.
        stride_in_window: every n-th row of a window is given, counted back from its last one.
        first_end: the row of a recording at which its first window ends; by default ``window``. A window that reaches
            back before the first row repeats it in front.
        features: "none" gives the network the window; else a vector, of every channel in turn: the mean over the last
            ``mean_window`` rows, the slope over the window, the standard deviation, the last value.
        mean_window: rows that mean and deviation are over.

    The input that can be searched is ``window`` (a third to twice of it) and ``stride_in_window``; with features
    ``window``, ``mean_window`` and which. Windows end at the same rows whatever it is.
    """

    data: str
    predict: Predicted = "class"
    life_cap: Annotated[float, Field(gt=0)] | None = None
    target: str | None = None
    horizon: Annotated[int, Field(ge=0, le=100000)] = 0
    change: bool = False
    channels: Annotated[tuple[str, ...], Field(strict=False)] = ()
    recording: str | None = None
    time: str | None = None
    group: str | None = None
    group_pattern: str | None = None
    labels: str | None = None
    split: Literal["recording", "time"] = "recording"
    val_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.15
    split_seed: Annotated[int, Field(ge=0)] = 0
    class_weights: ClassWeights = None
    window: Annotated[int, Field(ge=2, le=LONGEST_WINDOW)] = 50
    hop: Annotated[int, Field(ge=1)] = 10
    stride_in_window: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = 1
    first_end: Annotated[int, Field(ge=1)] | None = None
    features: FeatureNames = "none"
    mean_window: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = 50

    @property
    def unit(self) -> str:  # type: ignore[override]  # of the settings, where others have a constant
        """A group, where there are such, else a recording."""
        return self.group or ("group" if self.group_pattern else "recording")

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """Those of classes or of numbers."""
        return CLASS_METRICS if self.predict == "class" else NUMBER_METRICS

    @property
    def parity_tolerance(self) -> Mapping[str, float]:  # type: ignore[override]  # likewise
        """That of classes; of numbers, whose unit can be any, outputs are judged alone."""
        return {"accuracy": 0.01, "balanced_accuracy": 0.01} if self.predict == "class" else {}

    @property
    def losses(self) -> tuple[str, ...]:  # type: ignore[override]  # likewise
        """Those of classes or of numbers."""
        return CLASS_LOSSES if self.predict == "class" else NUMBER_LOSSES

    def fingerprint(self) -> str:
        """Return the SHA-256 over names, groups, splits, values and targets of all series.

        Raises:
            InputError: a file is missing or damaged, or settings don't fit.
        """
        total = hashlib.sha256()
        if self._plain and self.predict == "class" and self.split == "recording":
            total.update(b"dealt by the classes of rows")  # earlier versions dealt such recordings otherwise
        found = self._found()
        if self.split == "time" and found.gaps:
            total.update(b"the last part of recordings")  # earlier versions took that of each piece between gaps
        for series in found.series:
            total.update(repr((series.recording, series.group, series.split, series.label)).encode("utf-8", "replace"))
            total.update(np.ascontiguousarray(series.values).tobytes())
            if series.targets is not None:
                total.update(repr(series.targets.tolist()).encode("utf-8", "replace"))
        return total.hexdigest()

    def load(self) -> TaskData:
        """Read, check, split, standardise and cut into windows.

        Inputs have shape (n, steps, channels), steps = ceil(window / stride_in_window), or (n, features * channels);
        targets (n,): classes, or (n, 1): numbers less the training windows' mean. Extras are ``recording``, ``group``
        and ``line`` (of the file, of the window's last row), each of shape (n,).

        Raises:
            InputError: the data is missing or damaged, or settings don't fit.
        """
        found = self._found()
        parts, said = self._division.of(found.series)
        kept = self._kept(parts)
        if not len(kept):
            raise InputError(f"{self.data}: every channel is constant: {', '.join(found.channels)}: give others")
        train = np.concatenate([series.values[:, kept] for series in parts["train"]])
        means, deviations = train.mean(axis=0), train.std(axis=0)
        windows = {name: [self._ends(series) for series in parts[name]] for name in SPLITS}
        for name, ends in windows.items():
            if not sum(map(len, ends)):
                raise InputError(f"{self.data}: {name} has no window with a target: give longer recordings")
        told = self._told.of(parts, windows)
        classes, mean = told.classes, told.mean
        _LEARNT.keep(self._source, told.learnt)
        numbers = numbered_groups(parts)
        channels = tuple(found.channels[place] for place in kept)
        late = min(self.mean_window, self.window)
        thinning = self.stride_in_window if self.features == "none" else 1
        front_end = SeriesFrontEnd(
            channels,
            means,
            deviations,
            window=self.window,
            thinning=thinning,
            features=self._described,
            mean_window=late,
        )
        splits = {
            name: self._split(parts[name], windows[name], told.targets[name], (front_end, kept), numbers[name])
            for name in SPLITS
        }
        alone = f"one row alone of each window of {self.window} is given: see task.stride_in_window"
        thinned = [alone] if thinning >= self.window else []
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=len(classes) or 1,
            target_scale=told.learnt.scale,
            preprocessing=channel_notes(channels, means, deviations)
            | self._input_notes(len(channels))
            | self._output_notes(classes, mean),
            protocol=self._protocol(splits, classes),
            remarks=(
                *counted(splits, classes, self.target or self.predict, mean),
                *found.remarks,
                *thinned,
                *seen(found, kept),
                *said,
            ),
        )

    def input_settings(self) -> tuple[Setting, ...]:
        """Return ``window`` and ``stride_in_window``, or what features are made of."""
        shortest, longest = max(2, self.window // 3), min(2 * self.window, LONGEST_WINDOW)
        window = Integer("window", "input", self.window, low=shortest, high=longest)
        if self.features != "none":
            return (
                window,
                Integer("mean_window", "input", self.mean_window, low=1, high=longest, log=True),
                Choice("features", "input", self.features, options=get_args(FeatureNames)[1:]),
            )
        thinning = max(_SEARCHED_THINNING, self.stride_in_window)
        stride = self.stride_in_window
        return (window, Integer("stride_in_window", "input", stride, low=1, high=thinning, finer="smaller"))

    def with_input(self, values: Mapping[str, Value]) -> Self:
        """Return the task with another window, whose samples are this one's.

        Args:
            values: of the settings above.
        """
        return self._replaced(values, first_end=self._first_end)

    def with_features(self) -> Self:
        """Return the task with mean, slope, deviation and last value of every channel as input."""
        if self.features != "none":
            return self
        return replace(self, features=_FEATURES, mean_window=self.window, first_end=self._first_end)

    def front_end(self, preprocessing: Mapping[str, Any]) -> SeriesFrontEnd:
        """Return what makes windows or features of rows.

        Args:
            preprocessing: constants of the training rows.
        """
        return SeriesFrontEnd.from_notes(preprocessing)

    def raw_inputs(self, val: Split, indices: Indices) -> list[Floats]:
        """Return the rows of windows, each of shape (rows, channels).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        del val
        parts, _ = self._division.of(self._found().series)
        kept = self._kept(parts)
        # Samples are in the order of series and of the rows where windows end: files may have recordings of one name.
        ends = [self._ends(series) for series in parts["val"]]
        borders = np.cumsum([0, *map(len, ends)])
        rows = []
        for index in indices:
            number = int(np.searchsorted(borders, index, side="right")) - 1
            end = int(ends[number][index - borders[number]])
            rows.append(parts["val"][number].values[max(0, end + 1 - self.window) : end + 1, kept])
        return rows

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a batch's mean loss, a scalar: of classes by their weights, of numbers in units of their deviation.

        Args:
            kind: one of `losses`.
            outputs: shape (batch, classes) or (batch, 1).
            targets: shape (batch,) or (batch, 1).
        """
        if self.predict != "class":
            return number_loss(kind, outputs, targets, self._learnt.scale)
        return class_loss(kind, outputs, targets, self._weights())

    def loss_gradient(self, kind: str, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray] | None:
        """Return loss and gradient of numbers, shape (batch, 1); None of classes."""
        if self.predict == "class":
            return None
        return number_loss_gradient(kind, outputs, targets, self._learnt.scale)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the metrics.

        Args:
            outputs: shape (n, classes) or (n, 1).
            split: the samples.
        """
        scored = class_metrics if self.predict == "class" else number_metrics
        return scored(outputs, split.targets)

    def units(self, split: Split) -> NDArray[Any]:
        """Return the group of each window, shape (n,)."""
        groups: NDArray[Any] = split.extras["group"]
        return groups

    @property
    def _first_end(self) -> int:
        return self.first_end or self.window

    @property
    def _source(self) -> tuple[object, ...]:
        """What losses follow from, whatever the input."""
        own = {"window", "stride_in_window", "first_end", "features", "mean_window"}
        return (*(getattr(self, entry.name) for entry in fields(self) if entry.name not in own), self._first_end)

    @property
    def _learnt(self) -> Learnt:
        return _LEARNT.of(self._source, self.load)

    def _weights(self) -> tuple[float, ...] | None:
        if self.class_weights is None or isinstance(self.class_weights, tuple):
            return self.class_weights
        return balanced_weights(self._learnt.counts)

    def _columns(self) -> Columns:
        if self.predict == "life" and (self.target is not None or self.horizon):
            raise InputError("task.predict: 'life' is the rows that are left: leave out task.target and task.horizon")
        if self.life_cap is not None and self.predict != "life":
            raise InputError("task.life_cap: only with task.predict = 'life'")
        if self.predict == "number" and self.target is None:
            raise InputError("task.target: missing: name the column of the number that is to be predicted")
        if self.horizon and self.predict == "class" and self.target is None:
            raise InputError("task.horizon: a file's class is the same later: name task.target, or leave it out")
        if self.change and not (self.horizon and self.predict == "number"):
            raise InputError("task.change: only of numbers with a task.horizon: else there is no change")
        if self.target is not None and not self.horizon and self.target.lower() in map(str.lower, self.channels):
            raise InputError(
                f"task.channels: '{self.target}' is what is predicted, of the row where it would be given: leave it "
                "out, or give a task.horizon"
            )
        given = self.horizon > 0 and self.predict == "number"
        group = self.group if self._plain else None
        life = self.life_cap or np.inf if self.predict == "life" else None
        numbers = self.predict != "class"
        return Columns(self.target, numbers, self.recording, self.time, group, self.channels, given, life)

    @property
    def _plain(self) -> bool:
        """Whether files have no class."""
        return self.target is not None or self.predict == "life"

    @property
    def _told(self) -> Targets:
        return Targets(self.data, self.predict, self.target, self.horizon, self.change, self.class_weights)

    @property
    def _division(self) -> Division:
        shares = shares_held_out(self.val_fraction, self.test_fraction)
        return Division(self.data, self.split, shares, self.split_seed, self.horizon)

    @contextmanager
    def _place(self) -> Iterator[Path]:
        if self.data != SYNTHETIC:
            yield Path(self.data)
            return
        with tempfile.TemporaryDirectory(prefix="series-") as folder:
            write = write_machines if self._plain else write_activities
            write(Path(folder), _SYNTHETIC_SEED)
            yield Path(folder)

    def _found(self) -> Found:
        columns = self._columns()
        group = None if self._plain else self.group
        wanted = Wanted("tables", SERIES_SUFFIXES, self.labels, group, self.group_pattern)
        with self._place() as place:
            found = find_series(place, columns, wanted)
        if self._plain and self.predict == "class":
            self._told.check_classes(found.series)
        return found

    @staticmethod
    def _kept(parts: Mapping[str, Sequence[Series]]) -> NDArray[np.intp]:
        """Return which channels aren't constant in training, shape (kept,)."""
        return np.flatnonzero(np.ptp(np.concatenate([series.values for series in parts["train"]]), axis=0) > 0)

    def _ends(self, series: Series) -> Integers:
        """Return the rows at which windows end that have a target, ascending, shape (windows,)."""
        last = len(series) - 1 - self.horizon
        if last < 0:
            return np.zeros(0, np.int64)
        first = min(self._first_end - 1, last)
        ends = np.arange(last, first - 1, -self.hop)[::-1]
        return self._told.there(series, ends)

    def _split(
        self,
        parts: Sequence[Series],
        windows: Sequence[Integers],
        targets: NDArray[Any],
        scaling: tuple[SeriesFrontEnd, NDArray[np.intp]],
        groups: Sequence[int],
    ) -> Split:
        front_end, kept = scaling
        counts = [len(ends) for ends in windows]
        starts = np.cumsum([0, *map(len, parts)])[:-1]
        placed = Windows(
            front_end,
            rows=np.concatenate([front_end.scaled(series.values[:, kept]) for series in parts]),
            first=np.repeat(starts, counts),
            ends=np.concatenate([start + ends for start, ends in zip(starts, windows, strict=True)]),
        )
        return placed.split(
            targets,
            {
                "recording": np.repeat(np.array([series.recording for series in parts]), counts),
                "group": np.repeat(np.array(groups, np.int64), counts),
                "line": np.concatenate([series.lines[ends] for series, ends in zip(parts, windows, strict=True)]),
            },
        )

    @property
    def _described(self) -> tuple[str, ...]:
        return tuple(self.features.split("+")) if self.features != "none" else ()

    def _input_notes(self, channels: int) -> dict[str, Any]:
        if self.features != "none":
            described = feature_notes(self._described, self.window, self.mean_window, channels)
            return {"window": self.window} | described
        return {
            "window": self.window,
            "stride_in_window": self.stride_in_window,
            "input": "every stride_in_window-th of the last rows, counted back from the last one, oldest first, "
            "each with the channels in the order above",
        }

    def _output_notes(self, classes: Sequence[str], mean: float) -> dict[str, Any]:
        if classes:
            return {"classes": list(classes), "output": "a logit a class; the largest one's is the answer"}
        if self.predict == "life":
            return {"output_offset": mean, "output": "rows that are left of the recording: output + output_offset"}
        when = f" {self.horizon} rows later" if self.horizon else ""
        what = f"its change{when}" if self.change else f"its value{when}"
        return {"output_offset": mean, "output": f"of '{self.target}', {what}: output + output_offset"}

    def _protocol(self, splits: Mapping[str, Split], classes: Sequence[str]) -> dict[str, Any]:
        held_out = {
            "recording": "recordings, or groups of them, held out whole",
            "time": "the last part of each recording; windows don't reach over the border",
        }[self.split]
        return {
            "dataset": "synthetic series" if self.data == SYNTHETIC else "series of the user's",
            "source": SYNTHETIC if self.data == SYNTHETIC else "real",
            "predict": self.predict,
            **({"target": self.target} if self.target else {}),
            **({"life_cap": self.life_cap} if self.predict == "life" else {}),
            **({"classes": list(classes)} if classes else {}),
            "horizon": self.horizon,
            "change": self.change,
            "window": self.window,
            "hop": self.hop,
            "first_end": self._first_end,
            "windows": {name: len(split) for name, split in splits.items()},
            "groups": {name: len(set(split.extras["group"].tolist())) for name, split in splits.items()},
            "val": held_out,
            "test": held_out,
            "split_seed": self.split_seed,
            **({"class_weights": list(self._weights() or ())} if self.class_weights else {}),
        }
