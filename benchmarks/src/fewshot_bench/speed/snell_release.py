"""The published adapters of SNELL, from a clone that the user names; nothing of it is kept here.

Their file imports names that current libraries no longer have, so only the adapter classes are
taken out of it and executed as they are. Two things around them differ. Their checkpoint relies on
the old reentrant default, under which an adapter with a frozen input gets no gradient; here it is
the non-reentrant one. And branch dropout and drop-path are left out, as on our side.
"""

import ast
import functools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fewshot_bench.speed.release import find_in_clone

__all__ = ["ReleasedLinear", "add_released", "load_adapters", "snell_file"]

PLACE = Path("model") / "vision_transformer_timm.py"
"""Where the adapters lie in the repository ssfgunner/SNELL."""
CLASSES = ("KLoRA", "SNELL")


class ReleasedLinear(nn.Module):
    r"""A frozen linear layer with published adapters beside it,

    $$y = x W^\top + b + [\,x \Delta W_1^\top, \ldots, x \Delta W_p^\top\,] .$$

    Args:
        base: The frozen layer.
        branches: One adapter per row block: three for a fused query, key and value.
    """  # noqa: D415

    def __init__(self, base: nn.Module, branches: Sequence[nn.Module]) -> None:
        super().__init__()
        self.base, self.branches = base, nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(..., inputs)` to `(..., outputs)`."""
        return self.base(x) + self._delta(x)

    def _delta(self, x: Tensor) -> Tensor:
        """Give the outputs of all branches, side by side."""
        if len(self.branches) == 1:
            return self.branches[0](x)
        return torch.cat([branch(x) for branch in self.branches], -1)


def snell_file(path: Path) -> Path:
    """Find the adapters' file.

    Args:
        path: A clone of ssfgunner/SNELL, or the file itself.

    Returns:
        The file.

    Raises:
        ValueError: It is not there.
    """
    return find_in_clone(path, PLACE, "--snell-release", "ssfgunner/SNELL")


def load_adapters(path: Path, simulated_sparsity: float | None = None) -> dict[str, Any]:
    """Execute the class definitions of the adapters, and nothing else of the file.

    Tensors of a simulation have no values: `float` of the threshold is zero then, and `nonzero`,
    which the release calls for a statistic, gives as many positions as would survive. What the
    threshold costs needs no stand-in: torch.quantile sorts simulated numbers like real ones.

    Args:
        path: A clone of ssfgunner/SNELL, or the file itself.
        simulated_sparsity: The sparsity s, where the classes are for a simulation.

    Returns:
        Name to class.

    Raises:
        ValueError: The file is not there, or has other classes.
    """
    file = snell_file(path)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    wanted: list[ast.stmt] = [
        n for n in tree.body if isinstance(n, ast.ClassDef) and n.name in CLASSES
    ]
    if len(wanted) != len(CLASSES):
        raise ValueError(f"--snell-release {path}: {file.name} has no {' and '.join(CLASSES)}")
    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "math": math, "__name__": __name__}
    names["cp"] = SimpleNamespace(checkpoint=functools.partial(checkpoint, use_reentrant=False))
    if simulated_sparsity is not None:
        names |= {"torch": _Simulated(simulated_sparsity), "float": lambda threshold: 0.0}
    exec(compile(ast.Module(wanted, []), str(file), "exec"), names)
    return {name: names[name] for name in CLASSES}


def add_released(
    model: nn.Module, names: Iterable[str], path: Path, r: int, sparsity: float, simulated: bool
) -> None:
    """Put published adapters beside linear layers, and freeze everything else.

    Args:
        model: Changed in place.
        names: Names of the layers; those that end in "qkv" get three.
        path: A clone of ssfgunner/SNELL.
        r: Rank.
        sparsity: Share of each update set to zero; 0 takes the published KLoRA, as the release.
        simulated: Tensors will have no values.
    """
    model.requires_grad_(False)
    classes = load_adapters(path, sparsity if simulated else None)
    for name in names:
        base = model.get_submodule(name)
        if isinstance(base, nn.Linear):
            pieces = 3 if name.endswith("qkv") else 1
            rows = base.out_features // pieces
            with base.weight.device:
                made = [_adapter(classes, base.in_features, rows, r, sparsity)
                        for _ in range(pieces)]  # fmt: skip
            model.set_submodule(name, ReleasedLinear(base, made))


def _adapter(
    classes: dict[str, Any], inputs: int, outputs: int, r: int, sparsity: float
) -> nn.Module:
    """Make one adapter, choosing the class as the release does."""
    if sparsity == 0:
        return classes["KLoRA"](inputs, outputs, q_dim=r)
    return classes["SNELL"](inputs, outputs, q_dim=r, init_thres=sparsity)


class _Simulated:
    """The module torch, but for what asks a tensor for the places of its values."""

    def __init__(self, sparsity: float) -> None:
        self._sparsity = sparsity

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def nonzero(self, matrix: Tensor, *, as_tuple: bool) -> Sequence[Tensor]:
        """Give positions of what lies above the interpolated quantile, as torch gives them."""
        last = matrix.numel() - 1
        survivors = last - math.floor(self._sparsity * last)
        pairs = torch.empty(survivors, matrix.ndim, dtype=torch.int64)
        return pairs.unbind(1)
