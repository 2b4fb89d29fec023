"""The task: tell for every pixel of a street scene what it belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
from qanas.tasks.base import Arrays, Task, TaskData
from qanas.tasks.classification import ClassWeights, balanced_weights, require_weights
from qanas.tasks.frames import Camera, Frame, FrameSize, Pixels
from qanas.tasks.picture_front_end import PictureFrontEnd
from qanas.tasks.pictures import Side, Size, channel_statistics, sides_searched, standardise
from qanas.tasks.remembered import Remembered
from qanas.tasks.samples import FloatArray, Indices, Split
from qanas.tasks.segmentation.back_end import ClassesBackEnd
from qanas.tasks.segmentation.files import OWN_VOID, VOID, Dataset, Labels, digest, labels_of
from qanas.tasks.segmentation.images import Augmentation, pixel_features
from qanas.tasks.segmentation.layouts import Division
from qanas.tasks.segmentation.losses import LossName, pixel_loss
from qanas.tasks.segmentation.metrics import Scores, examples, score, score_draws
from qanas.tasks.segmentation.notes import (
    feature_notes,
    preprocessing_notes,
    remarks,
    scoring_notes,
    source_notes,
)
from qanas.tasks.segmentation.reader import Read, read_pairs, require_usable, with_binary_masks
from qanas.tasks.segmentation.synthetic import SYNTHETIC, data_set

Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=0.5)]
Scale = Annotated[float, Field(ge=0.1, le=10)]


_FRAMES = Remembered[Frame]()
_TRAINING_PIXELS = Remembered[tuple[int, ...]]()
"""By class: balanced weights follow from them."""


@dataclass(frozen=True)
class Segmentation(Task):
    """Semantic segmentation: a class for every pixel.

    Attributes:
        data: the folder of the data set, or "synthetic" for generated scenes in CamVid's layout and classes.
        dataset: "camvid" and "folders" have ``train/``, ``trainannot/``, ``val/``, ... with an image and a .png mask
            of equal names; "folders" may have ``images/`` and ``masks/`` as well, see
            `qanas.tasks.segmentation.layouts.find_folders`; "cityscapes" has ``leftImg8bit/`` and ``gtFine/``.
        height: pixels that the network sees; images are resized.
        width: likewise.
        frame: height and width of the frames that the device's camera gives. Images are brought to it before all else,
            by their largest part about the middle with its proportions, and masks are of the same part. By default the
            images' own.
        frame_pixels: "bytes": red, green and blue of a byte each, grey where all images are; "rgb565": of 5, 6 and 5
            bits, which images are rounded to.
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
        val_fraction: share of the images of "folders" that is validated on, where no folder tells splits.
        test_fraction: share that is tested on, likewise.
        split_seed: which ones.
        group_pattern: a regular expression whose one group (...) tells from an image's name what it belongs to, such as
            a drive, which stays in one split and is one unit of the intervals.

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
    frame: FrameSize | None = None
    frame_pixels: Pixels = "bytes"
    val_fraction: Fraction = 0.15
    test_fraction: Fraction = 0.15
    split_seed: Annotated[int, Field(ge=0)] = 0
    group_pattern: str | None = None

    parity_tolerance: ClassVar[Mapping[str, float]] = {"miou": 0.01}

    @property
    def unit(self) -> str:  # type: ignore[override]  # of the settings, where others have a constant
        """An image, or what a group of them belongs to."""
        return "group" if self.group_pattern else "image"

    @property
    def losses(self) -> tuple[LossName, ...]:  # type: ignore[override]  # likewise
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
        return labels_of(self.dataset, self.classes, self.void_id)

    def fingerprint(self) -> str:
        """Return the SHA-256 over the names and bytes of all images and masks.

        Raises:
            InputError: a file is missing, or the settings don't fit together.
        """
        self._require_settings()
        with data_set(self.data, self.dataset, self._division) as (folder, pairs, _):
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
        names = self.labels.names
        with data_set(self.data, self.dataset, self._division) as (folder, pairs, dealt):
            sizes = {split: self.size if split == "train" else self.scored_size for split in pairs}
            found = {
                split: read_pairs(pairs[split], self.labels, self.size, sizes[split], self._camera) for split in pairs
            }
            found, binary = with_binary_masks(found, names[1]) if self._may_be_binary else (found, ())
            require_usable(folder, found, names)
        means, deviations = channel_statistics(found["train"].images)
        cut = self.frame is not None
        preprocessing = preprocessing_notes(self.size, names, means, deviations, found["train"], cut=cut)
        frame, told = self._framed(found)
        if self.features != "none":
            preprocessing |= feature_notes()
        splits = {split: self._split(read, means, deviations) for split, read in found.items()}
        counts = np.bincount(found["train"].masks.reshape(-1), minlength=VOID + 1)[: len(names)]
        _TRAINING_PIXELS.keep(self, tuple(map(int, counts)))
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=len(names),
            preprocessing=preprocessing | frame,
            protocol=self._protocol(splits),
            remarks=(*dealt, *binary, *remarks(found, names), *told),
        )

    def input_settings(self) -> tuple[Choice, Choice]:
        """Return ``height`` and ``width``."""
        return (
            Choice("height", "input", self.height, options=sides_searched(self.height), finer="larger"),
            Choice("width", "input", self.width, options=sides_searched(self.width), finer="larger"),
        )

    def with_input(self, values: Mapping[str, Value]) -> Self:
        """Return the task with images of another size, scored on this one's masks and with the same weights of classes.

        Args:
            values: of ``height`` and ``width``.

        Raises:
            ValueError: no such input setting.
        """
        if not values:
            return self
        height, width = self.scored_size
        return self._replaced(values, scored_height=height, scored_width=width, class_weights=self._weights())

    def with_features(self) -> Self:
        """Return the task with every pixel's colours, surroundings and place as input, seen as they are in training.

        Whatever is done to an image's geometry, each pixel keeps these and its class.
        """
        unmoved = replace(self, min_scale=1.0, max_scale=1.0, mirror=0.0)
        return replace(unmoved, features="pixels", brightness=0.0, contrast=0.0, saturation=0.0)

    def front_end(self, preprocessing: Mapping[str, Any]) -> PictureFrontEnd | None:
        """Return what makes an input of a frame; None where images differ in size, are deep, or features are made.

        Args:
            preprocessing: constants of the training images, and the frame.
        """
        return PictureFrontEnd.from_notes(preprocessing) if self.features == "none" else None

    def raw_inputs(self, val: Split, indices: Indices) -> list[NDArray[np.uint8]]:
        """Return frames, each of shape (height, bytes of a line).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        del val
        frame = _FRAMES.of(self._framing, self.load)
        with data_set(self.data, self.dataset, self._division) as (_, pairs, _):
            return [self._camera.raw(pairs["val"][int(index)].image, frame) for index in indices]

    def back_end(
        self, preprocessing: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
    ) -> ClassesBackEnd | None:
        """Return what tells the class of each pixel; None where there is no single output of a logit a class.

        Args:
            preprocessing: with the classes.
            shapes: of a sample's outputs by name, each (classes, h, w).
        """
        classes, found = len(preprocessing["classes"]), list(shapes.values())
        if len(found) != 1 or len(found[0]) != 3 or found[0][0] != classes:  # noqa: PLR2004 - as said
            return None
        return ClassesBackEnd(classes, (found[0][1], found[0][2]))

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
        return balanced_weights(_TRAINING_PIXELS.of(self, self.load))

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, images (batch, 3, h, w) and classes (batch, h, w), randomly placed and coloured."""
        return self._augmentation(inputs, targets, generator)

    def units(self, split: Split) -> NDArray[Any]:
        """Return what each image belongs to, shape (n,); each is by itself without a `group_pattern`."""
        if self.group_pattern is None:
            return super().units(split)
        return np.array([self._division.group_of(str(name)) for name in split.extras["image"]])

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
    def _division(self) -> Division:
        return Division(self.val_fraction, self.test_fraction, self.split_seed, self.group_pattern)

    @property
    def _augmentation(self) -> Augmentation:
        scales = self.min_scale, self.max_scale
        return Augmentation(scales, self.mirror, self.brightness, self.contrast, self.saturation)

    @property
    def _camera(self) -> Camera:
        return Camera(self.frame, self.frame_pixels)

    @property
    def _framing(self) -> tuple[object, ...]:
        """What frames follow from."""
        return (self.data, self.dataset, self._division, self.frame, self.frame_pixels)

    def _framed(self, found: Mapping[str, Read]) -> tuple[dict[str, Any], list[str]]:
        """Return the frame's notes, where all images are of one size and of bytes, else why there are none."""
        if found["train"].deep:
            return {}, []
        sizes = frozenset[Size]().union(*(read.frames for read in found.values()))
        frame, told = self._camera.framed(sizes, grey=all(read.grey for read in found.values()))
        if frame is None:
            return {}, told
        _FRAMES.keep(self._framing, frame)
        return {"frame": frame.notes}, []

    @property
    def _may_be_binary(self) -> bool:
        """Whether 255 may be the second of two classes: nobody said what is void."""
        return self.dataset == "folders" and self.void_id == OWN_VOID and len(self.labels.names) == 2  # noqa: PLR2004

    def _protocol(self, splits: Mapping[str, Split]) -> dict[str, Any]:
        """Return how the numbers come about."""
        return {
            **source_notes(self.dataset, self.data == SYNTHETIC, self._division),
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

    def _split(self, read: Read, means: NDArray[np.float64], deviations: NDArray[np.float64]) -> Split:
        inputs = standardise(read.images, means, deviations)
        if self.features == "pixels":
            inputs = pixel_features(inputs)
        return Split(inputs, read.masks, {"image": read.names})
