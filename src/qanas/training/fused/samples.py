"""Compiled: the samples of a batch, laid side by side."""

from __future__ import annotations

import numpy as np

from qanas.core.compilation import part
from qanas.training.fused.lanes import WIDTH, FloatArray, IntArray, copy_transposed


@part
def gather(
    inputs: FloatArray,
    indices: IntArray,
    first: int,
    sizes: tuple[int, int, int, int, int],
    space: FloatArray,
    at: int,
) -> None:
    """Copy samples from (sample, step, feature) to (step, row, sample); the features are the first rows.

    Lanes beyond the batch get zeros: with a zero gradient of the output they add nothing.

    Args:
        inputs: of all samples.
        indices: the batch.
        first: the chunk's first sample of the batch.
        sizes: steps, features, rows of a step, lanes, used lanes.
        space: the workspace.
        at: where the rows start.
    """
    steps, features, rows, lanes, used = sizes
    row = rows * lanes
    length = steps * features
    for q in range(0, used, WIDTH):
        samples = indices[first + q : first + q + WIDTH]
        if len(samples) == WIDTH and features >= WIDTH:
            p0, p1, p2, p3 = (
                samples[0] * length,
                samples[1] * length,
                samples[2] * length,
                samples[3] * length,
            )
            p4, p5, p6, p7 = (
                samples[4] * length,
                samples[5] * length,
                samples[6] * length,
                samples[7] * length,
            )
            for t in range(steps):
                for block in range(0, features, WIDTH):
                    f = min(block, features - WIDTH)  # the last block overlaps the one before it
                    s = t * features + f
                    places = (p0 + s, p1 + s, p2 + s, p3 + s, p4 + s, p5 + s, p6 + s, p7 + s)
                    copy_transposed(inputs, places, space, at + t * row + f * lanes + q, lanes)
            continue
        for lane in range(WIDTH):
            for t in range(steps):
                for f in range(features):
                    target = at + t * row + f * lanes + q + lane
                    if lane < len(samples):
                        space[target] = inputs[samples[lane] * length + t * features + f]
                    else:
                        space[target] = np.float32(0.0)
