"""Pictures and their classes."""

from qanas.tasks.images.task import Images

__all__ = ["Images"]
