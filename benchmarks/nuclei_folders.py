"""Lay out the nuclei of the Data Science Bowl 2018 as folders of images and masks, 128 x 128 at native resolution.

    python benchmarks/nuclei_folders.py $QANAS_DATA/nuclei_dsb2018/nuclei_dsb2018.tar /data/nuclei128

Pictures that look like one acquisition stay together: those of equal size, kind, and brightness (median and deviation,
in steps of 8 of 255), and those whose difference hashes are at most 4 bits apart. Groups are dealt out by kind and
size, the largest first, to the part that lacks most of its share: half to train, a fifth to validation, the rest to
test. No mask is looked at. A sample of validation or test is the middle 128 x 128 pixels of a picture; a training
picture gives two opposite quarters of its middle 256 x 256. Brightness is stretched from the 1st to the 99.8th
percentile of each picture, as microscopes' viewers do. A file is called ``gGROUP-PICTURE[-QUARTER]``.
"""

from __future__ import annotations

import argparse
import collections
import io
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 128
SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}
BRIGHTNESS_STEP = 8
HASH_SIZE = (9, 8)
SAME_HASH_BITS = 4
STRETCHED = (1, 99.8)
TRAINING_QUARTERS = (0, 3)
"""Above left and below right."""


@dataclass(frozen=True)
class Picture:
    """A picture and its mask.

    Attributes:
        name: of its files.
        image: grey or coloured.
        mask: 0, 1 for a nucleus, 2 for its outline.
    """

    name: str
    image: Image.Image
    mask: Image.Image

    @property
    def kind(self) -> tuple[str, tuple[int, int]]:
        """Grey or coloured, and its size."""
        return self.image.mode, self.image.size

    @property
    def look(self) -> tuple[int, int]:
        """The steps of its brightness's median and deviation."""
        grey = np.asarray(self.image.convert("L"), np.float64)
        return int(np.median(grey) // BRIGHTNESS_STEP), int(grey.std() // BRIGHTNESS_STEP)

    @property
    def difference_hash(self) -> NDArray[np.bool_]:
        """Where brightness rises from one pixel of a thumbnail to the next, shape (64,)."""
        small = np.asarray(self.image.convert("L").resize(HASH_SIZE, Image.Resampling.BILINEAR), np.int64)
        return (np.diff(small, axis=1) > 0).reshape(-1)

    @cached_property
    def stretched(self) -> Image.Image:
        """The picture in colour, its brightness from one end of the scale to the other."""
        low, high = np.percentile(np.asarray(self.image.convert("L"), np.float64), STRETCHED)
        values = (np.asarray(self.image.convert("RGB"), np.float64) - low) * 255 / max(high - low, 1)
        return Image.fromarray(values.round().clip(0, 255).astype(np.uint8))

    def crop(self, left: int, top: int) -> tuple[Image.Image, Image.Image]:
        """Return a part of the picture, and where nuclei are in it."""
        box = (left, top, left + SIDE, top + SIDE)
        nuclei = (np.asarray(self.mask.crop(box)) > 0).astype(np.uint8)
        return self.stretched.crop(box), Image.fromarray(nuclei)

    def parts(self, split: str) -> Iterator[tuple[str, Image.Image, Image.Image]]:
        """Yield name, image and mask of each sample that it gives in a split."""
        left, top = (self.image.width - SIDE) // 2, (self.image.height - SIDE) // 2
        if split != "train":
            yield self.name, *self.crop(left, top)
            return
        for quarter in TRAINING_QUARTERS:
            down, right = divmod(quarter, 2)
            yield (
                f"{self.name}-{quarter}",
                *self.crop(left + (2 * right - 1) * SIDE // 2, top + (2 * down - 1) * SIDE // 2),
            )


def read(archive: Path) -> list[Picture]:
    """Return all pictures of the archive, by name."""
    with tarfile.open(archive) as tar:
        contents = {m.name: tar.extractfile(m).read() for m in tar.getmembers() if m.isfile()}  # type: ignore[union-attr]
    pictures = []
    for path in sorted(name for name in contents if "/images/" in name):
        mask = path.replace("/images/", "/masks/").replace(".jpg", ".png")
        image, nuclei = (Image.open(io.BytesIO(contents[name])) for name in (path, mask))
        pictures.append(Picture(Path(path).stem, image, nuclei))
    return pictures


def groups_of(pictures: Sequence[Picture]) -> list[list[Picture]]:
    """Return pictures that look like one acquisition together, the largest group first."""
    parents = list(range(len(pictures)))

    def root(index: int) -> int:
        while parents[index] != index:
            index = parents[index]
        return index

    first: dict[object, int] = {}
    for index, picture in enumerate(pictures):
        parents[root(index)] = root(first.setdefault((picture.kind, picture.look), index))
    hashes = np.stack([picture.difference_hash for picture in pictures])
    apart = (hashes[:, None] != hashes[None]).sum(axis=-1)
    for one, other in np.argwhere(np.triu(apart <= SAME_HASH_BITS, 1)):
        parents[root(one)] = root(other)
    groups: dict[int, list[Picture]] = collections.defaultdict(list)
    for index, picture in enumerate(pictures):
        groups[root(index)].append(picture)
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].name))


def dealt(groups: Sequence[Sequence[Picture]]) -> Mapping[int, str]:
    """Return the split of each group, by its number."""
    totals = collections.Counter(group[0].kind for group in groups for _ in group)
    found: dict[int, str] = {}
    have: collections.Counter[tuple[object, str]] = collections.Counter()
    for number, group in enumerate(groups):
        kind = group[0].kind
        lacking = {split: share * totals[kind] - have[kind, split] for split, share in SHARES.items()}
        found[number] = max(lacking, key=lambda split: lacking[split])
        have[kind, found[number]] += len(group)
    return found


def main() -> None:
    """Write the folders, and print how many samples, pictures and groups each split has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    groups = groups_of(read(arguments.archive))
    splits = dealt(groups)
    for split in SHARES:
        images, masks = arguments.out / split, arguments.out / f"{split}annot"
        for folder in (images, masks):
            folder.mkdir(parents=True, exist_ok=True)
        own = [(number, picture) for number, group in enumerate(groups) if splits[number] == split for picture in group]
        samples = [(number, part) for number, picture in own for part in picture.parts(split)]
        for number, (name, image, mask) in samples:
            image.save(images / f"g{number:02}-{name}.png")
            mask.save(masks / f"g{number:02}-{name}.png")
        print(f"{split}: {len(samples)} samples of {len(own)} pictures in {len({number for number, _ in own})} groups")


if __name__ == "__main__":
    main()
