"""Every form in which weights are published, and the backbones that each exists for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file

from vision_backbones.catalog import BackboneSpec
from vision_backbones.made import clip_files, folders, pyramid_files, vit_files
from vision_backbones.made.model import random_model
from vision_backbones.made.sizes import small

Writer = Callable[[BackboneSpec, Path, int], Path]


@dataclass(frozen=True)
class Form:
    """One form of a checkpoint.

    Args:
        format: The format that the loader has to see in it.
        families: Backbone families that it exists for.
        write: Writes it into a folder and returns the path to give as checkpoint.
        bundled: Whether it exists for the bundled backbones too.
    """

    format: str
    families: tuple[str, ...]
    write: Writer
    bundled: bool = False


def plain(spec: BackboneSpec, folder: Path, seed: int) -> Path:
    """The library's own state dict as safetensors, nothing else."""
    state = random_model(spec, seed).state_dict()
    path = folder / "plain.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    return path


TIMM = ("vit", "swin", "convnext")
FORMS: dict[str, Form] = {
    "google": Form("google", ("vit",), vit_files.google),
    "mae": Form("mae", ("vit",), vit_files.mae),
    "mae-full": Form("mae", ("vit",), vit_files.mae_full),
    "moco-v3": Form("moco-v3", ("vit",), vit_files.moco),
    "moco-v3-linear": Form("moco-v3", ("vit",), vit_files.moco_linear),
    "swin": Form("swin", ("swin",), pyramid_files.swin),
    "convnext": Form("convnext", ("convnext",), pyramid_files.convnext),
    "openai": Form("openai", ("clip",), clip_files.openai),
    "openai-state": Form("openai", ("clip",), clip_files.openai_state),
    "open_clip": Form("open_clip", ("clip",), clip_files.open_clip),
    "open_clip-training": Form("open_clip", ("clip",), clip_files.open_clip_training),
    "bert": Form("transformers", ("bert",), folders.bert),
    "bert-folder": Form("transformers", ("bert",), folders.bert_folder),
    "timm": Form("timm", TIMM, pyramid_files.timm),
    "plain": Form("", (*TIMM, "clip", "bert"), plain, bundled=True),
}


def forms_of(spec: BackboneSpec) -> list[str]:
    """Names of the forms in which a backbone's weights are published.

    Args:
        spec: The catalog's record.

    Examples:
        >>> from vision_backbones.catalog import find
        >>> forms_of(find("swin-b"))
        ['swin', 'timm', 'plain']
    """
    return [
        name
        for name, form in FORMS.items()
        if spec.family in form.families and (form.bundled or not spec.bundled)
    ]


def write_checkpoint(name: str, form: str, folder: Path, seed: int = 0) -> Path:
    """Write a small checkpoint of a backbone, exactly as it is published.

    Args:
        name: A backbone of the catalog; the file is for its version in `small`.
        form: A name in `FORMS`.
        folder: Gets the files; made if it is not there.
        seed: Seed of the weights.

    Returns:
        What to give as `checkpoint`, inside `shrunk()`.

    Raises:
        ValueError: The backbone's weights are not published in this form.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     print(write_checkpoint("vit-b-16", "google", Path(folder)).name)
        ViT.npz
    """
    spec = small(name)
    if form not in forms_of(spec):
        raise ValueError(f"{name} has no form={form!r}: choose one of {', '.join(forms_of(spec))}")
    folder.mkdir(parents=True, exist_ok=True)
    return FORMS[form].write(spec, folder, seed)
