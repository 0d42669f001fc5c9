"""Every hyperparameter of SO: named settings that were published, and what values are allowed."""

import difflib
import math
from collections.abc import Mapping
from typing import Any

import torch

__all__ = ["PRESETS", "check_settings", "trains_densely"]

_ADAM = {"betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}

PRESETS: dict[str, dict[str, Any]] = {
    # Paper: 99.95 % sparsity, ten times denser than what its repository runs.
    "clip-paper": {"lr": 2e-4, "density_ratio": 5e-4, "T": 10, **_ADAM},
    # Defaults of the released command lines.
    "clip-release": {"lr": 2e-4, "density_ratio": 5e-5, "T": 5, **_ADAM},
    "bert-release": {"lr": 2e-5, "density_ratio": 1e-4, "T": 5, **_ADAM},
    # What the release's README says about BERT, unlike its command line.
    "bert-readme": {"lr": 2e-5, "density_ratio": 5e-5, "T": 10, **_ADAM},
}
"""Published settings, ready for `SO(params, **PRESETS["clip-paper"])`."""

_CHOICES: dict[str, tuple[Any, ...]] = {
    "dense": (None, True, False),
    "prune": ("after_update", "before_update"),
    "bias_correction": ("global", "per_entry"),
    "nonfinite": ("raise", "skip"),
    "decoupled_weight_decay": (False, True),
    "maximize": (False, True),
}


def check_settings(settings: Mapping[str, Any]) -> None:
    """Check the hyperparameters of one parameter group.

    Args:
        settings: The group with the optimizer's defaults filled in.

    Raises:
        ValueError: If a value is not allowed; the message names it and the fix.

    Examples:
        >>> check_settings({**PRESETS["clip-paper"], "T": 0})
        Traceback (most recent call last):
        ValueError: T must be a whole number of steps, at least 1, but is 0: pass e.g. T=10
    """
    for name in ("lr", "eps", "weight_decay"):
        _check_not_negative(name, settings[name])
    _check_betas(settings["betas"])
    density = settings["density_ratio"]
    if not (_is_number(density) and 0.0 < density <= 1.0):
        raise ValueError(
            f"density_ratio must be in (0, 1] but is {density!r}: pass the trained fraction of "
            "each matrix, e.g. 5e-4 (or dense=True to train all of it)"
        )
    T = settings["T"]
    if not (_is_whole(T) and T >= 1):
        raise ValueError(
            f"T must be a whole number of steps, at least 1, but is {T!r}: pass e.g. T=10"
        )
    if not _is_whole(settings.get("seed", 0)):
        raise ValueError(f"seed must be a whole number but is {settings['seed']!r}: pass e.g. 0")
    for name, allowed in _CHOICES.items():
        if name in settings:
            _check_choice(name, settings[name], allowed)


def trains_densely(weight: torch.Tensor, group: Mapping[str, Any]) -> bool:
    """Tell whether every entry of a weight is trained.

    Args:
        weight: The parameter.
        group: Its group; `dense` decides, and None there means "if it is not a matrix".

    Returns:
        True for plain Adam, False for a moving support.
    """
    if weight.numel() == 0:  # nothing to draw from
        return True
    return weight.ndim != 2 if group["dense"] is None else group["dense"]


def _check_not_negative(name: str, value: Any) -> None:
    """Refuse negative, infinite and NaN numbers."""
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        value = value.item()
    if not (_is_number(value) and math.isfinite(value) and value >= 0.0):
        raise ValueError(f"{name} must be a finite number, at least 0, but is {value!r}")


def _check_betas(betas: Any) -> None:
    """Refuse anything but two numbers in [0, 1)."""
    is_pair = isinstance(betas, (tuple, list)) and len(betas) == 2
    if not (is_pair and all(_is_number(beta) and 0.0 <= beta < 1.0 for beta in betas)):
        raise ValueError(
            f"betas must be two numbers in [0, 1) but is {betas!r}: pass e.g. betas=(0.9, 0.999)"
        )


def _check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse unknown options, offering the closest one."""
    if any(value is choice or (isinstance(choice, str) and value == choice) for choice in allowed):
        return
    names = [choice for choice in allowed if isinstance(choice, str)]
    close = difflib.get_close_matches(str(value), names, n=1)
    hint = f": did you mean {close[0]!r}?" if close else ""
    raise ValueError(f"{name} must be one of {list(allowed)} but is {value!r}{hint}")


def _is_number(value: Any) -> bool:
    """Real number, not a truth value."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    """Integer, not a truth value."""
    return isinstance(value, int) and not isinstance(value, bool)
