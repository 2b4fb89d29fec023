"""Bad folders of pictures: taken as people expect, or refused in one line that names file, line and mend."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.tasks.bad_folders import Case, both, refused, taken, try_case, write

from qanas.tasks.images import Images

COUNT = 5
SIZE = 8


def noise(seed: int, *shape: int) -> Any:  # noqa: ANN401
    return np.random.default_rng(seed).integers(0, 256, shape or (SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for number, label in enumerate(("cat", "dog")):
        (folder / label).mkdir()
        for index in range(COUNT):
            Image.fromarray(noise(10 * number + index)).save(folder / label / f"{index}.png")
    return folder


def save(name: str, values: Any, mode: str | None = None, **options: Any) -> Any:  # noqa: ANN401
    """Return a change that saves a picture."""

    def change(folder: Path) -> None:
        image = Image.fromarray(values)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (image.convert(mode) if mode else image).save(folder / name, **options)

    return change


def table(text: str | bytes, name: str = "labels.csv") -> Any:  # noqa: ANN401
    """Return a change that writes a table of labels; {all} are sound lines of every file."""

    def change(folder: Path) -> None:
        lines = "".join(f"{p.relative_to(folder).as_posix()},{p.parent.name}\n" for p in sorted(folder.glob("*/*.png")))
        content = text.replace("{all}", lines) if isinstance(text, str) else text.replace(b"{all}", lines.encode())
        write(folder / name, content)

    return change


def into_splits(*names: str) -> Any:  # noqa: ANN401
    """Return a change that deals classes' files out to folders of splits, the last file to the last split."""

    def change(folder: Path) -> None:
        for label in ("cat", "dog"):
            for index in range(COUNT):
                split = names[min(index, len(names) - 1)] if index else names[0]
                (folder / split / label).mkdir(parents=True, exist_ok=True)
                shutil.move(folder / label / f"{index}.png", folder / split / label)
            (folder / label).rmdir()

    return change


def untouched(folder: Path) -> None:
    pass


def turned(folder: Path) -> None:
    values = np.zeros((SIZE, SIZE, 3), np.uint8)
    values[: SIZE // 2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(values).save(folder / "cat/0.png", exif=exif)


def sixteen(folder: Path) -> None:
    for index, path in enumerate(sorted(folder.glob("*/*.png"))):
        Image.fromarray(noise(index, SIZE, SIZE).astype(np.uint16) * 200).save(path)


def animated(folder: Path) -> None:
    frames = [Image.fromarray(noise(index)) for index in range(3)]
    frames[0].save(folder / "cat/moving.webp", save_all=True, append_images=frames[1:])


def three_of_a_class(folder: Path) -> None:
    for index in range(3):
        save(f"rare/{index}.png", noise(90 + index))(folder)


def chained(folder: Path) -> None:
    for label in ("cat", "dog"):
        for index in range(COUNT):
            (folder / label / f"{index}.png").rename(folder / label / f"p{index % 3}_{index}.png")


def without_folders(folder: Path) -> None:
    for path in sorted(folder.glob("*/*.png")):
        path.rename(folder / f"{path.parent.name}{path.name}")
    for label in ("cat", "dog"):
        (folder / label).rmdir()


def one_of_each(folder: Path) -> None:
    for path in sorted(folder.glob("*/[1-9].png")):
        path.unlink()


def within_itself(folder: Path) -> None:
    """Put all into a folder of the folder's own name, as archives do."""
    (folder / folder.name).mkdir()
    for label in ("cat", "dog"):
        (folder / label).rename(folder / folder.name / label)


def linked(name: str, target: str) -> Any:  # noqa: ANN401
    """Return a change that adds a link."""
    return lambda folder: (folder / name).symlink_to(folder / target)


def listed(name: str, text: str) -> Any:  # noqa: ANN401
    """Return a change that writes a list of files."""
    return lambda folder: write(folder / name, text)


def without_suffixes(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text(path.read_text("utf-8").replace(".png", ""), "utf-8")


def of_a_mac(folder: Path) -> None:
    """Call a class by an accent of its own in the table, and by a letter that has it in the folder."""
    (folder / "cat").rename(folder / "caf\u00e9")
    TABLE(folder)
    in_table("caf\u00e9", "cafe\u0301")(folder)


def in_table(old: str, new: str) -> Any:  # noqa: ANN401
    """Return a change of what is in the table of labels."""

    def change(folder: Path) -> None:
        path = folder / "labels.csv"
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))

    return change


TABLE = table("file,label\n{all}")


def classes(*names: str) -> Any:  # noqa: ANN401
    return lambda data: data.preprocessing["classes"] == list(names)


def total(count: int) -> Any:  # noqa: ANN401
    return lambda data: len(data.train) + len(data.val) + len(data.test) == count


def per_group(data: Any) -> bool:  # noqa: ANN401
    found = [set(split.extras["group"].tolist()) for split in (data.train, data.val, data.test)]
    return not (found[0] & found[1] or found[0] & found[2] or found[1] & found[2])


CASES = [
    taken("nothing wrong", untouched, check=classes("cat", "dog")),
    # The folder
    refused("no folder", shutil.rmtree, "task.data", "does not exist"),
    refused("a file", both(shutil.rmtree, lambda f: f.write_text("x")), "task.data", "is not a folder"),
    refused("nothing in it", both(shutil.rmtree, Path.mkdir), "no pictures", "labels.csv"),
    refused("one class", lambda f: shutil.rmtree(f / "dog"), "one class, 'cat'", "add another"),
    refused("unpacked into a folder of its own name", within_itself, "one class, 'data'", "did you mean", "data/data?"),
    taken("a link that goes round", linked("cat/loop", "."), check=total(10)),
    taken("links that go round together", both(linked("cat/x", "dog"), linked("dog/y", "cat")),
          check=classes("cat", "dog")),
    taken("a link to another folder", both(save("../apart/x.png", noise(50)), linked("cat/more", "../apart")),
          check=total(11)),
    refused("an empty class", lambda f: (f / "eel").mkdir(), "eel: empty", "take the folder away"),
    refused("a class of texts", lambda f: write(f / "eel/a.txt", "x"), "eel: none of its 1 files ends in .bmp"),
    refused("capitals", save("Cat/0.png", noise(50)), "one name", "cat"),
    refused(
        "pictures without folders",
        without_folders,
        "pictures without a class",
    ),
    taken("pictures beside classes", save("stray.png", noise(50)), "1 pictures lie beside the classes' folders"),
    taken("texts among pictures", lambda f: write(f / "cat/notes.txt", "x"), "1 files of", check=total(10)),
    taken("hidden files", lambda f: write(f / "cat/._0.png", "x"), check=total(10)),
    taken("a hidden folder", lambda f: write(f / ".git/0.png", "x"), check=classes("cat", "dog")),
    taken("what systems leave", lambda f: write(f / "cat/Thumbs.db", "x"), check=total(10)),
    taken("an archive's rest", lambda f: write(f / "__MACOSX/cat/0.png", "x"), check=classes("cat", "dog")),
    taken("upper-case suffixes", lambda f: (f / "cat/0.png").rename(f / "cat/0.PNG"), check=total(10)),
    taken("folders in a class", save("cat/more/x.png", noise(50)), check=total(11)),
    taken("names in other scripts", save("猫 é/0.png", noise(50)), "fewer than 3 samples of 猫 é (1)"),
    taken("a class of three", three_of_a_class, check=lambda data: {2} <= set(data.test.targets.tolist())),
    taken("a class of one", save("rare/0.png", noise(50)), "fewer than 3 samples of rare (1)"),
    refused(
        "two files",
        one_of_each,
        "nothing is left for val", "2 samples",
    ),
    # Splits
    taken("lists of splits", both(listed("validation_list.txt", "cat/0.png\ndog/0.png\ndog/gone.png\n"),
                                  listed("testing_list.txt", "cat/1.png\r\n./dog/1.png\r\ncat\\2.png\r\n")),
          "val is what validation_list.txt lists: 2 files, 1 of its files aren't here",
          lambda data: [len(split) for split in (data.train, data.val, data.test)] == [5, 2, 3]),
    taken("a list of one split", listed("testing_list.txt", "cat/1.png\ndog/1.png\n"),
          check=lambda data: len(data.test) == 2 and len(data.val) > 0),
    taken("a list of other files", listed("testing_list.txt", "0.png\n"), "names none of the files", total(10)),
    refused("a file in two lists", both(listed("testing_list.txt", "cat/1.png\n"),
                                        listed("validation_list.txt", "cat/1.png\n")), "cat/1.png is in another list"),
    taken("three splits", into_splits("train", "val", "test"), check=lambda data: len(data.val) == 2),
    taken("other names of splits", into_splits("Training", "valid", "testing"), check=lambda data: len(data.val) == 2),
    taken("no validation", into_splits("train", "train", "train", "train", "test"), check=lambda d: len(d.test) == 2),
    refused("no training", into_splits("test"), "no train/"),
    refused("two for one split", into_splits("train", "val", "valid"), "two folders for val"),
    refused(
        "a class that isn't trained",
        both(into_splits("train", "val", "test"), save("test/eel/0.png", noise(50))),
        "test/eel", "train/ has no 'eel'",
    ),
    taken(
        "a class that isn't tested",
        both(into_splits("train", "val", "test"), save("train/eel/0.png", noise(50))),
        "test has no eel",
    ),
    taken("a class called train", save("train/0.png", noise(50)), check=classes("cat", "dog", "train")),
    taken(
        "the same in train and test",
        both(into_splits("train", "val", "test"), lambda f: shutil.copy(f / "train/cat/0.png", f / "test/cat/x.png")),
        "in train and in test: scores will be too good",
    ),
    taken("equal files", lambda f: shutil.copy(f / "cat/0.png", f / "cat/9.png"), "1 files equal another", per_group),
    taken("equal files of two classes", lambda f: shutil.copy(f / "cat/0.png", f / "dog/9.png"), "different labels"),
    taken("people in names", chained, check=per_group, group_pattern=r"(p\d)_"),
    refused("names without people", chained, "its name tells no group", group_pattern=r"(q\d)_"),
    refused("a pattern that is none", chained, "no regular expression", group_pattern="("),
    refused("a pattern without a group", chained, "it has 0 groups", group_pattern="p"),
    refused("all of one person", untouched, "nothing is left for val", group_pattern=r"(\.)png"),
    refused("a column without a table", untouched, "task.group", group="speaker"),
    # Pictures
    refused("a damaged picture", lambda f: write(f / "cat/0.png", (f / "cat/0.png").read_bytes()[:60]), "cat/0.png"),
    refused("an empty file", lambda f: write(f / "cat/0.png", ""), "cat/0.png: not a readable image"),
    refused("a page in place of it", lambda f: write(f / "cat/0.jpg", "<html>"), "not a readable image", "fetch"),
    refused("a link to nothing", lambda f: (f / "cat/x.png").symlink_to(f / "gone"), "x.png: can't be read"),
    taken("a palette", save("cat/0.png", noise(5), "P"), check=total(10)),
    taken("a palette with transparency", save("cat/0.gif", noise(5), "P", transparency=b"\x00\x80"), check=total(11)),
    taken("transparency", save("cat/0.png", noise(5, SIZE, SIZE, 4)), check=total(10)),
    taken("grey", save("cat/0.png", noise(5, SIZE, SIZE)), check=total(10)),
    taken("black and white", save("cat/0.png", noise(5, SIZE, SIZE), "1"), check=total(10)),
    taken("printer's colours", save("cat/0.jpg", noise(5), "CMYK"), check=total(11)),
    taken("16 bits", sixteen, "one deep value a pixel"),
    refused("16 bits among 8", save("cat/1.png", noise(5, SIZE, SIZE).astype(np.uint16) * 99), "save all pictures"),
    taken("turned by EXIF", turned, "1 pictures were turned upright"),
    taken("moving", animated, check=total(11)),
    taken("one pixel", save("cat/0.png", noise(5, 1, 1, 3)), check=total(10)),
    taken("long and thin", save("cat/0.png", noise(5, 1, 300, 3)), check=total(10), fit="crop"),
    # Tables of labels
    taken("a table", table("file,label\n{all}"), check=classes("cat", "dog")),
    taken("names without suffix", both(TABLE, without_suffixes), check=total(10)),
    refused("a name of two files", both(TABLE, without_suffixes, save("cat/0.jpg", noise(60))), "line 2",
            "is 0 0.jpg or 0.png? Write its whole name"),
    taken("names of a Mac", of_a_mac, check=total(10)),
    taken("semicolons", both(TABLE, in_table(",", ";")), check=total(10)),
    taken("a byte order mark", table("\ufefffile,label\n{all}"), check=total(10)),
    taken("other names of columns", table("Filename,Class\n{all}"), check=total(10)),
    taken("backslashes", both(TABLE, in_table("/", "\\")), check=total(10)),
    taken("blank lines", table("file,label\n\n{all}\n\n"), check=total(10)),
    taken("Windows' line ends", both(TABLE, in_table("\n", "\r\n")), check=total(10)),
    taken("not UTF-8", table(b"file,label,by\n{all}".replace(b"{all}", b"cat/0.png,k\xe4tzchen,x\ncat/1.png,cat,y\n"
          b"cat/2.png,cat,x\ncat/3.png,cat,z\n")), "no UTF-8"),
    taken("a line twice", table("file,label\n{all}cat/0.png,cat\n"), "1 lines of labels.csv repeat another one"),
    taken("files that it leaves out", table("file,label\n" + "".join(f"cat/{i}.png,{i % 2}\n" for i in range(4))),
          "6 pictures in"),
    refused("a missing file", table("file,label\n{all}cat/x.png,cat\n"), "line 12", "cat/x.png is missing"),
    refused("two labels", table("file,label\n{all}cat/0.png,dog\n"), "line 12", "'cat' in line 2"),
    refused("no label", table("file,label\n{all}cat/0.png,\n"), "line 12", "has no label"),
    refused("no file", table("file,label\n{all},cat\n"), "line 12", "no file is named"),
    refused("no column of labels", table("file,what\n{all}"), "no column of labels", "file, what"),
    refused("no column of files", table("x,label\n{all}"), "no column of files"),
    refused("a column too many", table("file,label\n{all}cat/0.png,a,b\n"), "line 12: 3 columns, the header has 2"),
    refused("a column twice", table("file,label,label\n"), "'label' is there twice"),
    refused("a header alone", table("file,label\n"), "no rows"),
    refused("an empty table", table(""), "labels.csv: empty"),
    refused("a spreadsheet", table(b"PK\x03\x04..."), "a spreadsheet"),
    refused("a binary table", table(b"a\0b"), "not plain text"),
    refused("a table that isn't there", untouched, "task.labels", "my.csv is missing", labels="my.csv"),
    refused("a file of another kind", both(lambda f: write(f / "a.txt", "x"), table("file,label\n{all}a.txt,cat\n")),
            "a.txt is not one of pictures"),
    refused("a split that is none", table("file,label,split\ncat/0.png,cat,trian\n"), "line 2", "'trian' is no split"),
    refused("no line of training", table("file,label,split\ncat/0.png,cat,test\n"), "no line says train"),
    refused("a column of groups that isn't there", table("file,label\n{all}"), "task.group", "person", group="person"),
    # Settings
    refused("weights of other classes", untouched, "3 numbers for 2 classes", class_weights=(1.0, 1.0, 1.0)),
    refused("weights of nothing", untouched, "all are 0", class_weights=(0.0, 0.0)),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_folder_of_pictures(case: Case, sound_folder: Path, tmp_path: Path) -> None:
    try_case(case, sound_folder, tmp_path, lambda name: Images(name, size=SIZE, **case.settings))
