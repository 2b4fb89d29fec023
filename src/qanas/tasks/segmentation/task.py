"""The task: tell for every pixel of a street scene what it belongs to."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.candidate import Value
from qanas.core.errors import InputError, unknown
from qanas.core.measures import Direction
from qanas.search_space.settings import Choice
from qanas.tasks.base import Arrays, FloatArray, Split, Task, TaskData
from qanas.tasks.classification import ClassWeights, balanced_weights, require_weights
from qanas.tasks.pictures import Side, Size, channel_statistics, sides_searched, standardise
from qanas.tasks.segmentation.files import (
    CAMVID_CLASSES,
    CAMVID_VOID,
    VOID,
    Frames,
    Labels,
    Pairs,
    cityscapes_labels,
    digest,
    find_cityscapes_pairs,
    find_pairs,
    numbered_labels,
    read_frames,
)
from qanas.tasks.segmentation.images import (
    Augmentation,
    pixel_features,
)
from qanas.tasks.segmentation.losses import LossName, pixel_loss
from qanas.tasks.segmentation.metrics import Scores, examples, score, score_draws
from qanas.tasks.segmentation.notes import (
    feature_notes,
    preprocessing_notes,
    remarks,
    scoring_notes,
    source_notes,
    two_ways,
)
from qanas.tasks.segmentation.synthetic import SYNTHETIC, write_synthetic

Dataset = Literal["camvid", "cityscapes", "folders"]
Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0.1, le=10)]

OWN_VOID = -1
"""The setting ``void_id`` that stands for the data set's own."""

_SYNTHETIC_SEED = 0
_FOLDERS_VOID = 255


_TRAINING_PIXELS: "dict[Segmentation, tuple[int, ...]]" = {}
"""Of each task that this process has loaded: training pixels by class, from which balanced weights follow."""


@dataclass(frozen=True)
class Segmentation(Task):
    """Semantic segmentation: a class for every pixel.

    Attributes:
        data: the folder of the data set, or "synthetic" for generated scenes in CamVid's layout and classes.
        dataset: "camvid" and "folders" have ``train/``, ``trainannot/``, ``val/``, ... with an image and a .png mask
            of equal names; "cityscapes" has ``leftImg8bit/`` and ``gtFine/``.
        height: pixels that the network sees; images are resized.
        width: likewise.
        classes: their names in the order of their ids; none are CamVid's. Cityscapes has its own.
        void_id: the id of pixels that count for nothing; -1 is 11 in CamVid and 255 in folders. Cityscapes has
            its own.
        min_scale: smallest random scale in training; below 1 there is void around the image.
        max_scale: largest one; a random part of the image is seen.
        mirror: share of the training samples that are mirrored.
        brightness: largest random offset of all colours in training, in standard deviations.
        contrast: largest random deviation of the contrast from 1 in training.
        saturation: largest random deviation of the saturation from 1 in training.
        scored_height: pixels of the masks of val and test; outputs of another size are resized to theirs (see
            `qanas.tasks.segmentation.metrics.at_size`) before they are scored. By default ``height``.
        scored_width: likewise; by default ``width``.
        class_weights: how much a pixel of each class counts in the loss, in the order of the classes; "balanced":
            the number of training pixels over that of classes times those of the class, so that rare classes count
            as much as common ones in all. By default all pixels count alike.
        training_loss: what networks are trained with, see `qanas.tasks.segmentation.losses`; by default
            cross-entropy, and where ``training`` is searched the hard one, too.
        features: "none" gives the network the colours; "pixels" has the colours around each pixel and its place
            besides, see `qanas.tasks.segmentation.images.pixel_features`: baselines look at nothing else.

    The input that can be searched is ``height`` and ``width``: this task's own, half, three and five quarters of it.
    Whatever the candidate's, masks of val and test have this task's own size; training masks have the candidate's.
    """

    data: str
    dataset: Dataset = "camvid"
    height: Side = 96
    width: Side = 128
    classes: Annotated[tuple[str, ...], Field(strict=False)] = ()
    void_id: Annotated[int, Field(ge=OWN_VOID, le=255)] = OWN_VOID
    min_scale: Scale = 0.75
    max_scale: Scale = 1.5
    mirror: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    scored_height: Side | None = None
    scored_width: Side | None = None
    class_weights: ClassWeights = None
    training_loss: LossName | None = None
    features: Literal["none", "pixels"] = "none"

    parity_tolerance: ClassVar[Mapping[str, float]] = {"miou": 0.01}
    unit: ClassVar[str] = "image"

    @property
    def losses(self) -> tuple[LossName, ...]:  # type: ignore[override]  # of the settings, where others have a constant
        """The one that is asked for; else the two of which the first is the default."""
        return (self.training_loss,) if self.training_loss else ("cross_entropy", "hard_cross_entropy")

    @property
    def metrics(self) -> Mapping[str, Direction]:
        """The mean IoU, pixel accuracy and cross-entropy, and ``iou_<class>`` of every class."""
        ious = {f"iou_{name}": "maximize" for name in self.labels.names}
        means: dict[str, Direction] = {"miou": "maximize", "pixel_accuracy": "maximize", "cross_entropy": "minimize"}
        return {**means, **ious}  # type: ignore[dict-item]  # mypy widens the comprehension's values

    @property
    def labels(self) -> Labels:
        """What the masks' numbers mean.

        Raises:
            InputError: settings that don't fit together.
        """
        if self.dataset == "cityscapes":
            if self.classes or self.void_id != OWN_VOID:
                raise InputError("task.dataset: 'cityscapes' has its own classes; leave task.classes and void_id out")
            return cityscapes_labels()
        if self.dataset == "folders" and not self.classes:
            raise InputError("task.classes: 'folders' has no classes of its own; name them in the order of their ids")
        own_void = CAMVID_VOID if not self.classes else _FOLDERS_VOID
        return numbered_labels(self.classes or CAMVID_CLASSES, self.void_id if self.void_id >= 0 else own_void)

    def fingerprint(self) -> str:
        """Return the SHA-256 over the names and bytes of all images and masks.

        Raises:
            InputError: a file is missing, or the settings don't fit together.
        """
        self._require_settings()
        with self._pairs() as (folder, pairs):
            return digest(folder, pairs)

    def load(self) -> TaskData:
        """Read every image and mask once, check and resize them, and standardise by the training images' colours.

        Inputs have shape (n, 3, height, width), with ``features`` (n, 8, height, width), targets (n, height, width):
        classes, or `VOID`, in 8 bits; those of val and test (n, scored height, scored width). The extra
        ``image`` is the file's name.

        Raises:
            InputError: files are missing or damaged, or don't fit together.
        """
        self._require_settings()
        with self._pairs() as (folder, pairs):
            sizes = {split: self.size if split == "train" else self.scored_size for split in pairs}
            frames = {split: read_frames(pairs[split], self.labels, self.size, sizes[split]) for split in pairs}
            frames, binary = self._with_binary_masks(frames)
            self._require_usable(folder, frames)
        means, deviations = channel_statistics(frames["train"].images)
        preprocessing = preprocessing_notes(self.size, self.labels.names, means, deviations, frames["train"])
        if self.features != "none":
            preprocessing |= feature_notes()
        splits = {split: self._split(read, means, deviations) for split, read in frames.items()}
        counts = np.bincount(frames["train"].masks.reshape(-1), minlength=VOID + 1)[: len(self.labels.names)]
        _TRAINING_PIXELS[self] = tuple(map(int, counts))
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=len(self.labels.names),
            preprocessing=preprocessing,
            protocol=self._protocol(splits),
            remarks=(*binary, *remarks(frames, self.labels.names)),
        )

    def input_settings(self) -> tuple[Choice, Choice]:
        """Return ``height`` and ``width``."""
        return (
            Choice("height", "input", self.height, options=sides_searched(self.height), finer="larger"),
            Choice("width", "input", self.width, options=sides_searched(self.width), finer="larger"),
        )

    def with_input(self, values: Mapping[str, Value]) -> Self:
        """Return the task with images of another size, scored on this one's masks.

        Args:
            values: of ``height`` and ``width``.

        Raises:
            ValueError: no such input setting.
        """
        height, width = self.scored_size
        return self._replaced(values, scored_height=height, scored_width=width)

    def with_features(self) -> Self:
        """Return the task with every pixel's colours, surroundings and place as input, seen as they are in training.

        Whatever is done to an image's geometry, each pixel keeps these and its class.
        """
        unmoved = replace(self, min_scale=1.0, max_scale=1.0, mirror=0.0)
        return replace(unmoved, features="pixels", brightness=0.0, contrast=0.0, saturation=0.0)

    def loss(self, kind: str, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return a batch's mean loss, a scalar; void pixels don't count, classes count by their weights.

        Args:
            kind: one of `losses`.
            outputs: logits, shape (batch, classes, height, width).
            targets: classes or `VOID`, shape (batch, height, width).

        Raises:
            InputError: another kind.
        """
        found = next((name for name in self.losses if name == kind), None)
        if found is None:
            raise InputError(unknown("loss", kind, self.losses))
        weights = self._weights()
        return pixel_loss(found, outputs, targets, None if weights is None else torch.tensor(weights).to(outputs))

    def _weights(self) -> tuple[float, ...] | None:
        """Return the classes' weights; balanced ones follow from the training masks."""
        if self.class_weights is None or isinstance(self.class_weights, tuple):
            return self.class_weights
        if self not in _TRAINING_PIXELS:
            self.load()
        return balanced_weights(_TRAINING_PIXELS[self])

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, images (batch, 3, h, w) and classes (batch, h, w), randomly placed and coloured."""
        return self._augmentation(inputs, targets, generator)

    def evaluate(self, outputs: FloatArray, split: Split) -> dict[str, float]:
        """Return the metrics over all pixels of the split that aren't void.

        A class that neither occurs nor is predicted is left out of ``miou``. The IoU of one that doesn't occur is not
        defined: NaN, whatever was predicted.

        Args:
            outputs: logits, shape (n, classes, rows, columns); see `qanas.tasks.segmentation.metrics.at_size`.
            split: its masks.
        """
        return self._metrics(score(outputs, split.targets, len(self.labels.names)))

    def evaluate_draws(
        self, outputs: FloatArray, split: Split, unit_of: NDArray[np.intp], draws: NDArray[np.intp]
    ) -> dict[str, NDArray[np.float64]]:
        """Return every metric over images drawn with replacement, each of shape (draws,)."""
        drawn = score_draws(outputs, split.targets, len(self.labels.names), unit_of, draws)
        found = [None if scores is None else self._metrics(scores) for scores in drawn]
        return {name: np.array([np.nan if one is None else one[name] for one in found]) for name in self.metrics}

    def confusion(self, outputs: FloatArray, split: Split) -> NDArray[np.int64]:
        """Return pixels by true and predicted class, shape (classes, classes), of logits (n, classes, h, w)."""
        return score(outputs, split.targets, len(self.labels.names)).confusion

    def _metrics(self, scores: Scores) -> dict[str, float]:
        """Return the metrics of some pixels."""
        ious = np.where(scores.confusion.sum(axis=1) > 0, scores.ious, np.nan)
        return {
            "miou": scores.mean_iou,
            "pixel_accuracy": scores.pixel_accuracy,
            "cross_entropy": scores.cross_entropy,
            **{f"iou_{name}": float(iou) for name, iou in zip(self.labels.names, ious, strict=True)},
        }

    def predictions(self, outputs: FloatArray, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return a few images with true and predicted classes, as `examples` has them, of logits (n, classes, h, w)."""
        return examples(outputs, split, preprocessing)

    @property
    def size(self) -> Size:
        """Height and width that the network sees."""
        return self.height, self.width

    @property
    def scored_size(self) -> Size:
        """Height and width of the masks of val and test."""
        return self.scored_height or self.height, self.scored_width or self.width

    @property
    def _augmentation(self) -> Augmentation:
        scales = self.min_scale, self.max_scale
        return Augmentation(scales, self.mirror, self.brightness, self.contrast, self.saturation)

    def _protocol(self, splits: Mapping[str, Split]) -> dict[str, Any]:
        """Return how the numbers come about."""
        return {
            **source_notes(self.dataset, self.data == SYNTHETIC),
            **scoring_notes((self.size, self.scored_size), self.labels.names, splits, self._augmentation),
            **({"training_loss": self.training_loss} if self.training_loss else {}),
            **({"class_weights": list(self._weights() or ())} if self.class_weights else {}),
        }

    def _require_settings(self) -> None:
        """Refuse settings that don't fit together."""
        names = self.labels.names
        require_weights(self.class_weights, names)
        if self.min_scale > self.max_scale:
            raise InputError(f"task.min_scale: {self.min_scale} is more than task.max_scale, {self.max_scale}")
        if self.data == SYNTHETIC and (self.dataset != "camvid" or self.classes or self.void_id != OWN_VOID):
            raise InputError(
                "task.data: 'synthetic' has CamVid's layout and classes; leave task.dataset, classes and void_id out"
            )

    @contextmanager
    def _pairs(self) -> Iterator[tuple[Path, Pairs]]:
        """Yield the data set's folder and its files; synthetic ones live as long as the context."""
        if self.data != SYNTHETIC:
            folder = Path(self.data)
            yield folder, find_cityscapes_pairs(folder) if self.dataset == "cityscapes" else find_pairs(folder)
            return
        with tempfile.TemporaryDirectory(prefix="segmentation-") as name:
            write_synthetic(Path(name), _SYNTHETIC_SEED)
            yield Path(name), find_pairs(Path(name))

    def _with_binary_masks(self, frames: dict[str, Frames]) -> tuple[dict[str, Frames], tuple[str, ...]]:
        """Return masks of 0 and 255 alone as tools save two classes: 255 is the second one there, not void.

        Only where nobody said what is void; that it was done is the second thing returned.
        """
        labels = self.labels
        guessed = self.dataset == "folders" and self.void_id == OWN_VOID and len(labels.names) == 2  # noqa: PLR2004
        found = {int(label) for read in frames.values() for label in np.unique(read.masks)}
        if guessed and found == {0, 1, VOID}:
            return frames, two_ways(frames, labels.names[1])
        if not guessed or found != {0, VOID} or not all((read.masks == 0).any() for read in frames.values()):
            return frames, ()
        taken = {
            split: replace(read, masks=np.where(read.masks == VOID, 1, 0).astype(np.uint8))
            for split, read in frames.items()
        }
        said = f"masks hold 0 and 255 alone: 255 is read as '{labels.names[1]}'; task.void_id = 255 would make it void"
        return taken, (said,)

    def _require_usable(self, folder: Path, frames: Mapping[str, Frames]) -> None:
        """Refuse what nothing can be learnt from."""
        for split, read in frames.items():
            if (read.masks == VOID).all():
                raise InputError(f"{folder}: every pixel of the {split} masks is void: label some")
            if read.deep != frames["train"].deep:
                raise InputError(
                    f"{folder}: images of train and {split} have different kinds of values; save all alike"
                )
        found = np.unique(frames["train"].masks)
        found = found[found != VOID]
        if len(found) == 1:
            only = self.labels.names[found[0]]
            raise InputError(
                f"{folder}: every pixel of the training masks that isn't void is '{only}': there is nothing to tell "
                "apart; give the other classes' pixels their ids, and see task.void_id"
            )

    def _split(self, frames: Frames, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> Split:
        inputs = standardise(frames.images, means, deviations)
        if self.features == "pixels":
            inputs = pixel_features(inputs)
        return Split(inputs, frames.masks, {"image": frames.names})
