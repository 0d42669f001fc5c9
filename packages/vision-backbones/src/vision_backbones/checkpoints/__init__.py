"""Weights from files: every published format, all of a file or nothing, no code run."""

from vision_backbones.checkpoints.fill import load_into
from vision_backbones.checkpoints.formats import FORMATS, adapted
from vision_backbones.checkpoints.read import Stored, read

__all__ = ["FORMATS", "Stored", "adapted", "load_into", "read"]
