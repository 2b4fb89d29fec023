"""Folders of pictures with boxes in three forms: read alike, and what is wrong is refused in one line."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.tasks.bad_folders import Case, refused, taken, try_case

from qanas.core.errors import InputError
from qanas.recipe.new import suggestion_for
from qanas.tasks.detection import Detection
from qanas.tasks.detection.boxes import IGNORED, OBJECT
from qanas.tasks.detection.reader import find_pictures, has_boxes
from qanas.tasks.images import Images

COUNT, HEIGHT, WIDTH = 12, 20, 40
Tables = dict[str, list[dict[str, Any]]]


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in range(COUNT):
        pixels = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def tables() -> Tables:
    """Every picture but the first has a person; the last has a dog in a crowd, too."""
    boxes: list[dict[str, Any]] = [
        {"id": number, "image_id": number, "category_id": 1, "bbox": [number, 2, 16, 12]} for number in range(1, COUNT)
    ]
    boxes.append({"id": 99, "image_id": COUNT - 1, "category_id": 2, "bbox": [0, 0, 8, 8], "iscrowd": 1, "area": 30})
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "height": HEIGHT, "width": WIDTH} for n in range(COUNT)
        ],
        "annotations": boxes,
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip


def coco(folder: Path) -> Path:
    write_pictures(folder / "images")
    (folder / "annotations.json").write_text(json.dumps(tables()))
    return folder


def voc(folder: Path) -> Path:
    write_pictures(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    for picture in range(COUNT):
        own = [entry for entry in tables()["annotations"] if entry["image_id"] == picture]
        objects = ""
        for entry in own:
            left, top, width, height = entry["bbox"]
            sides = (
                f"<xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{left + width}</xmax><ymax>{top + height}</ymax>"
            )
            name, hard = ("person", "dog")[entry["category_id"] - 1], entry.get("iscrowd", 0)
            objects += f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox>{sides}</bndbox></object>"
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        text = f"<annotation><filename>{picture}.png</filename>{size}{objects}</annotation>"
        (folder / "Annotations" / f"{picture}.xml").write_text(text)
    return folder


def yolo(folder: Path) -> Path:
    write_pictures(folder / "images")
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text("nc: 2\nnames: [person, dog]\n")
    for entry in tables()["annotations"]:
        left, top, width, height = entry["bbox"]
        numbers = ((left + width / 2) / WIDTH, (top + height / 2) / HEIGHT, width / WIDTH, height / HEIGHT)
        with (folder / "labels" / f"{entry['image_id']}.txt").open("a") as file:
            file.write(f"{entry['category_id'] - 1} {' '.join(map(str, numbers))}\n")
    return folder


@pytest.mark.parametrize("write", [coco, voc, yolo])
def test_three_forms_hold_the_same(tmp_path: Path, write: Any) -> None:  # noqa: ANN401
    found, classes, remarks = find_pictures(write(tmp_path / "data"), ["person"])
    assert classes == ("person",)
    assert remarks == ["boxes of 1 other classes are left out, such as dog (1)"]
    expected = coco(tmp_path / "coco")
    same, _, _ = find_pictures(expected, ["person"])
    assert [sample.path.name for sample in found] == [sample.path.name for sample in same]
    for one, other in zip(found, same, strict=True):
        assert [box.corners for box in one.boxes] == [pytest.approx(box.corners) for box in other.boxes]
    everything, classes, _ = find_pictures(tmp_path / "data", ())
    kinds = {box.kind for sample in everything for box in sample.boxes if box.label == "dog"}
    assert classes == ("dog", "person")
    assert kinds == ({OBJECT} if write is yolo else {IGNORED})
    assert suggestion_for(tmp_path / "data").task == "detection"


def test_other_texts_beside_pictures_are_no_boxes(tmp_path: Path) -> None:
    write_pictures(tmp_path / "data" / "cat")
    write_pictures(tmp_path / "data" / "dog")
    (tmp_path / "data" / "cat" / "3.txt").write_text("a cat on a chair")
    (tmp_path / "data" / "about.json").write_text('{"by": "me"}')
    assert suggestion_for(tmp_path / "data").task == "images"


def test_splits_are_those_of_folders_and_lists(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data")
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(map(str, range(6))))
    (lists / "val.txt").write_text("6 1\n7\n8\n")
    found, *_ = find_pictures(folder, ["person"])
    assert [sample.split for sample in found] == ["train"] * 6 + ["val"] * 3


def test_pictures_in_an_archive_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = coco(tmp_path / "data")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    before, *_ = find_pictures(folder, [])
    with tarfile.open(folder / "images.tar", "w") as archive:
        archive.add(folder / "images", "images")
    for path in (folder / "images").iterdir():
        path.unlink()
    after, *_ = find_pictures(folder, [])
    assert [sample.told for sample in after] == [sample.told for sample in before]
    assert all(sample.path.is_relative_to(tmp_path / "cache") for sample in after)


@pytest.fixture(scope="module")
def sound_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco(tmp_path_factory.mktemp("boxes") / "data")


def changed(part: str, at: int, **values: Any) -> Any:  # noqa: ANN401
    """Return a change of an entry of the table."""

    def change(folder: Path) -> None:
        own = tables()
        own[part][at] |= values
        (folder / "annotations.json").write_text(json.dumps(own))

    return change


def appended(folder: Path, part: str, entry: object) -> None:
    own = tables()
    (folder / "annotations.json").write_text(json.dumps({**own, part: [*own[part], entry]}))


def ids_as_texts(folder: Path) -> None:
    own = tables()
    for entry in own["annotations"]:
        entry.update(image_id=str(entry["image_id"]), category_id=float(entry["category_id"]))
    (folder / "annotations.json").write_text(json.dumps(own))


BOX = "the box from"
CASES = [
    taken("sound", lambda folder: None, "boxes of 1 other classes"),  # noqa: ARG005
    refused("outside", changed("annotations", 3, bbox=[35, 2, 20, 12]), "annotation 4", BOX, "outside", "40 x 20"),
    refused("beyond", changed("annotations", 3, bbox=[-9, 2, 4, 12]), "annotation 4", BOX, "outside"),
    refused("no width", changed("annotations", 3, bbox=[4, 2, 0, 12]), "annotation 4", "has no size"),
    refused("no numbers", changed("annotations", 3, bbox=[4, 2, None, 1]), "annotation 4", "are no numbers"),
    refused("three numbers", changed("annotations", 3, bbox=[4, 2, 1]), "annotation 4", "give [left, top,"),
    refused("NaN", changed("annotations", 3, bbox=[4, 2, float("nan"), 1]), "annotation 4", "is no number"),
    taken("a pixel too far", changed("annotations", 3, bbox=[24.5, 2, 16, 12]), "1 boxes stick out"),
    refused("unknown class", changed("annotations", 3, category_id=7), "annotation 4", "unknown class 7"),
    refused("unknown image", changed("annotations", 3, image_id=77), "annotation 4", "no image 77"),
    refused("missing", changed("images", 3, file_name="gone.png"), "image 3", "gone.png is missing"),
    refused("other size", changed("images", 3, width=41), "image 3", "41 x 20", "40 x 20"),
    refused(
        "two classes of one id",
        lambda folder: appended(folder, "categories", {"id": 1, "name": "car"}),
        "'categories': the id 1 is that of",
        "'car'",
        "give each its own",
    ),
    refused(
        "two pictures of one id", changed("images", 3, id=1), "'images': the id 1 is that of '1.png' and of '3.png'"
    ),
    refused(
        "a class that is no entry", lambda folder: appended(folder, "categories", "car"), "'categories' holds 'car'"
    ),
    taken("ids as texts", ids_as_texts),
    refused("twice", changed("images", 3, file_name="4.png"), "4.png is named twice"),
    refused("no such class", lambda folder: None, "task.classes", "persn", "person", classes=("persn",)),  # noqa: ARG005
    refused("no JSON", lambda folder: (folder / "annotations.json").write_text("{"), "annotations.json", "no JSON"),
    refused("other JSON", lambda folder: (folder / "annotations.json").write_text("{}"), "no list 'images'"),
    refused("no boxes", lambda folder: (folder / "annotations.json").unlink(), "no boxes", "COCO", "YOLO"),
    refused("damaged", lambda folder: (folder / "images" / "3.png").write_bytes(b"x"), "3.png", "not a readable image"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_folder_is_taken_or_refused(case: Case, sound_folder: Path, tmp_path: Path) -> None:
    settings = {"classes": ("person",)} | case.settings

    def task_of(folder: str) -> Detection:
        return Detection(folder, width=49, aspect=0.6, **settings)

    try_case(case, sound_folder, tmp_path, task_of)


def test_lines_of_yolo_are_named(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "data")
    text = folder / "labels" / "3.txt"
    for line, said in (
        ("0 0.5 0.5 0.2", "write class, and centre x"),
        ("0 0.5 0.5 0.2 0.2 0.9", "write class, and centre x"),  # a detector's confidence: no truth
        ("nan 0.5 0.5 0.2 0.2", "write class, and centre x"),
        ("0 0.1 0.1 0.5 0.1 0.9 nan", "write class, and centre x"),
        ("0 10 10 50 10 90 90", "write class, and centre x"),  # readings, or pixels
        ("5 0.5 0.5 0.2 0.2", "unknown class 5: data.yaml names 2"),
        ("0 0.99 0.5 0.2 0.2", "outside of its picture of 40 x 20"),
    ):
        text.write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
        with pytest.raises(InputError, match=said) as caught:
            find_pictures(folder, [])
        assert "3.txt: line 2" in str(caught.value)
        with pytest.raises(InputError, match=r"3\.txt: line 2"):
            suggestion_for(folder)  # one wrong line among many that are right makes it no other kind of data


def test_polygons_are_the_boxes_around_them(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "data")
    (folder / "labels" / "3.txt").write_text("0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5\n")
    found, _, _ = find_pictures(folder, ["person"])
    (box,) = next(sample.boxes for sample in found if sample.path.name == "3.png")
    assert box.corners == pytest.approx((0.25 * WIDTH, 0.25 * HEIGHT, 0.75 * WIDTH, 0.75 * HEIGHT))


@pytest.mark.parametrize("shape", ["[3, 3]", "[4, 2]"], ids=["visibility", "points alone"])
def test_keypoints_behind_boxes_are_passed_over(tmp_path: Path, shape: str) -> None:
    folder = yolo(tmp_path / "data")
    expected = find_pictures(folder, [])
    points, numbers = map(int, shape.strip("[]").split(","))
    behind = " ".join(["0.9 0.9 2.0"[: 4 * numbers]] * points)
    for path in folder.glob("labels/*.txt"):
        path.write_text("".join(f"{line} {behind}\n" for line in path.read_text().splitlines()))
    if numbers == 3:
        assert not has_boxes(folder)
    with (folder / "data.yaml").open("a") as file:
        file.write(f"kpt_shape: {shape}\n")
    assert has_boxes(folder)
    assert find_pictures(folder, []) == expected


@pytest.mark.parametrize(
    "names",
    [
        "names: [person, dog]",
        "names:\n  1: dog\n  0: person",
        "names: {1: dog, 0: person}",
        "names: [\n  'person',\n  'dog'\n]",
        "names: person, dog",
        "path: C:\\x: y\nnames:\n- person\n- dog",
        "---\nnames: [person, dog]\n---\nother: 1",
        "names:\n\n- person\n- dog  # barks",
    ],
)
def test_names_of_classes_go_by_their_numbers(tmp_path: Path, names: str) -> None:
    folder = yolo(tmp_path / "data")
    expected = find_pictures(folder, [])
    (folder / "data.yaml").write_text(f"nc: 2\n{names}\npath: ../data\n")
    assert find_pictures(folder, []) == expected


def test_names_that_look_like_other_things_are_names(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "data")
    for names, told in (("[no, 'a, b']", ("a, b", "no")), ("{0: 7, 1: 8, 3: 9}", ("7", "8"))):
        (folder / "data.yaml").write_text(f"names: {names}\n")
        assert find_pictures(folder, [])[1] == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("names: [a, b", r"data\.yaml: no YAML: "),
        ("names: [%a]", r"data\.yaml: no YAML: "),
        ("names: {first: a}", r"names: first is no class's number: write"),
    ],
)
def test_a_description_that_can_not_be_read_is_told(tmp_path: Path, text: str, told: str) -> None:
    folder = yolo(tmp_path / "data")
    (folder / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        find_pictures(folder, [])


def test_json_about_a_project_is_no_table_of_boxes(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "data")
    expected = find_pictures(folder, [])
    (folder / "notes.json").write_text('{"categories": [], "info": {"version": "1.0"}}')
    assert has_boxes(folder)
    assert find_pictures(folder, []) == expected


def test_sides_of_a_picture_may_be_written_with_a_fraction(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data")
    expected = find_pictures(folder, [])
    paths = sorted(folder.glob("Annotations/*.xml"))
    for path in paths:
        path.write_text(path.read_text().replace("</width>", ".0</width>"))
    assert find_pictures(folder, []) == expected
    paths[0].write_text(paths[0].read_text().replace("<width>", "<width>wide "))
    with pytest.raises(InputError, match=rf"{paths[0].name}: size: .* are no numbers: mend them"):
        find_pictures(folder, [])


def test_a_byte_order_mark_is_no_number(tmp_path: Path) -> None:
    folder = yolo(tmp_path / "data")
    expected = find_pictures(folder, [])
    for path in [*folder.glob("labels/*.txt"), folder / "data.yaml"]:
        path.write_text(path.read_text("utf-8"), "utf-8-sig")
    assert find_pictures(folder, []) == expected


def test_boxes_tell_who_is_present(tmp_path: Path) -> None:
    folder = coco(tmp_path / "data")
    data = Images(str(folder), size=8, present="person", val_fraction=0.2, test_fraction=0.2)
    with data.divided() as found:
        labels = {sample.path.name: sample.label for own in found.samples.values() for sample in own}
    assert labels["0.png"] == "no_person"
    assert list(labels.values()).count("person") == COUNT - 1
    with pytest.raises(InputError, match=r"all 11 pictures .* are of 'no_dog'"):
        Images(str(folder), size=8, present="dog").load()


@pytest.mark.parametrize("seen", [{"fit": "crop"}, {"frame": (16, 16)}], ids=["crop", "frame"])
def test_who_is_present_is_who_is_seen(tmp_path: Path, seen: dict[str, Any]) -> None:
    folder = coco(tmp_path / "data")
    changed = tables()
    changed["annotations"][4]["bbox"] = [0, 2, 8, 12]  # of picture 5, beside the square in the middle
    changed["annotations"][5]["bbox"] = [0, 2, 12, 12]  # of picture 6, hardly in it
    (folder / "annotations.json").write_text(json.dumps(changed))
    kept = {}
    for name, settings in (("whole", {}), ("seen", seen)):
        task = Images(str(folder), size=8, present="person", val_fraction=0.2, test_fraction=0.2, **settings)
        with task.divided() as found:
            kept[name] = {sample.path.name: sample.label for own in found.samples.values() for sample in own}
    assert (kept["whole"]["5.png"], kept["whole"]["6.png"]) == ("person", "person")
    assert kept["seen"]["5.png"] == "no_person"
    assert "6.png" not in kept["seen"]
    assert kept["seen"]["1.png"] == "person"
