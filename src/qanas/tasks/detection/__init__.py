"""Detection: which objects are in a picture, and where."""

from qanas.tasks.detection.task import Detection

__all__ = ["Detection"]
