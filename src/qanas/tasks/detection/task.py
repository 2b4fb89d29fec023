"""The task: tell which objects are in a picture, and where."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated as Checked
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from qanas.core.errors import InputError, unknown
from qanas.core.even_spread import evenly_spread
from qanas.core.maps import fitting_side
from qanas.core.measures import Direction
from qanas.search_space.settings import Choice
from qanas.tasks.base import Arrays, Outputs, TaskData
from qanas.tasks.detection.back_end import BoxesBackEnd
from qanas.tasks.detection.boxes import COLUMNS, OBJECT, Fitting, target_rows
from qanas.tasks.detection.constant import mean_boxes
from qanas.tasks.detection.decoding import BOX, OBJECTNESS, Decoder, Found, parts_of
from qanas.tasks.detection.examples import shown_boxes
from qanas.tasks.detection.images import Augmentation, Look, as_seen, in_shares
from qanas.tasks.detection.losses import detection_loss
from qanas.tasks.detection.metrics import METRICS, Scorer
from qanas.tasks.detection.reader import Annotated, find_pictures
from qanas.tasks.detection.synthetic import write_scenes
from qanas.tasks.frames import CUT, Camera, Frame, FrameSize, Pixels
from qanas.tasks.labelled_files import SYNTHETIC, Divided, LabelledFiles
from qanas.tasks.labels import grouped
from qanas.tasks.picture_front_end import PictureFrontEnd
from qanas.tasks.pictures import IMAGE_SUFFIXES, Side, Size, channel_statistics, print_of_picture
from qanas.tasks.samples import DecodedSplit, FloatArray, Indices, Split

Share = Checked[float, Field(ge=0, le=1)]
Scale = Checked[float, Field(ge=0.1, le=10)]
Aspect = Checked[float, Field(ge=0.1, le=10)]

SEARCHED_WIDTHS = (0.6875, 0.75, 0.8, 0.9, 1.0)
"""Widths that are searched where none are named, as shares of the task's own: 220 to 320 of 320."""

SEARCHED_ASPECTS = (0.5625, 0.6, 0.75, 0.8, 1.0)

LOOKED_AT = 256
"""Training pictures, spread evenly over all, whose colours inputs are standardised by."""

MOST_KEPT = 64 << 20
"""Bytes of all inputs up to which they are kept; more are decoded whenever they are asked for."""

_SYNTHETIC_SEED = 0


@dataclass(frozen=True)
class Detection(LabelledFiles):
    """Find objects in pictures: a box, a class and a score for each.

    Attributes:
        classes: names of those that are found, in this order; none: all that boxes have.
        width: pixels that the network sees; the nearest that fits (`qanas.core.maps`) is taken.
        aspect: height of what the network sees, as a share of its width; likewise.
        fit: "stretch": a picture fills the input, whatever its proportions; "letterbox": it keeps them, and around it
            are the mean colours.
        frame: height and width of the frames that the device's camera gives. Pictures are brought to it before all
            else, by their largest part about the middle with its proportions, and so are their boxes. By default the
            pictures' own.
        frame_pixels: "bytes": red, green and blue of a byte each; "rgb565": of 5, 6 and 5 bits, which pictures are
            rounded to.
        widths: that are searched; none: shares of ``width``, 220 to 320 of 320.
        aspects: that are searched.
        min_scale: smallest random scale in training; below 1 there is the mean colour around the picture.
        max_scale: largest one; a random part of the picture is seen, with what is left of its boxes.
        mirror: share of the training samples that are mirrored.
        brightness: largest random offset of all colours in training, in standard deviations.
        contrast: largest random deviation of the contrast from 1 in training.
        saturation: largest random deviation of the saturation from 1 in training.
        mosaic: share of the training samples that become four of their batch in one, before all other changes.

    The input that can be searched is ``width`` and ``aspect``. Boxes are scored in pixels of the pictures, whatever
    the input is.
    """

    classes: Checked[tuple[str, ...], Field(strict=False)] = ()
    width: Side = 320
    aspect: Aspect = 0.8
    fit: Fitting = "stretch"
    frame: FrameSize | None = None
    frame_pixels: Pixels = "bytes"
    widths: Checked[tuple[Side, ...], Field(strict=False)] = ()
    aspects: Checked[tuple[Aspect, ...], Field(strict=False)] = SEARCHED_ASPECTS
    min_scale: Scale = 0.8
    max_scale: Scale = 1.33
    mirror: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    mosaic: Share = 0.0

    what: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = IMAGE_SUFFIXES
    losses: ClassVar[tuple[str, ...]] = ("fastestdet",)
    metrics: ClassVar[Mapping[str, Direction]] = dict.fromkeys(METRICS, "maximize")
    parity_tolerance: ClassVar[Mapping[str, float]] = {"ap50": 0.001, "ap": 0.001}

    def write_synthetic(self, folder: Path) -> None:
        """Write generated pictures of figures."""
        write_scenes(folder, _SYNTHETIC_SEED)

    def print_of(self, path: Path) -> FloatArray:
        """Return what is alike in copies of a file, shape (192,)."""
        return print_of_picture(path)

    def found_in(self, folder: Path) -> tuple[Sequence[Annotated], list[str]]:
        """Return the pictures of a folder with their boxes, and remarks.

        Raises:
            InputError: a box or a picture is wrong.
        """
        if self.labels is not None or self.group is not None:
            key = "labels" if self.labels is not None else "group"
            raise InputError(f"task.{key}: boxes have no table of labels; leave the key out, see task.group_pattern")
        pictures, _, remarks = find_pictures(folder, self.classes)
        return grouped(pictures, self._wanted), remarks

    def load(self) -> TaskData:
        """Find the pictures, check their boxes, and look at the colours of some.

        Inputs have shape (n, 3, height, width), targets (n, rows, 7), see `qanas.tasks.detection.boxes`. Extras are
        ``file`` and ``group``, each of shape (n,).

        Raises:
            InputError: files are missing or damaged, or boxes or settings don't fit.
        """
        if self.min_scale > self.max_scale:
            raise InputError(f"task.min_scale: {self.min_scale} is more than task.max_scale, {self.max_scale}")
        with self.divided() as found:
            samples = self._seen(found)
            everything = [sample for own in samples.values() for sample in own]
            classes = self.classes or tuple(sorted({box.label for sample in everything for box in sample.boxes}))
            rows = 1 + max(len(sample.boxes) for sample in everything)
            _require_objects(samples, found)
            look, deep = self._standardising(samples["train"])
            frame, told = (None, []) if deep else self._framed(samples)
            kept = len(everything) * 12 * look.size[0] * look.size[1] <= MOST_KEPT or self.data == SYNTHETIC
            targets = partial(_targets_of, classes, rows)
            splits = {}
            for name, own in samples.items():
                split = DecodedSplit(own, partial(_input_of, look), targets, found.extras(name))
                splits[name] = Split(split.inputs, split.targets, split.extras) if kept else split
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=5 + (len(classes) if len(classes) > 1 else 0),
            preprocessing=self._preprocessing(look, classes) | ({} if frame is None else {"frame": frame.notes}),
            protocol=self._protocol(found, samples, classes),
            remarks=(*_counted(samples, classes), *found.remarks, *told),
        )

    @property
    def size(self) -> Size:
        """Height and width that the network sees."""
        width = fitting_side(self.width)
        return fitting_side(round(self.width * self.aspect)), width

    def input_settings(self) -> tuple[Choice, ...]:
        """Return ``width`` and ``aspect``."""
        widths = self.widths or tuple(fitting_side(round(share * self.width)) for share in SEARCHED_WIDTHS)
        return (
            Choice("width", "input", self.width, options=tuple(sorted({*widths, self.width})), finer="larger"),
            Choice("aspect", "input", self.aspect, options=tuple(sorted({*self.aspects, self.aspect}))),
        )

    def loss(self, kind: str, outputs: Any, targets: Tensor) -> Tensor:  # noqa: ANN401 - a tensor, or such by name
        """Return a batch's loss, a scalar, see `qanas.tasks.detection.losses`.

        Args:
            kind: one of `losses`.
            outputs: see `qanas.tasks.detection.decoding.parts_of`.
            targets: shape (batch, rows, 7).
        """
        if kind not in self.losses:
            raise InputError(unknown("loss", kind, self.losses))
        parts = parts_of(outputs, self._classes_in(outputs))
        return detection_loss(parts, in_shares(targets.to(torch.float32), self.size, self.fit))

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, pictures (batch, 3, h, w) and boxes (batch, rows, 7), placed and coloured anew."""
        return self._augmentation(inputs, in_shares(targets, self.size, self.fit), generator)

    def evaluate(self, outputs: Outputs, split: Split) -> dict[str, float]:
        """Return the metrics, see `qanas.tasks.detection.metrics`; what no object is there for is NaN.

        Args:
            outputs: see `qanas.tasks.detection.decoding.parts_of`.
            split: the samples.
        """
        return self._scorer(outputs, split).metrics()

    def evaluate_draws(
        self, outputs: Outputs, split: Split, unit_of: NDArray[np.intp], draws: NDArray[np.intp]
    ) -> dict[str, NDArray[np.float64]]:
        """Return every metric over pictures drawn with replacement, each of shape (draws,)."""
        scorer = self._scorer(outputs, split)
        found = [scorer.metrics(np.bincount(draw, minlength=draws.shape[1])[unit_of]) for draw in draws]
        return {name: np.array([metrics[name] for metrics in found]) for name in METRICS}

    def _scorer(self, outputs: Outputs, split: Split) -> Scorer:
        targets = np.asarray(split.targets)
        return Scorer(self._answers(outputs, split), targets, self._classes_in(outputs))

    def front_end(self, preprocessing: Mapping[str, Any]) -> PictureFrontEnd | None:
        """Return what makes an input of a frame; None where pictures differ in size, or have deep values.

        Args:
            preprocessing: constants of the training pictures, and the frame.
        """
        whole = PictureFrontEnd.from_notes(preprocessing)
        if whole is None:
            return None
        look = Look(whole.size, preprocessing["fit"])
        return replace(whole, inner=look.inner((whole.frame.height, whole.frame.width)))

    def raw_inputs(self, val: Split, indices: Indices) -> list[NDArray[np.uint8]]:
        """Return frames, each of shape (height, bytes of a line).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        del val
        with self.divided() as found:
            samples = self._seen(found)
            frame, told = self._framed(samples)
            if frame is None:
                raise InputError(f"task.data: {told[0]}")
            return [self._camera.raw(samples["val"][int(index)].path, frame) for index in indices]

    def back_end(self, preprocessing: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> BoxesBackEnd | None:
        """Return what makes boxes of the outputs; None where they are not apart.

        Args:
            preprocessing: with the classes.
            shapes: of a sample's outputs by name, each (channels, h, w).
        """
        if OBJECTNESS not in shapes or BOX not in shapes:
            return None
        rows, columns = shapes[OBJECTNESS][1:]
        return BoxesBackEnd(Decoder(self.size, len(preprocessing["classes"]), self.fit), (rows, columns))

    def constant_outputs(self, data: TaskData, shapes: Mapping[str, tuple[int, ...]]) -> Outputs | None:
        """Return the answer of someone who hasn't looked: boxes of the usual size where objects usually are.

        Args:
            data: as the task loads it.
            shapes: of a sample's outputs by name, each (channels, h, w).
        """
        if len(shapes) == 1:
            ((_, shape),) = shapes.items()
            single = mean_boxes(data.train.targets, self.size, self.fit, shape)
            return np.concatenate(list(single.values()))
        shape = (data.output_size, *next(iter(shapes.values()))[1:])
        return mean_boxes(data.train.targets, self.size, self.fit, shape)

    def predictions(self, outputs: Outputs, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return a few pictures with true and predicted boxes, as `shown_boxes` has them."""
        return shown_boxes(self._answers(outputs, split), split, preprocessing)

    def float_predictions(self, outputs: Outputs, split: Split, preprocessing: Mapping[str, Any]) -> Arrays:
        """Return the FP32 network's boxes on the same pictures."""
        return {"box_float": shown_boxes(self._answers(outputs, split), split, preprocessing)["box_found"]}

    def _answers(self, outputs: Outputs, split: Split) -> list[Found]:
        decoder = Decoder(self.size, self._classes_in(outputs), self.fit)
        return decoder.all(outputs, sizes_of(np.asarray(split.targets)))

    @staticmethod
    def _classes_in(outputs: Any) -> int:  # noqa: ANN401 - arrays or tensors, by name or one
        """Return how many classes a network tells apart."""
        if isinstance(outputs, Mapping):
            return int(outputs["classes"].shape[1]) if "classes" in outputs else 1
        return max(1, int(outputs.shape[1]) - 5)

    @property
    def _augmentation(self) -> Augmentation:
        scales = self.min_scale, self.max_scale
        return Augmentation(scales, self.mirror, self.brightness, self.contrast, self.saturation, self.mosaic)

    @property
    def _camera(self) -> Camera:
        return Camera(self.frame, self.frame_pixels)

    def _seen(self, found: Divided) -> dict[str, list[Annotated]]:
        """Return the pictures of every split, their boxes as the camera sees them."""
        return {name: [as_seen(sample, self.frame) for sample in own] for name, own in found.samples.items()}  # type: ignore[arg-type]  # as found_in has them

    def _framed(self, samples: Mapping[str, Sequence[Annotated]]) -> tuple[Frame | None, list[str]]:
        """Return the frame that the pictures are of, or why there is none."""
        return self._camera.framed({sample.size for own in samples.values() for sample in own}, grey=False)

    def _standardising(self, train: Sequence[Annotated]) -> tuple[Look, bool]:
        """Return how pictures are brought to the network, and whether they have deep values."""
        look = Look(self.size, self.fit, camera=self._camera)
        some = [look.colours_of(train[at].path) for at in evenly_spread(len(train), LOOKED_AT)]
        # In a letterbox pictures differ in size: what is around them doesn't count.
        pixels = np.concatenate([colours.reshape(3, -1) for colours in some], axis=1)
        return look.standardising(*channel_statistics(pixels[None, :, None])), pixels.dtype != np.uint8

    def _preprocessing(self, look: Look, classes: Sequence[str]) -> dict[str, Any]:
        """Return all that it takes to compute a network's input from a picture, and boxes from its outputs."""
        placing = {
            "stretch": "the whole picture is brought to height x width, whatever its proportions",
            "letterbox": "the picture keeps its proportions, in the middle; around it is 0, the mean colour",
        }
        return {
            "height": look.size[0],
            "width": look.size[1],
            "channels": "red, green, blue",
            "fit": self.fit,
            "placing": placing[self.fit],
            **({"pictures": f"{CUT}; boxes are in its pixels"} if self.frame is not None else {}),
            "means": list(look.means),
            "deviations": list(look.deviations),
            "resizing": "a triangle filter (bilinear; as much wider as the picture shrinks), centres at halves",
            "standardisation": "(value - mean) / deviation, value from 0 to 255, constants of the channel",
            "classes": list(classes),
            "output": "a map of cells: objectness, box and classes, raw; firmware decodes it (postprocessing)",
        }

    def _protocol(
        self, found: Divided, samples: Mapping[str, Sequence[Annotated]], classes: Sequence[str]
    ) -> dict[str, Any]:
        names = ("min_scale", "max_scale", "mirror", "brightness", "contrast", "saturation", "mosaic")
        return {
            **self.division_notes(found),
            "classes": list(classes),
            "objects": {name: sum(_objects(own)) for name, own in samples.items()},
            "size": list(self.size),
            "fit": self.fit,
            "average_precision": "COCO's rules: 101 recalls, 100 boxes a picture, overlaps 0.5 to 0.95, pixels of the "
            "pictures; sizes by area: small below 32 ** 2, large above 96 ** 2",
            "colours": f"standardised by {LOOKED_AT} training pictures at most, spread evenly",
            "augmentation": {name: getattr(self, name) for name in names},
        }


def sizes_of(targets: NDArray[Any]) -> NDArray[np.float64]:
    """Return height and width of pictures, shape (n, 2), of targets of shape (n, rows, 7)."""
    found: NDArray[np.float64] = targets[:, 0, [3, 2]].astype(np.float64)
    return found


def _input_of(look: Look, sample: Annotated) -> FloatArray:
    return look.input_of(sample.path)


def _targets_of(classes: Sequence[str], rows: int, sample: Annotated) -> FloatArray:
    """Return the targets of a picture, shape (rows, 7)."""
    boxes = [(*box.corners, classes.index(box.label), box.kind, box.area) for box in sample.boxes]
    return target_rows(sample.size, np.array(boxes, np.float64).reshape(-1, COLUMNS), rows)


def _objects(samples: Sequence[Annotated]) -> list[int]:
    """Return how many objects each picture has."""
    return [sum(box.kind == OBJECT for box in sample.boxes) for sample in samples]


def _require_objects(samples: Mapping[str, Sequence[Annotated]], found: Divided) -> None:
    for name, own in samples.items():
        if not any(_objects(own)):
            raise InputError(
                f"task.data: none of the {len(own)} pictures of {name} shows an object of {', '.join(found.classes)}: "
                "give more, or splits of your own"
            )


def _counted(samples: Mapping[str, Sequence[Annotated]], classes: Sequence[str]) -> list[str]:
    """Return how many pictures and objects the splits have, a line each."""
    lines = []
    for name, own in samples.items():
        counts = Counter(box.label for sample in own for box in sample.boxes if box.kind == OBJECT)
        empty = sum(not count for count in _objects(own))
        told = ", ".join(f"{label} {counts[label]}" for label in classes[:12])
        more = f" and {len(classes) - 12} more classes" if len(classes) > 12 else ""  # noqa: PLR2004 - as told
        lines.append(f"{name}: {len(own)} pictures, {empty} of them without an object: {told}{more}")
    return lines
