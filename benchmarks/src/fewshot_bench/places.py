"""Which parameters and layers of a backbone a configuration lets a method change."""

from typing import TYPE_CHECKING

from fewshot_bench.config import RunConfig

if TYPE_CHECKING:
    from torch import nn

    from vision_backbones import Backbone

__all__ = ["dense_beside", "layer_names", "output_layers", "sparse_names"]

TABLES = ("word_embeddings.weight", "position_embeddings.weight", "token_type_embeddings.weight")
TOKENS = ("cls_token", "class_embedding")


def layer_names(backbone: "Backbone", config: RunConfig) -> list[str]:
    """Name the linear layers that adapters wrap.

    Args:
        backbone: Its attention already split, where the method wants that.
        config: Gives positions, encoders and roles.

    Returns:
        Dotted names, in the backbone's order.

    Raises:
        ValueError: The backbone has no such block, tower or role, or nothing is chosen.
    """
    place = config.place
    if (place.positions, place.encoders, place.roles) == ("all", "both", ()):
        return list(backbone.linears())
    return _some(list(backbone.layers(*_where(backbone, config))), config)


def output_layers(names: list[str]) -> list[str]:
    """Pick the output projections of attention, whose input the release of SNELL never drops.

    Args:
        names: From `layer_names`.

    Returns:
        Some of them.

    Examples:
        >>> output_layers(["blocks.0.attn.qkv", "blocks.0.attn.proj"])
        ['blocks.0.attn.proj']
    """
    from vision_backbones.select import roles_of

    return [name for name in names if roles_of(name) == ("out",)]


def sparse_names(backbone: "Backbone", config: RunConfig) -> set[str]:
    """Name the matrices that get a support.

    Args:
        backbone: As loaded.
        config: Gives positions, encoders, roles, and whether embedding tables are among them.

    Returns:
        Dotted names.

    Raises:
        ValueError: The backbone has no such block, tower or role, or nothing is chosen.
    """
    place = config.place
    if (place.positions, place.encoders, place.roles) == ("all", "both", ()):
        names = list(backbone.matrices())
    else:
        names = _some(list(backbone.weights(*_where(backbone, config))), config)
    tables = [n for n, _ in backbone.named_parameters() if n.endswith(TABLES)]
    if place.embeddings and not tables:
        raise ValueError(
            f"place.embeddings: backbone {config.backbone!r} has no embedding tables: leave it out"
        )
    return {*names, *(tables if place.embeddings else ())}


def dense_beside(backbone: "Backbone", config: RunConfig) -> "dict[str, nn.Parameter]":
    """Choose what is trained densely beside the sparse or adapted layers, without the head.

    Args:
        backbone: As loaded.
        config: Gives `place.rest` and `place.class_token`.

    Returns:
        Parameters by name; empty by default.

    Raises:
        ValueError: A class token is asked for and there is none.
    """
    place, matrices = config.place, backbone.matrices()
    own = {n: p for n, p in backbone.named_parameters() if not n.startswith("head.")}
    tokens = {n: p for n, p in own.items() if n.endswith(TOKENS)}
    if place.class_token and not tokens:
        raise ValueError(
            f"place.class_token: backbone {config.backbone!r} has no class token: leave it out"
        )
    chosen = tokens if place.class_token else {}
    if place.rest:
        beside = {n: p for n, p in own.items() if n not in matrices and not n.endswith(TABLES)}
        chosen = {**chosen, **beside}
    return chosen


def _where(backbone: "Backbone", config: RunConfig) -> tuple[tuple[str, ...], str, str]:
    """Give roles, blocks and tower as the backbone wants them."""
    from vision_backbones.select import ROLES

    place = config.place
    return place.roles or ROLES, place.positions, place.encoders


def _some(names: list[str], config: RunConfig) -> list[str]:
    """Refuse a choice of nothing."""
    if not names:
        place = config.place
        raise ValueError(
            f"place: positions {place.positions!r}, encoders {place.encoders!r} and roles "
            f"{place.roles} choose no layer of {config.backbone!r}: widen one of them"
        )
    return names
