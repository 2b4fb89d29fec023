"""What follows the gradient in a step: penalties, clipping, the optimizer and the average of the weights, compiled."""

from __future__ import annotations

import numpy as np

from qanas.core.compilation import entry_point
from qanas.training.fused.lanes import FloatArray


@entry_point("f8(f4[::1], f4[::1], f4[::1], f4[::1])")
def add_penalty(weights: FloatArray, gradient: FloatArray, l1: FloatArray, l2: FloatArray) -> float:
    """Add the gradient of sum(l1 |w|) + sum(l2 w^2) and return that sum."""
    penalty = 0.0
    for n in range(len(weights)):
        w = weights[n]
        gradient[n] += l1[n] * np.sign(w) + np.float32(2.0) * l2[n] * w
        penalty += l1[n] * abs(w) + l2[n] * w * w
    return penalty


@entry_point("void(f4[::1], f4[::1], f4[:, ::1], b1, f4, i8, f4, f4)")
def update(
    weights: FloatArray,
    gradient: FloatArray,
    moments: FloatArray,
    adam: bool,
    learning_rate: float,
    step: int,
    clip: float,
    averaging: float,
) -> None:
    """Clip the gradient by its norm, take an optimizer step, and move the average of the weights.

    As ``torch.nn.utils.clip_grad_norm_``, ``torch.optim.Adam`` (0.9, 0.999, 1e-8) or ``torch.optim.RMSprop``
    (0.9, 1e-7), and ``torch.lerp`` do it.

    Args:
        weights: all parameters, changed.
        gradient: theirs, changed.
        moments: shape (3, parameters): mean of the gradient, of its square, and average of the weights;
        changed.
        adam: or RMSProp.
        learning_rate: of this step.
        step: its number, from 1.
        clip: bound on the gradient's norm.
        averaging: weight of the new weights in the average.
    """
    squares = 0.0
    for n in range(len(gradient)):
        squares += gradient[n] * np.float64(gradient[n])
    factor = np.float32(clip / (np.sqrt(squares) + 1e-6))
    if factor > 1.0:  # NaN is not, and spreads, as it should
        factor = np.float32(1.0)
    mean, square, average = moments[0], moments[1], moments[2]
    one = np.float32(1.0)
    if adam:
        beta1, beta2 = np.float32(0.9), np.float32(0.999)
        rate = np.float32(learning_rate / (1.0 - 0.9**step))
        correction = np.float32(np.sqrt(1.0 - 0.999**step))
        for n in range(len(weights)):
            g = gradient[n] * factor
            mean[n] += (g - mean[n]) * (one - beta1)
            square[n] = square[n] * beta2 + g * g * (one - beta2)
            weights[n] -= rate * mean[n] / (np.sqrt(square[n]) / correction + np.float32(1e-8))
            average[n] += np.float32(averaging) * (weights[n] - average[n])
    else:
        alpha = np.float32(0.9)
        for n in range(len(weights)):
            g = gradient[n] * factor
            square[n] = square[n] * alpha + g * g * (one - alpha)
            weights[n] -= np.float32(learning_rate) * g / (np.sqrt(square[n]) + np.float32(1e-7))
            average[n] += np.float32(averaging) * (weights[n] - average[n])
