"""Channel shuffles as another order of the weights: no number is moved for them.

A shuffle between layers with weights only says anew which channel is which. Without it, the layers before emit their
channels in an order that suits all that follows, and the layers behind take their weights in that order. What splits
the channels between them stays a slice, every second channel instead of the first half.
"""

from qanas.quantization.channel_order.removal import without_shuffles

__all__ = ["without_shuffles"]
