"""Small checkpoints in the exact formats of the published ones, for tests without downloads."""

from vision_backbones.made.folders import folder_types, write_folder
from vision_backbones.made.forms import FORMS, forms_of, write_checkpoint
from vision_backbones.made.sizes import shrunk, small

__all__ = [
    "FORMS", "folder_types", "forms_of", "shrunk", "small", "write_checkpoint", "write_folder",
]  # fmt: skip
