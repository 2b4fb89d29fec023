"""Write part of the CIFAR-10 pictures of $QANAS_DATA as a folder that the task `images` takes.

    python benchmarks/cifar10_folder.py $QANAS_DATA/cifar10_jpeg runs/cifar10 --train 4000 --val 1000 --test 2000

Test pictures are the last ones of the training file; rows go round the ten classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np


def main() -> None:
    """Write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=4000)
    parser.add_argument("--val", type=int, default=1000)
    parser.add_argument("--test", type=int, default=2000)
    arguments = parser.parse_args()
    for split, file in (("train", "train"), ("val", "val"), ("test", "train")):
        kept = np.load(arguments.source / f"{file}.npz", allow_pickle=False)
        count = getattr(arguments, split)
        first = len(kept["labels"]) - count if split == "test" else 0
        content, offsets = kept["jpeg"], kept["offsets"]
        for row in range(first, first + count):
            home = arguments.folder / split / str(kept["classes"][kept["labels"][row]])
            home.mkdir(parents=True, exist_ok=True)
            (home / f"{row:05d}.jpg").write_bytes(content[offsets[row] : offsets[row + 1]].tobytes())


if __name__ == "__main__":
    main()
