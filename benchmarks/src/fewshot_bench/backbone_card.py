"""What `fewshot list NAME` shows of one backbone: its size, its input, where its weights are."""

from typing import TYPE_CHECKING

from fewshot_bench.schema import closest
from fewshot_bench.text import count

if TYPE_CHECKING:
    from vision_backbones import BackboneSpec

__all__ = ["backbone_card", "input_of", "operations"]


def backbone_card(name: str, lists: tuple[str, ...]) -> list[tuple[str, str]]:
    """List the facts about one backbone.

    Args:
        name: A backbone, or a folder of transformers.
        lists: What else may be typed in the place of the name, for the message.

    Returns:
        Pairs of what and how much.

    Raises:
        ValueError: Nothing has this name; the closest names are offered.

    Example:
        >>> backbone_card("tiny-vit", ())[:3]
        [('title', 'Tiny ViT, pretrained on rendered characters'), ('parameters', '356.0k'), \
('FLOPs per image', '12.2M')]
    """
    from pathlib import Path

    from vision_backbones.catalog import CATALOG, find

    if name not in CATALOG and not Path(name).is_dir():
        raise ValueError(f"nothing to list for {name!r}: {closest(name, [*lists, *CATALOG])}")
    spec = find(name)
    return [
        ("title", spec.title),
        ("parameters", count(spec.parameters)),
        (f"FLOPs per {spec.modality}", operations(spec)),
        ("input", input_of(spec)),
        ("features", f"{spec.width} numbers"),
        ("blocks", str(spec.blocks)),
        ("licence", spec.licence),
        ("weights", spec.weights),
        *(("published file", address) for address in spec.files),
    ]


def operations(spec: "BackboneSpec") -> str:
    """Write how many operations the features of one image or one text take.

    Args:
        spec: The backbone; one that is not in the catalog is counted.

    Returns:
        Text such as `35.1G`.
    """
    from vision_backbones.size import count_flops

    number = spec.flops or count_flops(spec)
    return f"{number / 1e9:.1f}G" if number >= 1e9 else count(number)


def input_of(spec: "BackboneSpec") -> str:
    """Write what a backbone takes.

    Args:
        spec: The backbone.

    Returns:
        Text such as `224 × 224 pixels`.
    """
    size = spec.input_size
    return f"{size} × {size} pixels" if spec.modality == "image" else f"up to {size} tokens"
