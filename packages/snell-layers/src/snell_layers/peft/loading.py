"""What a saved adapter must be to be loaded: of the same kind, complete, fitting and finite."""

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["check_recipe", "check_tensors", "recipe"]

_RECIPE = "base_model.model.snell_recipe"


def recipe(config: Any) -> dict[str, Tensor]:
    """Kernel and sparsifier as a tensor to be saved, because shapes do not tell them apart."""
    text = f"{config.kernel}/{config.sparsifier}"
    return {_RECIPE: torch.tensor(list(text.encode()), dtype=torch.uint8)}


def check_recipe(config: Any, state: dict[str, Tensor]) -> None:
    """Take the recipe out of a saved state; refuse another one than the configuration's.

    Raises:
        ValueError: If kernel or sparsifier differ.
    """
    saved = state.pop(_RECIPE, None)
    if saved is None:  # injected without a PeftModel, so without a configuration of its own
        return
    values = bytes(saved.tolist()).decode().split("/")
    for name, value in zip(("kernel", "sparsifier"), values, strict=True):
        if value != getattr(config, name):
            raise ValueError(
                f"this adapter was trained with {name} {value!r}, but the configuration says "
                f"{getattr(config, name)!r}: load it with the configuration that it was saved with"
            )


def check_tensors(model: nn.Module, adapter_name: str, state: dict[str, Tensor]) -> None:
    """Refuse a state that does not fill every adapted layer with finite numbers.

    Raises:
        ValueError: With the first tensor that is missing, of another shape or not finite.
    """
    own = {
        name: tuple(tensor.shape)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
        if f".snell_factors.{adapter_name}." in name
    }
    saved = {name: tensor for name, tensor in state.items() if ".snell_factors." in name}
    shapes = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    wrong = [
        f"{name} is {shapes.get(name, 'missing')} in the file, {own.get(name, 'missing')} in the "
        "model"
        for name in sorted(own.keys() | shapes.keys())
        if own.get(name) != shapes.get(name)
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(
            "this adapter was saved from another model, or with another r or kernel: "
            f"{wrong[0]}{more}; load it into the model it was trained on"
        )
    for name, tensor in saved.items():
        if not tensor.is_meta and not torch.isfinite(tensor).all():
            module, _, rest = name.partition(".snell_factors.")
            raise ValueError(
                f"module {module.removeprefix('base_model.model.')!r}: {rest} of the saved adapter "
                f"{adapter_name!r} is not finite: load an earlier checkpoint, from before training "
                "diverged"
            )
