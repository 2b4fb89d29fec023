"""Semantic segmentation of street scenes (CamVid, Cityscapes, folders of images and masks)."""

from qanas.tasks.segmentation.task import Segmentation

__all__ = ["Segmentation"]
