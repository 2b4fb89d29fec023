"""The task: tell what a picture shows."""

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
from qanas.search_space.settings import Choice
from qanas.tasks.augmentation import Augmentation
from qanas.tasks.base import TaskData
from qanas.tasks.classified import ClassifiedFiles
from qanas.tasks.detection.presence import presence
from qanas.tasks.frames import Camera, Frame, FrameSize, Pixels
from qanas.tasks.images.reader import Colour, Fitting, Look, Read, read_pictures, split_of
from qanas.tasks.images.synthetic import write_pictures
from qanas.tasks.labelled_files import Divided, counted
from qanas.tasks.labels import Sample, grouped
from qanas.tasks.picture_front_end import PictureFrontEnd
from qanas.tasks.pictures import GREY, IMAGE_SUFFIXES, Side, channel_statistics, print_of_picture, sides_searched
from qanas.tasks.remembered import Remembered
from qanas.tasks.samples import FloatArray, Indices, Split

Share = Annotated[float, Field(ge=0, le=1)]
Scale = Annotated[float, Field(ge=0.1, le=10)]

CELLS = 8
"""A picture in a few numbers: the mean colours of so many rows and columns of cells."""

_SYNTHETIC_SEED = 0

_FRAMES = Remembered[Frame]()


@dataclass(frozen=True)
class Images(ClassifiedFiles):
    """Pictures, each of a class.

    Attributes:
        size: pixels of a side that the network sees: pictures become squares.
        colour: "rgb": three channels; "grey": one.
        fit: "stretch": the whole picture is brought to the square, whatever its sides; "crop": the square about its
            middle.
        present: where the folder has boxes (see `qanas.tasks.detection`): the class whose presence is told, such as
            "person"; what is below 0.5 % of its picture does not count (visual wake words, Chowdhery et al. 2019).
        frame: height and width of the frames that the device's camera gives. Pictures are brought to it before all
            else, by their largest part about the middle with its proportions. By default the pictures' own.
        frame_pixels: "bytes": red, green and blue of a byte each, grey where all pictures are; "rgb565": of 5, 6 and 5
            bits, which pictures are rounded to.
        min_scale: smallest random scale in training; below 1 there is the mean colour around the picture.
        max_scale: largest one; a random part of the picture is seen.
        mirror: share of the training samples that are mirrored.
        brightness: largest random offset of all colours in training, in standard deviations.
        contrast: largest random deviation of the contrast from 1 in training.
        saturation: largest random deviation of the saturation from 1 in training.
        features: "none" gives the network the picture; "cells" the mean colours of 8 x 8 cells, as baselines see it.

    The input that can be searched is ``size`` (half, three and five quarters of it) and ``colour``. Samples are the
    same whatever it is.
    """

    size: Side = 64
    colour: Colour = "rgb"
    fit: Fitting = "stretch"
    present: str | None = None
    frame: FrameSize | None = None
    frame_pixels: Pixels = "bytes"
    min_scale: Scale = 0.9
    max_scale: Scale = 1.25
    mirror: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    features: Literal["none", "cells"] = "none"

    what: ClassVar[str] = "pictures"
    suffixes: ClassVar[tuple[str, ...]] = (*IMAGE_SUFFIXES, ".gif")

    def write_synthetic(self, folder: Path) -> None:
        """Write generated pictures of three shapes."""
        write_pictures(folder, _SYNTHETIC_SEED)

    def print_of(self, path: Path) -> FloatArray:
        """Return what is alike in copies of a file, shape (192,)."""
        return print_of_picture(path)

    def found_in(self, folder: Path) -> tuple[Sequence[Sample], list[str]]:
        """Return the labelled pictures of a folder, and remarks; with ``present`` their boxes tell the labels."""
        if self.present is None:
            return super().found_in(folder)
        pictures, remarks = presence(folder, self.present, self.frame, square=self.fit == "crop")
        return grouped(pictures, self._wanted), remarks

    def load(self) -> TaskData:
        """Read every picture once, bring it to the size, and standardise by the training pictures' colours.

        Inputs have shape (n, channels, size, size), or (n, channels * 64) with features, targets (n,): classes in the
        order of their names. Extras are ``file`` and ``group``, each of shape (n,).

        Raises:
            InputError: files are missing or damaged, or labels or settings don't fit.
        """
        if self.min_scale > self.max_scale:
            raise InputError(f"task.min_scale: {self.min_scale} is more than task.max_scale, {self.max_scale}")
        look = self._look
        with self.divided() as found:
            paths = {name: [sample.path for sample in samples] for name, samples in found.samples.items()}
            read = {name: read_pictures(files, look) for name, files in paths.items()}
            self._require_one_kind(paths, read)
            constants = channel_statistics(read["train"].images)
            frame, told = self._framed(list(read.values()))
            splits = {
                name: self._featured(
                    split_of(files, read[name], look, found.targets(name), found.extras(name), constants)
                )
                for name, files in paths.items()
            }
        return TaskData(
            train=splits["train"],
            val=splits["val"],
            test=splits["test"],
            output_size=len(found.classes),
            preprocessing=self._preprocessing(found, read["train"], constants) | frame,
            protocol=self.division_notes(found) | {"size": self.size, "colour": self.colour, "augmentation": self._how},
            remarks=(*counted(found), *found.remarks, *_seen(read), *told),
        )

    def input_settings(self) -> tuple[Choice, ...]:
        """Return ``size`` and ``colour``."""
        return (
            Choice("size", "input", self.size, options=sides_searched(self.size), finer="larger"),
            Choice("colour", "input", self.colour, options=("rgb", "grey")),
        )

    def with_features(self) -> Self:
        """Return the task with the mean colours of 8 x 8 cells as input, as they are in training."""
        plain = replace(self, min_scale=1.0, max_scale=1.0, mirror=0.0, brightness=0.0, contrast=0.0, saturation=0.0)
        return replace(plain, features="cells")

    def front_end(self, preprocessing: Mapping[str, Any]) -> PictureFrontEnd | None:
        """Return what makes an input of a frame; None where frames differ, have deep values, or features are made.

        Args:
            preprocessing: constants of the training pictures, and the frame.
        """
        whole = PictureFrontEnd.from_notes(preprocessing)
        if self.features != "none" or whole is None:
            return None
        colour: Colour = "grey" if preprocessing["channels"] == "grey" else "rgb"
        look = Look(preprocessing["height"], colour, preprocessing["fit"])
        return replace(whole, part=look.part((whole.frame.height, whole.frame.width)), grey=colour == "grey")

    def raw_inputs(self, val: Split, indices: Indices) -> list[NDArray[np.uint8]]:
        """Return frames, each of shape (height, bytes of a line).

        Args:
            val: the split.
            indices: of its samples, from 0, shape (batch,).
        """
        del val
        frame = _FRAMES.of(self._framing, self.load)
        with self.divided() as files:
            return [self._look.camera.raw(files.samples["val"][int(index)].path, frame) for index in indices]

    def augment(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return a batch, pictures (batch, channels, size, size) and classes (batch,), placed and coloured anew."""
        return (inputs if self.features == "cells" else self._augmentation(inputs, generator)), targets

    @property
    def _augmentation(self) -> Augmentation:
        scales = self.min_scale, self.max_scale
        return Augmentation(scales, self.mirror, self.brightness, self.contrast, self.saturation)

    @property
    def _how(self) -> dict[str, Any]:
        names = ("min_scale", "max_scale", "mirror", "brightness", "contrast", "saturation")
        return {name: getattr(self, name) for name in names}

    @property
    def _source(self) -> tuple[object, ...]:
        """Of labels by boxes, which class, too, and what of it is seen."""
        return (*super()._source, self.present, *((self.frame, self.fit) if self.present is not None else ()))

    @property
    def _framing(self) -> tuple[object, ...]:
        """What frames follow from."""
        return (self._source, self.frame, self.frame_pixels)

    @property
    def _look(self) -> Look:
        return Look(self.size, self.colour, self.fit, Camera(self.frame, self.frame_pixels))

    def _framed(self, read: Sequence[Read]) -> tuple[dict[str, Any], list[str]]:
        """Return the frame's notes, where all pictures are of one size and of bytes, else why there are none."""
        frames = frozenset[tuple[int, int]]().union(*(found.frames for found in read))
        if any(found.deep for found in read):
            return {}, []
        frame, told = self._look.camera.framed(frames, grey=all(found.grey for found in read))
        if frame is None:
            return {}, told
        _FRAMES.keep(self._framing, frame)
        return {"frame": frame.notes}, []

    def _require_one_kind(self, paths: Mapping[str, list[Path]], read: Mapping[str, Read]) -> None:
        for name, found in read.items():
            if found.deep != read["train"].deep:
                raise InputError(
                    f"{paths[name][0]}: its pixels are of another kind than those of {paths['train'][0]}: "
                    "save all pictures with 8 bits, or all with 16"
                )

    def _featured(self, split: Split) -> Split:
        if self.features == "none":
            return split
        cells = np.concatenate([_cells(chunk) for chunk in split.chunks(256)])
        return Split(cells, split.targets, split.extras)

    def _preprocessing(
        self, found: Divided, train: Read, constants: tuple[NDArray[np.float64], NDArray[np.float64]]
    ) -> dict[str, Any]:
        """Return all that it takes to compute a network's input from a picture."""
        means, deviations = constants
        span = [float(train.images.min()), float(train.images.max())] if train.deep else [0, 255]
        values = f"as in the file, {span[0]:g} to {span[1]:g} in training" if train.deep else "from 0 to 255"
        crop = "the largest square about the middle, then " if self.fit == "crop" else ""
        notes = {
            "height": self.size,
            "width": self.size,
            "channels": "red, green, blue" if self.colour == "rgb" else "grey",
            **({"grey": f"round({GREY[0]} red + {GREY[1]} green + {GREY[2]} blue)"} if self.colour == "grey" else {}),
            **({"values": span} if train.deep else {}),
            "fit": self.fit,
            "means": means.tolist(),
            "deviations": deviations.tolist(),
            "resizing": f"{crop}a triangle filter (bilinear; as much wider as the picture shrinks), centres at halves",
            "standardisation": f"(value - mean) / deviation, value {values}, constants of the channel",
            "classes": list(found.classes),
            "output": "a logit a class; the class is that of the largest one",
        }
        if self.features == "cells":
            notes["input"] = f"means of {CELLS} x {CELLS} cells of each channel in turn, cells row by row"
            notes["outside_the_model"] = {"additions": self.size**2 * len(means)}
        return notes


def _cells(images: FloatArray) -> FloatArray:
    """Return the means of cells, shape (n, channels * 64), of pictures, shape (n, channels, size, size)."""
    pooled = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.ascontiguousarray(images)), CELLS)
    cells: FloatArray = pooled.flatten(1).numpy()
    return cells


def _seen(read: Mapping[str, Read]) -> list[str]:
    turned, halved = (sum(getattr(found, name) for found in read.values()) for name in ("turned", "halved"))
    lines = []
    if turned:
        lines.append(f"{turned} pictures were turned upright, as their EXIF orientation says")
    if halved:
        lines.append(f"{halved} pictures have colours of 16 bits, of which the upper 8 are read")
    if read["train"].deep:
        low, high = read["train"].images.min(), read["train"].images.max()
        lines.append(f"pictures have one deep value a pixel, {low:g} to {high:g} in training: read as it is")
    return lines
