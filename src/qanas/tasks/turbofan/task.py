"""The task: predict how many cycles a turbofan engine has left from its last sensor readings."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.candidate import Value
from qanas.core.errors import InputError
from qanas.core.measures import Direction
from qanas.core.seeds import derive_seed
from qanas.search_space.settings import Choice, Integer, Setting
from qanas.tasks.base import Task, TaskData
from qanas.tasks.regression import NUMBER_LOSSES, number_loss, number_loss_gradient
from qanas.tasks.samples import FloatArray, Indices, Split
from qanas.tasks.turbofan.front_end import EngineFrontEnd
from qanas.tasks.turbofan.preprocessing import Preprocessing, window_ends
from qanas.tasks.turbofan.reader import Floats, Integers, Subset, SubsetFiles, Trajectories, read_trajectories
from qanas.tasks.turbofan.synthetic import write_synthetic
from qanas.tasks.windows import LONGEST_WINDOW, FeatureNames

SubsetName = Literal["FD001", "FD002", "FD003", "FD004"]
Booleans = NDArray[np.bool_]
SYNTHETIC = "synthetic"
_SYNTHETIC_SEED = 0
_FEWEST_ENGINES = 2
_LARGEST_EXPONENT = 500.0
BASELINE_FEATURES: FeatureNames = "mean+slope"
"""Of baselines: on validation data of FD001 no worse than with deviation and last value (docs/log.md)."""
SEARCHED_THINNING = 3
"""Of a searched window's cycles, every one to every third is given to the network."""


@dataclass(frozen=True)
class Turbofan(Task):
    """Remaining useful life (RUL) in cycles on NASA's C-MAPSS data (Saxena et al., PHM 2008).

    Attributes:
        data: the folder with the raw text files, or "synthetic" for generated ones in the same format.
        subset: which of the four; FD002 and FD004 fly in six operating conditions, FD003 and FD004 fail in
            two ways.
        window: cycles that the network is given, the last ones.
        rul_cap: cycles. Larger RULs count as this one, in training and in test: a healthy engine does not
            show how long it will live (Heimes 2008).
        validation_fraction: share of the training engines that is held out, by engine.
        split_seed: which ones.
        stride: cycles from one training window to the next; validation takes every window.
        stride_in_window: 1 gives the network every cycle of a window, n every n-th, counted back from its last one:
            ceil(window / n) steps.
        first_end: the cycle of an engine at which its first window ends, in training and validation; by default
            ``window``, so that it is a full one. A window that reaches back before the engine's first cycle repeats it
            in front.

        features: "none" gives the network the window itself. Else it is given a vector, of every sensor in turn: the
            mean over the last ``mean_window`` cycles; the slope of the least-squares line over the window, times its
            length; the standard deviation and the last value.
        mean_window: cycles that mean and deviation are over, at most the window's.

    The input that can be searched is ``window``, from a third of its own length to twice that, and
    ``stride_in_window``; with features it is ``window``, ``mean_window`` and which features. Samples of every split are
    the same whatever the candidate's window: they end where this task's windows end.
    """

    data: str
    subset: SubsetName = "FD001"
    window: Annotated[int, Field(ge=2, le=LONGEST_WINDOW)] = 30
    rul_cap: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 125.0
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_seed: Annotated[int, Field(ge=0)] = 0
    stride: Annotated[int, Field(ge=1)] = 1
    stride_in_window: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = 1
    first_end: Annotated[int, Field(ge=1)] | None = None
    features: FeatureNames = "none"
    mean_window: Annotated[int, Field(ge=1, le=LONGEST_WINDOW)] = 15

    metrics: ClassVar[Mapping[str, Direction]] = {
        "mae": "minimize",
        "rmse": "minimize",
        "mae_uncapped": "minimize",
        "score": "minimize",
    }
    losses: ClassVar[tuple[str, ...]] = NUMBER_LOSSES
    parity_tolerance: ClassVar[Mapping[str, float]] = {"mae": 0.1}
    unit: ClassVar[str] = "engine"

    def fingerprint(self) -> str:
        """Return the SHA-256 of the three raw files, whatever their folder is called.

        Raises:
            InputError: the folder or a file is missing.
        """
        with self._files() as files:
            return files.digest()

    def load(self) -> TaskData:
        """Read, check, split by engine, standardise and cut into windows.

        Inputs have shape (n, steps, sensors) with steps = ceil(window / stride_in_window), or (n, features), targets
        (n, 1) in cycles. The extras of each split are ``engine``, ``cycle`` (of the window's last row) and ``uncapped``
        (the true RUL), each of shape (n,).

        Raises:
            InputError: the data is missing or damaged, or has too few engines to split.
        """
        with self._files() as files:
            raw = files.read()
            validation = self._validation_engines(raw.train.engines, files.train)
            held_out = np.isin(raw.train.engine, validation)
            preprocessing = Preprocessing.fit(raw.train.settings[~held_out], raw.train.sensors[~held_out])
            if not len(preprocessing.sensors):
                raise InputError(f"{files.train}: every sensor is constant: fetch the file again")
            self._require_windows(files.train, raw, held_out)
        front_end = self._front_end(preprocessing)
        train, val, test = self._splits(raw, held_out, front_end)
        return TaskData(
            train=train,
            val=val,
            test=test,
            output_size=1,
            target_scale=self.rul_cap,
            preprocessing=front_end.notes() | {"rul_cap": self.rul_cap},
            protocol=self._protocol(validation, train, val, test),
            remarks=self._remarks(raw, train, val, test),
        )

    def input_settings(self) -> tuple[Setting, ...]:
        """Return ``window`` and ``stride_in_window``, or what features are made of."""
        shortest, longest = max(2, self.window // 3), min(2 * self.window, LONGEST_WINDOW)
        if self.features != "none":
            return (
                Integer("window", "input", self.window, low=shortest, high=longest),
                Integer("mean_window", "input", self.mean_window, low=1, high=longest, log=True),
                Choice("features", "input", self.features, options=get_args(FeatureNames)[1:]),
            )
        thinning = max(SEARCHED_THINNING, self.stride_in_window)
        return (
            Integer("window", "input", self.window, low=shortest, high=longest),
            Integer("stride_in_window", "input", self.stride_in_window, low=1, high=thinning, finer="smaller"),
        )

    def with_input(self, values: Mapping[str, Value]) -> Self:
        """Return the task with another window, whose samples are this one's.

        Args:
            values: of ``window`` and ``stride_in_window``.

        Raises:
            ValueError: no such input setting.
        """
        return self._replaced(values, first_end=self._first_end)

    def with_features(self) -> Self:
        """Return the task with means and slopes of the sensors as input; itself where it has features already."""
        if self.features != "none":
            return self
        half = max(1, self.window // 2)
        return replace(self, features=BASELINE_FEATURES, mean_window=half, first_end=self._first_end)

    def front_end(self, preprocessing: Mapping[str, Any]) -> EngineFrontEnd:
        """Return what makes windows or features of raw rows.

        Args:
            preprocessing: constants of the training engines.
        """
        return EngineFrontEnd.from_notes(preprocessing)

    def raw_inputs(self, val: Split, indices: Indices) -> list[Floats]:
        """Return the rows of windows' cycles, settings and sensors, each of shape (cycles, 24).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        rows = self._training_rows()
        raw = np.hstack([rows.settings, rows.sensors])
        found = []
        for index in indices:
            engine = raw[rows.engine == val.extras["engine"][index]]
            end = int(val.extras["cycle"][index])
            found.append(engine[max(0, end - self.window) : end])
        return found

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mean absolute, squared or Huber error in units of ``rul_cap``: at most about 1 at the start.

        Args:
            kind: one of `losses`.
            outputs: cycles, shape (batch, 1).
            targets: cycles, shape (batch, 1).

        Raises:
            InputError: another kind.
        """
        return number_loss(kind, outputs, targets, self.rul_cap)

    def loss_gradient(self, kind: str, outputs: FloatArray, targets: FloatArray) -> tuple[float, FloatArray]:
        """Return `loss` and its gradient by the outputs, for trainers that do without autograd.

        Args:
            kind: one of `losses`.
            outputs: cycles, shape (batch, 1).
            targets: cycles, shape (batch, 1).
        """
        return number_loss_gradient(kind, outputs, targets, self.rul_cap)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the metrics, in cycles but for the score.

        Args:
            outputs: shape (n, 1).
            split: its targets are capped; ``mae_uncapped`` is against the true RUL.
        """
        predicted = outputs.reshape(-1).astype(np.float64)
        errors = predicted - split.targets.reshape(-1)
        return {
            "mae": float(np.abs(errors).mean()),
            "rmse": float(np.sqrt((errors**2).mean())),
            "mae_uncapped": float(np.abs(predicted - split.extras["uncapped"]).mean()),
            "score": phm08_score(errors),
        }

    def units(self, split: Split) -> NDArray[Any]:
        """Return the engine of each window, shape (n,)."""
        engines: NDArray[Any] = split.extras["engine"]
        return engines

    @contextmanager
    def _files(self) -> Iterator[SubsetFiles]:
        """Yield the three raw files; synthetic ones live as long as the context."""
        if self.data != SYNTHETIC:
            yield SubsetFiles.find(Path(self.data), self.subset)
            return
        with tempfile.TemporaryDirectory(prefix="turbofan-") as folder:
            write_synthetic(Path(folder), self.subset, _SYNTHETIC_SEED)
            yield SubsetFiles.find(Path(folder), self.subset)

    def _training_rows(self) -> Trajectories:
        """Return the training file's rows; synthetic ones are made once a process."""
        if self.data == SYNTHETIC:
            return _synthetic_training_rows(self.subset)
        return read_trajectories(SubsetFiles.find(Path(self.data), self.subset).train)

    @property
    def _described(self) -> tuple[str, ...]:
        """The features' names; none where the network is given the window."""
        return tuple(self.features.split("+")) if self.features != "none" else ()

    @property
    def _first_end(self) -> int:
        return self.first_end or self.window

    def _validation_engines(self, engines: Integers, path: Path) -> Integers:
        """Draw the engines that are held out, at least one and not all, ascending, shape (held out,)."""
        if len(engines) < _FEWEST_ENGINES:
            raise InputError(
                f"{path}: found {len(engines)} engine, expected at least {_FEWEST_ENGINES}: "
                "training and validation need one each"
            )
        count = min(max(round(self.validation_fraction * len(engines)), 1), len(engines) - 1)
        generator = np.random.default_rng(derive_seed(self.split_seed, "turbofan", "split"))
        return np.sort(generator.permutation(np.sort(engines))[:count])

    def _require_windows(self, path: Path, raw: Subset, held_out: Booleans) -> None:
        """Refuse windows that no engine is long enough for: all that is learnt from then is the moment of failure."""
        longest = raw.train.cycle[~held_out].max()
        if longest <= self._first_end:
            key = "window" if self.first_end is None else "first_end"
            raise InputError(
                f"task.{key}: {self._first_end}, but the longest training engine of {path} has {longest} cycles: every "
                "window would end at its failure, with the target 0; take a shorter one"
            )

    def _remarks(self, raw: Subset, train: Split, val: Split, test: Split) -> list[str]:
        """Return what a person should know of the engines."""
        lives = raw.train.cycle[raw.train.last_rows]
        short = int((lives < self._first_end).sum())
        splits = {"train": train, "val": val, "test": test}
        lines = [
            f"{name}: {len(split)} windows; RUL {split.targets.min():g} to {split.targets.max():g}, "
            f"{(split.extras['uncapped'] > self.rul_cap).mean():.0%} over the cap"
            for name, split in splits.items()
        ]
        if not val.targets.any():
            lines.append("val: every target is 0, its engines are too short: whoever predicts 0 is right")
        if short:
            lines.append(f"{short} of {len(lives)} engines are shorter than {self._first_end} cycles: one window each")
        return lines

    def _front_end(self, preprocessing: Preprocessing) -> EngineFrontEnd:
        return EngineFrontEnd(
            preprocessing,
            window=self.window,
            thinning=self.stride_in_window,
            features=self._described,
            mean_window=min(self.mean_window, self.window),
        )

    def _splits(self, raw: Subset, held_out: Booleans, front_end: EngineFrontEnd) -> tuple[Split, Split, Split]:
        """Cut the windows of training, validation and test; ``held_out`` has the shape (training rows,)."""
        train_rul = (raw.train.last - np.arange(len(held_out))).astype(np.float64)
        train_ends = window_ends(raw.train, self._first_end, self.stride)
        val_ends = window_ends(raw.train, self._first_end, 1)
        test_ends = raw.test.last_rows
        kept, val = train_ends[~held_out[train_ends]], val_ends[held_out[val_ends]]
        return (
            self._split(front_end, raw.train, kept, train_rul[kept]),
            self._split(front_end, raw.train, val, train_rul[val]),
            self._split(front_end, raw.test, test_ends, raw.test_rul),
        )

    def _split(self, front_end: EngineFrontEnd, rows: Trajectories, ends: Integers, rul: Floats) -> Split:
        """Return the windows that end at ``ends``; ``rul``: theirs, uncapped; both of shape (windows,)."""
        standardised = front_end.preprocessing.features(rows.settings, rows.sensors)
        return Split(
            inputs=front_end.windows(standardised, rows.first[ends], ends),
            targets=np.minimum(rul, self.rul_cap).astype(np.float32)[:, None],
            extras={
                "engine": rows.engine[ends].astype(np.int32),
                "cycle": rows.cycle[ends].astype(np.int32),
                "uncapped": rul.astype(np.float32),
            },
        )

    def _protocol(self, validation: Integers, train: Split, val: Split, test: Split) -> dict[str, Any]:
        """Return how the numbers come about."""
        synthetic = self.data == SYNTHETIC
        return {
            "dataset": "synthetic run-to-failure data in the format of C-MAPSS" if synthetic else "NASA C-MAPSS",
            "source": "synthetic" if synthetic else "real",
            "subset": self.subset,
            "window": self.window,
            "rul_cap": self.rul_cap,
            "validation_fraction": self.validation_fraction,
            "validation_engines": validation.tolist(),
            "split_seed": self.split_seed,
            "stride": self.stride,
            "stride_in_window": self.stride_in_window,
            "first_end": self._first_end,
            **({"features": self.features, "mean_window": self.mean_window} if self._described else {}),
            "windows": {"train": len(train), "val": len(val), "test": len(test)},
            "val": "all windows of the validation engines from the one on that ends at cycle first_end",
            "test": "the last window of each test engine",
            "cap": "at rul_cap in every split, test included; mae_uncapped is against the true RUL",
            "score": "PHM08 score, mean per sample instead of the sum, on capped RUL",
        }


@cache
def _synthetic_training_rows(subset: SubsetName) -> Trajectories:
    with Turbofan(SYNTHETIC, subset)._files() as files:
        return read_trajectories(files.train)


def phm08_score(errors: Floats) -> float:
    """Return the score of the PHM 2008 challenge (Saxena et al. 2008), its mean per sample.

    ``exp(-e / 13) - 1`` for early predictions (e < 0), ``exp(e / 10) - 1`` for late ones. Exponents are
    bounded, so that a diverged network's score is huge but finite.

    Args:
        errors: predicted minus true RUL in cycles, shape (n,).

    >>> round(phm08_score(np.array([-13.0, 10.0])), 3)
    1.718
    """
    exponents = np.where(errors < 0, -errors / 13.0, errors / 10.0)
    return float(np.expm1(np.minimum(exponents, _LARGEST_EXPONENT)).mean())
