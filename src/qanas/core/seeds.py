"""Random seeds, each derived from the run's seed and what it is for."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


def derive_seed(run_seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2^31) that depends on nothing but the arguments.

    Seeds never come from the state of another generator: that is what makes a resumed run equal an
    uninterrupted one.

    >>> derive_seed(0, "sampler", 3) == derive_seed(0, "sampler", 3) != derive_seed(0, "sampler", 4)
    True
    """
    text = "/".join(str(part) for part in (run_seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


@contextmanager
def others_seeded(seed: int) -> Iterator[None]:
    """Let what a user's code draws inside from Python's or NumPy's global generator follow from a seed.

    Both are as they were afterwards; torch's is whoever's that calls.

    Args:
        seed: in [0, 2^31).
    """
    plain, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 - others' use of it
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)  # noqa: NPY002
