"""Random seeds, each derived from the run's seed and what it is for."""

from __future__ import annotations

import hashlib


def derive_seed(run_seed: int, *purpose: str | int) -> int:
    """Return a seed in [0, 2^31) that depends on nothing but the arguments.

    Seeds never come from the state of another generator: that is what makes a resumed run equal an
    uninterrupted one.

    >>> derive_seed(0, "sampler", 3) == derive_seed(0, "sampler", 3) != derive_seed(0, "sampler", 4)
    True
    """
    text = "/".join(str(part) for part in (run_seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
