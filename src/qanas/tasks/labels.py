"""Files and their labels: a folder a class, or a table; splits that folders or the table give are kept."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from qanas.core.errors import InputError
from qanas.tasks.folders import all_files, read_bytes, require_folder, visible_files, visible_folders
from qanas.tasks.pictures import readable_name
from qanas.tasks.splits import SPLIT_NAMES, SPLITS, told_group
from qanas.tasks.tables import NO_CLASS, TEXT_SUFFIXES, Table, read_table, told_notes, without_notes

LABEL_TABLE = "labels.csv"
"""The table that is looked for in a folder."""

FILE_COLUMNS = ("file", "path", "filename", "file_name", "filepath", "image", "clip", "name")
LABEL_COLUMNS = ("label", "class", "target", "category", "classname")
GROUP_COLUMNS = ("group", "subject", "speaker", "recording")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")


@dataclass(frozen=True)
class Sample:
    """A file and what is known of it.

    Attributes:
        path: of the file.
        name: its path within the data's folder, as text that can be written.
        label: its class.
        group: what it belongs to, such as a person; empty where nothing is known.
        split: of `SPLITS`; empty where none is given.
        place: where its label comes from, for messages.
    """

    path: Path
    name: str
    label: str
    group: str = ""
    split: str = ""
    place: str = ""

    @property
    def told(self) -> str:
        """All that is said of it, as the data's fingerprint has it."""
        return self.label


S = TypeVar("S", bound=Sample)


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        what: in the plural, for people: pictures.
        suffixes: of files, in small letters.
        table: the name of the table of labels in the folder; none: `LABEL_TABLE`, if it is there.
        group: the table's column of groups; none: one of `GROUP_COLUMNS`, if it is there.
        group_pattern: a regular expression; what its group matches in a file's path is what the file belongs to.
        normal: the one label that is trained on; none: all are.
    """

    what: str
    suffixes: tuple[str, ...]
    table: str | None = None
    group: str | None = None
    group_pattern: str | None = None
    normal: str | None = None


def find_samples(folder: Path, wanted: Wanted) -> tuple[list[Sample], list[str]]:
    """Return the labelled files of a folder in the order of their names, and what a person should know of them.

    Raises:
        InputError: there are none, or labels don't fit; names file, line and mend.
    """
    require_folder(folder, f"{wanted.what}, in a folder a class or with a table of labels")
    if wanted.table is not None or (folder / LABEL_TABLE).is_file():
        samples, remarks = _by_table(folder, wanted, folder / (wanted.table or LABEL_TABLE))
    else:
        samples, remarks = _by_folders(folder, wanted)
        _require_whole(folder, samples)
        if wanted.group is not None:
            raise InputError(
                f"task.group: {folder} has no table with a column '{wanted.group}'; see task.group_pattern"
            )
    samples = grouped(samples, wanted)
    _require_classes(folder, samples)
    return sorted(samples, key=lambda sample: sample.name), remarks


def digests_of(samples: Sequence[Sample]) -> list[str]:
    """Return the SHA-256 of each file.

    Raises:
        InputError: one can't be read.
    """
    return [hashlib.sha256(read_bytes(sample.path)).hexdigest() for sample in samples]


def fingerprint_of(samples: Sequence[Sample], digests: Sequence[str]) -> str:
    """Return a digest of names, labels, groups, splits and contents, whatever the folder is called."""
    total = hashlib.sha256()
    for sample, digest in zip(samples, digests, strict=True):
        total.update(repr((sample.name, sample.told, sample.group, sample.split, digest)).encode("utf-8", "replace"))
    return total.hexdigest()


def _by_folders(folder: Path, wanted: Wanted) -> tuple[list[Sample], list[str]]:
    inner = visible_folders(folder)
    splits = [SPLIT_NAMES.get(path.name.lower(), "") for path in inner]
    if not inner or not all(splits):
        return _with_listed_splits(folder, *_classes_of(folder, folder, wanted, ""))
    if len(set(splits)) < len(splits):
        raise InputError(f"{folder}: two folders for {max(splits, key=splits.count)}: put their files together")
    if "train" not in splits:
        raise InputError(f"{folder}: {inner[0].name}/ and no train/: add the folder, or take {inner[0].name}/ away")
    samples: list[Sample] = []
    remarks: list[str] = []
    for path, split in zip(inner, splits, strict=True):
        found, said = _classes_of(folder, path, wanted, split)
        samples += found
        remarks += said
    trained = {sample.label for sample in samples if sample.split == "train"}
    for sample in samples:
        if sample.label not in trained and wanted.normal in (None, sample.label):
            raise InputError(f"{sample.path.parent}: train/ has no '{sample.label}': add it there, or take it away")
    return samples, remarks


_SPLIT_LISTS = {"validation_list.txt": "val", "testing_list.txt": "test"}
"""Lists of files, a line each, by which Speech Commands is split; what neither has is trained on."""


def _with_listed_splits(folder: Path, samples: list[Sample], remarks: list[str]) -> tuple[list[Sample], list[str]]:
    """Return samples with the splits that lists beside the classes' folders give, and remarks on that, too."""
    listed: dict[str, str] = {}
    told = []
    names = {_composed(sample.path.relative_to(folder).as_posix()) for sample in samples}
    for name, split in _SPLIT_LISTS.items():
        if not (folder / name).is_file():
            continue
        lines = read_bytes(folder / name).decode("utf-8-sig", "replace").splitlines()
        own = {_composed(line.strip().replace("\\", "/").removeprefix("./")) for line in lines if line.strip()}
        there = own & names
        if not there:
            told.append(f"{name} names none of the files that are here: not followed")
            continue
        torn = sorted(there & listed.keys())
        if torn:
            raise InputError(f"{folder / name}: {torn[0]} is in another list, too: take it out of one")
        listed |= dict.fromkeys(there, split)
        absent = f", {len(own) - len(there)} of its files aren't here" if len(own) > len(there) else ""
        told.append(f"{split} is what {name} lists: {len(there)} files{absent}")
    if not listed:
        return samples, [*remarks, *told]
    splits = [listed.get(_composed(sample.path.relative_to(folder).as_posix()), "train") for sample in samples]
    return [replace(sample, split=split) for sample, split in zip(samples, splits, strict=True)], [*remarks, *told]


def _composed(name: str) -> str:
    """Return a name with each letter and its accent as one: macOS writes them as two, which are other bytes."""
    return unicodedata.normalize("NFC", name)


def _classes_of(top: Path, folder: Path, wanted: Wanted, split: str) -> tuple[list[Sample], list[str]]:
    """Return the files in a folder of classes."""
    classes = visible_folders(folder)
    beside = _fitting(visible_files(folder), wanted)
    if not classes:
        held = f"{wanted.what} without a class" if beside else f"no {wanted.what}"
        raise InputError(
            f"{folder}: {held}: make a folder a class and put files there that end in {_ends(wanted)}, "
            f"or a table {LABEL_TABLE} with the columns file and label"
        )
    small: dict[str, Path] = {}
    samples: list[Sample] = []
    others = notes = 0
    held_by = {path: all_files(path) for path in classes}
    tables = without_notes(_fitting([file for files in held_by.values() for file in files], wanted))
    meant = {file.suffix.lower() for file in tables}
    for path, files in held_by.items():
        name = readable_name(path.name).strip()
        twin = small.setdefault(name.lower(), path)
        if twin is not path:
            raise InputError(f"{path}: {twin.name} is beside it: is it the same class? Give both one name, or others")
        fitting = _fitting(files, wanted)
        found = [file for file in fitting if file.suffix.lower() in meant]
        if not found:
            held = f"none of its {len(files)} files ends in {_ends(wanted)}" if files else "empty"
            raise InputError(f"{path}: {held}: put {wanted.what} of the class there, or take the folder away")
        others += len(files) - len(fitting)
        notes += len(fitting) - len(found)
        samples += [Sample(file, _name(top, file), name, split=split, place=str(file)) for file in found]
    remarks = []
    if beside:
        remarks.append(f"{len(beside)} {wanted.what} lie beside the classes' folders of {folder.name}/: left out")
    if notes:
        remarks.append(told_notes(notes))
    if others:
        remarks.append(f"{others} files of {folder.name}/ are no {wanted.what} ({_ends(wanted)}): left out")
    return samples, remarks


def _by_table(folder: Path, wanted: Wanted, path: Path) -> tuple[list[Sample], list[str]]:
    if not path.is_file():
        raise InputError(f"task.labels: {path} is missing: give the name of a table in that folder")
    if not path.name.lower().endswith(TEXT_SUFFIXES):
        raise InputError(f"task.labels: {path.name}: give a table that ends in {', '.join(TEXT_SUFFIXES)}")
    table = read_table(path)
    files = table.texts(_column(table, FILE_COLUMNS, "files"))
    labels = table.texts(_column(table, LABEL_COLUMNS, "labels"))
    grouped = table.named(wanted.group, "group") if wanted.group else table.has(GROUP_COLUMNS)
    split = table.has(SPLIT_COLUMNS)
    groups = table.texts(grouped) if grouped else [""] * len(table)
    splits = table.texts(split) if split else [""] * len(table)
    places = _Places(folder, wanted)
    seen: dict[Path, int] = {}
    samples: list[Sample] = []
    twice = 0
    for row, (name, label, group, told) in enumerate(zip(files, labels, groups, splits, strict=True)):
        found = places.file_of(table, row, name)
        if label.lower() in NO_CLASS:
            raise InputError(f"{table.place(row)}: {name} has no label: give it one, or take the line away")
        if found in seen:
            before = seen[found]
            if labels[before] != label:
                raise InputError(
                    f"{table.place(row)}: {name} is '{label}' here and '{labels[before]}' in line "
                    f"{table.lines[before]}: give it one label"
                )
            twice += 1
            continue
        seen[found] = row
        own = _split_of(table, row, told) if split else ""
        samples.append(Sample(found, _name(folder, found), label, group, own, table.place(row)))
    remarks = [*table.remarks, *([f"{twice} lines of {path.name} repeat another one: left out"] if twice else [])]
    unlabelled = len({*_fitting(all_files(folder), wanted)} - seen.keys() - {path})
    if unlabelled:
        remarks.append(f"{unlabelled} {wanted.what} in the folder are not in {path.name}: left out")
    if splits and samples and "train" not in {sample.split for sample in samples} and split:
        raise InputError(f"{path}: column '{split}': no line says train: mend the column, or take it away")
    return samples, remarks


def _column(table: Table, names: Sequence[str], what: str) -> str:
    found = table.has(names)
    if found is None:
        raise InputError(
            f"{table.path}: no column of {what}: call one '{names[0]}' in the first line; it has "
            f"{', '.join(table.columns)}"
        )
    return found


class _Places:
    """Where the files are that a table names, however it writes them.

    Args:
        folder: of the data.
        wanted: the files.
    """

    def __init__(self, folder: Path, wanted: Wanted) -> None:
        """Look through the folder only once a name is no file."""
        self.folder, self.wanted = folder, wanted

    def file_of(self, table: Table, row: int, name: str) -> Path:
        """Return the file that a line names.

        Raises:
            InputError: it is missing, it is none that is looked for, or there are two.
        """
        if not name:
            raise InputError(f"{table.place(row)}: no file is named: name one, or take the line away")
        tried = [place / name.replace("\\", "/") for place in (table.path.parent, self.folder)]
        path = next((path for path in tried if path.is_file()), None)
        if path is None:
            path = self._like(table, row, tried)
        if path.suffix.lower() not in self.wanted.suffixes:
            raise InputError(
                f"{table.place(row)}: {name} is not one of {self.wanted.what}, which end in {_ends(self.wanted)}"
            )
        return path

    def _like(self, table: Table, row: int, tried: Sequence[Path]) -> Path:
        """Return the one file whose name is that of a line but for its suffix, or for how accents are written."""
        for path in tried:
            key = _composed(os.path.normpath(path))
            found = self._whole.get(key) or self._stems.get(key, [])
            if len(found) > 1:
                raise InputError(
                    f"{table.place(row)}: is {path.name} {found[0].name} or {found[1].name}? Write its whole name"
                )
            if found:
                return found[0]
        raise InputError(f"{table.place(row)}: {tried[-1]} is missing: put the file there, or take the line away")

    @cached_property
    def _files(self) -> list[Path]:
        return all_files(self.folder)

    @cached_property
    def _whole(self) -> dict[str, list[Path]]:
        return _by_key(self._files, lambda path: path)

    @cached_property
    def _stems(self) -> dict[str, list[Path]]:
        return _by_key(_fitting(self._files, self.wanted), lambda path: path.with_suffix(""))


def _by_key(files: Sequence[Path], part: Callable[[Path], Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in files:
        found.setdefault(_composed(os.path.normpath(part(path))), []).append(path)
    return found


def _split_of(table: Table, row: int, told: str) -> str:
    found = SPLIT_NAMES.get(told.lower(), "")
    if not found:
        held = f"'{told}' is no split" if told else "no split is given"
        raise InputError(
            f"{table.place(row)}: {held}: write {', '.join(SPLITS)} in every line, or leave the column out"
        )
    return found


def grouped(samples: list[S], wanted: Wanted) -> list[S]:
    """Return samples with the groups that a pattern tells."""
    pattern = wanted.group_pattern
    if pattern is None:
        return samples
    return [replace(sample, group=told_group(pattern, sample.name, str(sample.path))) for sample in samples]


def _require_whole(folder: Path, samples: Sequence[Sample]) -> None:
    """Refuse a folder whose only class is a folder of classes, as archives unpack into one of their own name."""
    labels = {sample.label for sample in samples}
    inner = folder
    while len(folders := visible_folders(inner)) == 1:
        inner = folders[0]
    if len(labels) == 1 and folders and inner != folder:
        names = ", ".join(path.name for path in folders[:3])
        raise InputError(
            f"task.data: {folder}: one class, '{min(labels)}', whose folder has further ones ({names}): did you mean "
            f"{inner}? Else add another class"
        )


def _require_classes(folder: Path, samples: Sequence[Sample]) -> None:
    labels = sorted({sample.label for sample in samples})
    if len(labels) == 1:
        raise InputError(f"{folder}: one class, '{labels[0]}': there is nothing to tell apart; add another")
    small: dict[str, str] = {}
    for label in labels:
        twin = small.setdefault(label.lower(), label)
        if twin != label:
            raise InputError(f"{folder}: the labels '{twin}' and '{label}': one class? Write it in one way")


def _fitting(files: Sequence[Path], wanted: Wanted) -> list[Path]:
    return [path for path in files if path.suffix.lower() in wanted.suffixes]


def _ends(wanted: Wanted) -> str:
    return ", ".join(wanted.suffixes)


def _name(folder: Path, path: Path) -> str:
    try:
        inner = path.relative_to(folder)
    except ValueError:
        inner = path
    return readable_name(inner.as_posix())
