"""A first recipe for a folder of data: what is in it, and which task, space and sizes suit that."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image

from qanas.core.errors import InputError
from qanas.core.even_spread import evenly_spread
from qanas.hardware.device import Device
from qanas.tasks.audio.reader import SOUND_SUFFIXES, opened
from qanas.tasks.detection.reader import find_pictures, has_boxes
from qanas.tasks.folders import all_files, visible_files, visible_folders
from qanas.tasks.images.task import Images
from qanas.tasks.labelled_files import SYNTHETIC
from qanas.tasks.labels import FILE_COLUMNS, LABEL_COLUMNS, LABEL_TABLE, Sample, Wanted, find_samples
from qanas.tasks.pictures import open_picture
from qanas.tasks.segmentation.layouts import Division, find_folders, has_masks
from qanas.tasks.segmentation.reader import mask_ids
from qanas.tasks.splits import SPLIT_NAMES, SPLITS
from qanas.tasks.tables import MISSING, NOTE_SUFFIX, TABLE_SUFFIXES, TEXT_SUFFIXES, Table, read_table, without_notes
from qanas.tasks.timeseries.targets import MOST_CLASSES
from qanas.tasks.timeseries.times import seconds_of, time_column

LOOKED_AT = 64
"""Files whose sizes are looked at, spread over all."""

_SIDES = (32, 48, 64, 96, 128)
_MOST_SECONDS = 10.0
_HIGHEST_RATE = 16000

_WHOLE_SECONDS = 2.0
"""Recordings up to here are of one event, such as a word, and stay whole; longer ones may be cut into clips."""

_CLIPS = (5.0, 4.0, 3.0, 2.0, 1.5, 1.0, 0.5, 0.25)
_ENOUGH_CLIPS = 20
"""Of each class, in training."""

_TRAINED = 0.7
"""Share of files that are trained on, where nobody says which."""

_HELD_OUT = 0.15
"""Share of images with masks that is validated on, and that is tested on, likewise."""

_NUMBER_WINDOW = 16
"""Rows in front of a number that is predicted: the first ones of every recording can't be, so few are better."""

_SMALL_SIDE = 48
"""Up to here ResNet8, made for such pictures, is the reference; above MobileNetV1's smallest."""

_SPACES = {
    "audio": 'name = "ds_cnn"            # around MLPerf Tiny\'s keyword spotter',
    "anomaly": 'name = "autoencoder"',
    "detection": 'name = "fastestdet"        # parts = "head" leaves the backbone as published',
    "timeseries": 'name = "lstm"              # or tcn, conv1d, gru',
    "segmentation": 'name = "deeplabv3"         # docs/block-wise.md searches it block by block\nwidth = 0.25',
}
_OF_SMALL, _OF_LARGE = (
    'name = "resnet"            # around ResNet8',
    ('name = "mobilenet"\nreference = "mobilenet_v1_0.25"   # docs/spaces.md has others\nkernels = [3, 5]'),
)
_VOID = 255
_LARGEST_MASK = 160
_WIDEST = 320
"""Pixels of what detectors see at first."""


@dataclass(frozen=True)
class Suggestion:
    """A task for a folder.

    Attributes:
        task: its name.
        keys: of ``[task]``, with what is said of each behind it.
        objective: and whether more or less of it is better.
        others: keys that may be wanted, commented out, with what they do.
    """

    task: str
    keys: Sequence[tuple[str, Any, str]]
    objective: tuple[str, str]
    others: Sequence[tuple[str, Any, str]] = ()

    @property
    def space(self) -> str:
        """Keys of a space that takes its inputs."""
        if self.task in _SPACES:
            return _SPACES[self.task]
        size = next(value for name, value, _ in self.keys if name == "size")
        return _OF_SMALL if size <= _SMALL_SIDE else _OF_LARGE

    def recipe(self, data: str, device: str) -> str:
        """Return a commented recipe.

        Args:
            data: the folder, as the recipe's reader finds it.
            device: that the networks are for.
        """
        values = [("name", self.task, ""), ("data", data, ""), *self.keys]
        lines = [f"{name} = {_toml(value)}{f'   # {said}' if said else ''}" for name, value, said in values]
        task = "\n".join([*lines, *(f"# {name} = {_toml(value)}   # {said}" for name, value, said in self.others)])
        metric, way = self.objective
        return _RECIPE.format(task=task, space=self.space, metric=metric, way=way, device=_toml(device))


_RECIPE = """# Written by `qanas new`: a first recipe, to be changed. Keys: docs/tasks.md and docs/recipes.md.
[task]
{task}

[space]
{space}
search = ["input", "architecture", "training", "quantization"]

[device]
name = {device}              # its flash and RAM are limits; qanas devices lists them

[strategy]
name = "tpe"
trials = 40                 # more find smaller and better networks

[estimation]
epochs = 20
jobs = 2                    # worker processes

[objectives]
{metric}_quantized = "{way}"
weight_bytes = "minimize"     # or latency_ms, arena_bytes, macs

[limits]                    # beside the device's; take the # away
# file_bytes = "256 KiB"
# arena_bytes = "64 KiB"

[finalists]
count = 4
seeds = 2
"""


def suggestion_for(folder: Path, target: str | None = None) -> Suggestion:
    """Look at a folder's files and say which task suits them.

    Args:
        folder: of the data.
        target: of tables: the column that is predicted.

    Raises:
        InputError: it is none, or holds nothing that a task takes.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no folder: give the one that holds pictures, recordings or tables")
    if has_boxes(folder):
        return _boxes(folder)
    if has_masks(folder):
        pairs, _ = find_folders(folder, Division(_HELD_OUT, _HELD_OUT, 0))
        return _masks([pair.mask for pair in pairs["train"]])
    files = all_files(folder)
    kinds = {
        "images": [path for path in files if path.suffix.lower() in Images.suffixes],
        "audio": [path for path in files if path.suffix.lower() in SOUND_SUFFIXES],
        "timeseries": without_notes([path for path in files if path.name.lower().endswith(TABLE_SUFFIXES)]),
    }
    kind = max(kinds, key=lambda name: len(kinds[name]))
    found = kinds[kind]
    if not found:
        raise InputError(f"{folder}: no pictures, recordings or tables: {len(files)} other files; see docs/tasks.md")
    some = [found[place] for place in evenly_spread(len(found), LOOKED_AT)]
    if kind == "images":
        return _pictures(some, _label_table(folder))
    return _sounds(folder, some) if kind == "audio" else _tables(folder, some, target)


def _label_table(folder: Path) -> list[tuple[str, Any, str]]:
    """Return the key that names a table of labels of another name than the one that is looked for."""
    for path in visible_files(folder):
        if path.name.lower().endswith(TEXT_SUFFIXES) and path.name != LABEL_TABLE:
            try:
                table = read_table(path)
            except InputError:
                if path.suffix.lower() == NOTE_SUFFIX:  # a README.txt, most likely
                    continue
                raise
            if table.has(FILE_COLUMNS) and table.has(LABEL_COLUMNS):
                return [("labels", path.name, "the table of labels")]
    return []


def _pictures(files: Sequence[Path], labels: Sequence[tuple[str, Any, str]]) -> Suggestion:
    shorter, grey = [], []
    for path in files:
        try:
            with Image.open(path) as image:
                shorter.append(min(image.size))
                grey.append(image.mode in ("L", "1", "I;16"))
        except (OSError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: not a readable image: fetch it again, or take it away") from error
    typical = int(np.median(shorter))
    size = max([side for side in _SIDES if side <= typical], default=_SIDES[0])
    keys = [
        *labels,
        ("size", size, f"pixels of a side that the network sees; the shorter sides have {typical} in the middle"),
        ("colour", "grey" if all(grey) else "rgb", ""),
    ]
    return Suggestion("images", keys, ("accuracy", "maximize"))


def _boxes(folder: Path) -> Suggestion:
    pictures, classes, _ = find_pictures(folder, ())
    high, wide = (float(np.median([picture.size[axis] for picture in pictures])) for axis in (0, 1))
    width = int(min(_WIDEST, max(_SIDES[0], wide)))
    boxes = sum(len(picture.boxes) for picture in pictures)
    keys: list[tuple[str, Any, str]] = [
        ("classes", list(classes), f"of {boxes} boxes in {len(pictures)} pictures; take away those you don't need"),
        ("width", width, f"pixels that the network sees; pictures have {high:.0f} x {wide:.0f} in the middle"),
        ("aspect", round(high / wide, 2), "height as a share of the width"),
    ]
    return Suggestion("detection", keys, ("ap50", "maximize"))


def _sounds(folder: Path, files: Sequence[Path]) -> Suggestion:
    rates: Counter[int] = Counter()
    seconds = []
    for path in files:
        try:
            told = soundfile.info(opened(path))
        except (RuntimeError, OSError) as error:
            raise InputError(f"{path}: not a readable sound file: fetch it again, or take it away") from error
        rates[told.samplerate] += 1
        seconds.append(told.duration)
    rate = rates.most_common(1)[0][0]
    typical = float(np.median(seconds))
    anomalies = any(path.name.lower() == "normal" for path in _class_folders(folder))
    labels = _label_table(folder)
    heard = round(min(typical, _MOST_SECONDS), 2)
    said = f"of a clip; recordings have {typical:.3g} s in the middle"
    if not anomalies and typical > _WHOLE_SECONDS:
        name = labels[0][1] if labels else None
        heard, said = _clip(find_samples(folder, Wanted("recordings", SOUND_SUFFIXES, name))[0], typical)
    common = ", ".join(f"{count} files of {hertz} Hz" for hertz, count in rates.most_common(3))
    keys: list[tuple[str, Any, str]] = [
        *labels,
        ("sample_rate", min(rate, _HIGHEST_RATE), f"samples a second of the device's microphone; here {common}"),
        ("seconds", heard, said),
    ]
    if anomalies:
        return Suggestion("anomaly", keys, ("auc", "maximize"))
    return Suggestion("audio", keys, ("accuracy", "maximize"))


def _clip(samples: Sequence[Sample], typical: float) -> tuple[float, str]:
    """Return how long clips may be that there are enough of each class to train on, and what is said of it.

    Args:
        samples: recordings.
        typical: seconds of one.
    """
    given = any(sample.split for sample in samples)
    counts = Counter(sample.label for sample in samples if sample.split in ("", "train"))
    fewest = min(counts.values()) * typical * (1.0 if given else _TRAINED)
    lengths = [min(typical, _MOST_SECONDS), *(length for length in _CLIPS if length < typical)]
    seconds = next((length for length in lengths if fewest / length >= _ENOUGH_CLIPS), _CLIPS[-1])
    clips = int(fewest / seconds)
    said = f"of a clip: recordings of {typical:.3g} s are cut, into about {clips} clips to train on of the rarest class"
    return round(seconds, 2), said if seconds < typical else f"of a clip; recordings have {typical:.3g} s in the middle"


def _tables(folder: Path, files: Sequence[Path], target: str | None) -> Suggestion:
    table = read_table(files[0])
    if target is not None and target not in table.columns:
        raise InputError(f"--target: {files[0]} has no column {target}: it has {', '.join(table.columns)}")
    numbers = [name for name in table.columns if table.is_numeric(name)]
    time = time_column(table)
    classes = bool(_class_folders(folder)) or (folder / "labels.csv").is_file()
    rows = int(np.median([len(read_table(path)) for path in files[:8]]))
    if classes and target is None:
        if time is None:
            return Suggestion("timeseries", [_window(rows, "table")], ("accuracy", "maximize"))
        if all(_goes_on(other, time) for other in map(read_table, files) if time in other.columns):
            keys = [("time", time, "the column of times"), _window(rows, "table")]
            return Suggestion("timeseries", keys, ("accuracy", "maximize"))
        left = [name for name in numbers if name != time]
        channels = [("channels", left, f"'{time}' does not go on from row to row")] if left else []
        return Suggestion("timeseries", [*channels, _window(rows, "table")], ("accuracy", "maximize"))
    others = [name for name in numbers if name != time]
    if not others:
        raise InputError(f"{files[0]}: no column of numbers: it has {', '.join(table.columns)}")
    said = f"the column that is predicted: is it this one? There are {', '.join(others[:12])}"
    if target is None and table.columns == [str(place + 1) for place in range(len(table.columns))]:
        raise InputError(
            f"{files[0]}: columns without names: say which is predicted: qanas new {folder} --target COLUMN"
        )
    named = ("target", others[-1], said) if target is None else ("target", target, "")
    if named[1] not in numbers:
        kind = ("predict", "class", "")
    elif _is_class(table.texts(named[1])):
        kind = ("predict", "class", "its numbers are whole and few; or number")
    else:
        kind = ("predict", "number", "")
    return _of_column(table, [kind, named], time, rows, alone=len(files) == 1)


def _window(rows: int, what: str, most: int = 100) -> tuple[str, int, str]:
    """Return the key of the window where what has rows has so many in the middle."""
    size = min(most, int(np.clip(rows // 4, 2, 100)))
    return ("window", size, f"rows that the network sees; a {what} has {rows} in the middle")


def _of_column(
    table: Table, named: Sequence[tuple[str, Any, str]], time: str | None, rows: int, *, alone: bool
) -> Suggestion:
    """Return what predicts a column.

    Args:
        table: the first one.
        named: keys that say which column is predicted, and as what.
        time: the column of times.
        rows: that a table has in the middle.
        alone: whether it is the only one.
    """
    target, kind = named[1][1], named[0][1]
    recording = _recording_column(table, time, target) if alone else None  # others may use the same names
    keys = list(named)
    others: list[tuple[str, Any, str]] = list(_FORECAST) if kind == "number" else []
    if recording is not None:
        rows = len(table) // len(set(table.texts(recording)))
        keys.append(("recording", recording, "tells recordings apart"))
    if time is not None and (recording is not None or _goes_on(table, time)):
        keys.append(("time", time, "the column of times"))
    elif time is not None:
        others.insert(0, ("time", time, "the column of times: here it goes back; see the key recording"))
    keys.append(
        _window(rows, "table" if recording is None else "recording", _NUMBER_WINDOW if kind == "number" else 100)
    )
    if alone and recording is None:
        keys.append(("split", "time", "one recording: its last part is held out; see the key recording for several"))
    objective = ("accuracy", "maximize") if kind == "class" else ("mae", "minimize")
    return Suggestion("timeseries", keys, objective, others)


def _is_class(texts: Sequence[str]) -> bool:
    """Tell whether the numbers of a column are those of classes: whole ones, and few."""
    there = {text for text in texts if text.lower() not in MISSING}
    return len(there) <= MOST_CLASSES and all(re.fullmatch(r"[+-]?\d+([.,]0*)?", text) for text in there)


_RECORDINGS = ("recording", "record", "id", "unit", "machine", "device", "engine", "run", "session", "trial", "subject")
"""What people call the column that tells recordings apart."""


def _recording_column(table: Table, time: str | None, target: str) -> str | None:
    """Return the column that tells recordings apart; None where rows are of one, or no column is seen to."""
    name = table.has(_RECORDINGS)
    if name is None or name in (time, target):
        return None
    _, numbers = np.unique(np.array(table.texts(name)), return_inverse=True)
    several = len(SPLITS) <= len(set(numbers.tolist())) < len(table)
    return name if several and (time is None or _goes_on(table, time, numbers)) else None


def _goes_on(table: Table, time: str, recordings: NDArray[np.intp] | None = None) -> bool:
    """Tell whether times go forward in each recording: of which each row is, shape (rows,); None: all of one."""
    numbers = np.zeros(len(table), np.intp) if recordings is None else recordings
    try:
        times = seconds_of(table, time)
    except InputError:
        return False
    return all((np.diff(times[numbers == number]) > 0).all() for number in range(numbers.max() + 1))


_FORECAST = (
    ("horizon", 24, "a forecast: the target so many rows later, its own past among the channels; take a longer window"),
    ("change", True, "with a horizon: the difference from its last value is predicted"),
)


def _masks(files: Sequence[Path]) -> Suggestion:
    numbers: set[int] = set()
    sizes = []
    for path in (files[place] for place in evenly_spread(len(files), LOOKED_AT)):
        mask, _, halved = open_picture(path)
        sizes.append(mask.size)
        numbers |= set(np.unique(mask_ids(path, mask, halved)).tolist())
    count = max(2, 1 + max((number for number in numbers if number != _VOID), default=1))
    names = ["background", *(f"class_{number}" for number in range(1, count))]
    typical = np.median(np.array(sizes), axis=0)
    width, height = (
        max(32, 8 * round(side * min(1.0, _LARGEST_MASK / typical.max()) / 8)) for side in typical.tolist()
    )
    keys: list[tuple[str, Any, str]] = [
        ("dataset", "folders", ""),
        ("classes", names, f"call them by what they are; masks hold {', '.join(map(str, sorted(numbers)))}"),
        ("height", height, "pixels that the network sees"),
        ("width", width, ""),
        ("training_loss", "cross_entropy_dice", "learns rare classes; weights by class make too much of them"),
    ]
    return Suggestion("segmentation", keys, ("miou", "maximize"))


def _class_folders(folder: Path) -> list[Path]:
    """Return the folders of classes, those in folders of splits among them."""
    inner = visible_folders(folder)
    if inner and all(path.name.lower() in SPLIT_NAMES for path in inner):
        return [path for split in inner for path in visible_folders(split)]
    return inner


def _toml(value: Any) -> str:  # noqa: ANN401 - of a recipe
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML's own escapes
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else str(value)


def _from(path: Path, other: Path) -> str:
    """Return how a recipe names another place."""
    return os.path.relpath(other.resolve(), path.resolve().parent)


def write_recipe(folder: Path, path: Path, device: str = "host", target: str | None = None) -> Suggestion:
    """Write a recipe for a folder of data beside which it may lie anywhere.

    Args:
        folder: of the data.
        path: of the recipe.
        device: that the networks are for.
        target: of tables: the column that is predicted.

    Raises:
        InputError: there is a file of that name, no such device, or the folder holds nothing that a task takes.
    """
    if path.exists():
        raise InputError(f"{path}: there is such a file: give another name by --out, or take it away")
    Device.named(device, key="--device")
    suggestion = suggestion_for(folder, target)
    if target is not None and suggestion.task != "timeseries":
        raise InputError(f"--target {target}: a column of tables, and {folder} is for the task {suggestion.task}")
    place = _from(path, folder)
    named = _from(path, Path(device)) if device.endswith(".toml") else device
    content = suggestion.recipe(f"./{place}" if place == SYNTHETIC else place, named)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.write_bytes(content.encode())
    except UnicodeEncodeError as error:
        raise InputError(f"{folder}: it, or what is in it, has a name that is no UTF-8; TOML can't hold it") from error
    return suggestion
