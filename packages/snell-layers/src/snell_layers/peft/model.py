"""The PEFT tuner: which modules are wrapped, and clear words where that is impossible."""

import difflib
import warnings
from collections.abc import Iterator
from typing import Any

from peft.tuners.tuners_utils import (
    BaseTuner,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from snell_layers.start import check_fit

from .config import SnellConfig
from .layer import SnellLinearAdapter, weight_shape

__all__ = ["SnellModel"]

_SUPPORTED = (nn.Linear, Conv1D)

# Attention and MLP of every block; never the pooler, the embeddings or the head. Both spellings of
# transformers 4 and 5 where they differ.
_BLOCK_LINEARS: dict[str, Any] = {
    "bert": r".*encoder\.layer\.\d+\..*\.(query|key|value|dense)",
    "vit": r".*layers?\.\d+\..*\.(query|key|value|dense|[qkvo]_proj|fc1|fc2)",
    "clip": r".*layers\.\d+\..*\.([qkv]_proj|out_proj|fc1|fc2)",
}
_BLOCK_LINEARS |= dict.fromkeys(("clip_vision_model", "clip_text_model"), _BLOCK_LINEARS["clip"])


class SnellModel(BaseTuner):
    """Wrap the target modules of a model in SNELL layers; normally made by `get_peft_model`.

    Examples:
        >>> import torch
        >>> from peft import get_peft_model
        >>> from snell_layers.peft import SnellConfig
        >>> model = torch.nn.Sequential(
        ...     torch.nn.Linear(16, 32), torch.nn.ReLU(), torch.nn.Linear(32, 4)
        ... )
        >>> adapted = get_peft_model(
        ...     model, SnellConfig(r=4, target_modules=["0"], modules_to_save=["2"])
        ... )
        >>> adapted(torch.rand(2, 16)).shape
        torch.Size([2, 4])
    """

    prefix = "snell_"
    tuner_layer_cls = SnellLinearAdapter
    target_module_mapping = _BLOCK_LINEARS

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        """Wrap one module, or give an already wrapped one another adapter."""
        if isinstance(target, SnellLinearAdapter):
            target.update_layer(adapter_name, peft_config, current_key)
            return
        layer = SnellLinearAdapter(target, adapter_name, peft_config, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)  # a further adapter trains once it is made active
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(
        self, parent: nn.Module, child_name: str, new_module: nn.Module, child: nn.Module
    ) -> None:
        """As PEFT, but a module that is put back is left as it is: it may have no `weight`."""
        if hasattr(new_module, "base_layer"):
            super()._replace_module(parent, child_name, new_module, child)
        else:
            setattr(parent, child_name, new_module)

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict) -> Any:
        """Fill in default targets of a known model; name the candidates of an unknown one."""
        known = model_config.get("model_type") in _BLOCK_LINEARS
        if peft_config.target_modules is None and not known:
            raise ValueError(
                f"target_modules is not set, and {type(self.model).__name__} has no defaults: "
                f"choose from {_candidates(self.model)}"
            )
        return super()._prepare_adapter_config(peft_config, model_config)

    def _prepare_model(self, peft_config: Any, model: nn.Module) -> None:
        """Check every target before any is replaced, so that an error leaves the model whole."""
        if peft_config.target_modules == DUMMY_TARGET_MODULES:
            return
        _maybe_include_all_linear_layers(peft_config, model)
        targets = {
            name: module
            for name, module in _outside_of_adapters(model)
            if check_target_module_exists(peft_config, name)
        }
        if not targets:
            wanted = peft_config.target_modules
            wanted = wanted if isinstance(wanted, str) else sorted(wanted)
            raise ValueError(
                f"target_modules {wanted!r} match no module of {type(model).__name__}: "
                f"choose from {_candidates(model)}"
            )
        for name, module in targets.items():
            _check_caller(model, name)
            _check_target(peft_config, name, module)
        _warn_of_unused(peft_config.target_modules, model)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse a checkpoint that does not fit every adapted layer; PEFT would load part of it."""
        remapped = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, state_dict
        )
        own = {
            name: tuple(tensor.shape)
            for name, tensor in [*model.named_parameters(), *model.named_buffers()]
            if f".snell_factors.{adapter_name}." in name
        }
        saved = {name: tuple(t.shape) for name, t in remapped.items() if ".snell_factors." in name}
        wrong = [
            f"{name} is {saved.get(name, 'missing')} in the file, "
            f"{own.get(name, 'missing')} in the model"
            for name in sorted(own.keys() | saved.keys())
            if own.get(name) != saved.get(name)
        ]
        if wrong:
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise ValueError(
                f"this adapter was saved from another model or with another r: {wrong[0]}{more}; "
                "load it into the model it was trained on"
            )
        return remapped


def _outside_of_adapters(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Named modules of the model, without what lies inside an adapted layer."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not name or (inside and name.startswith(inside)):
            continue
        if isinstance(module, SnellLinearAdapter):
            inside += (f"{name}.",)
        yield name, module


def _warn_of_unused(targets: str | set[str], model: nn.Module) -> None:
    """Warn of names in a list of targets that no module has: probably a slip, never adapted."""
    if isinstance(targets, str):
        return
    names = [f".{name}" for name, _ in _outside_of_adapters(model)]
    unused = [t for t in sorted(targets) if not any(name.endswith(f".{t}") for name in names)]
    if unused:
        close = difflib.get_close_matches(unused[0], [name[1:] for name in names], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        warnings.warn(f"target_modules {unused} match no module{hint}", stacklevel=2)


def _candidates(model: nn.Module) -> str:
    """Distinct endings of the names of modules that can be adapted, and one full name."""
    names = [name for name, module in model.named_modules() if isinstance(module, _SUPPORTED)]
    endings = sorted({name.rpartition(".")[2] for name in names})
    if not names:
        return "nothing: this model has no nn.Linear or Conv1D module"
    return f"{', '.join(endings[:20])} (or full names such as {names[0]!r})"


def _check_caller(model: nn.Module, name: str) -> None:
    """Refuse a linear whose parent reads its weight but never calls it: a dead adapter."""
    if isinstance(model.get_submodule(name.rpartition(".")[0]), nn.MultiheadAttention):
        raise ValueError(
            f"module {name!r} belongs to an nn.MultiheadAttention, which never calls it: split "
            "the attention into separate linears first, or list it in exclude_modules"
        )


def _check_target(config: SnellConfig, name: str, module: nn.Module) -> None:
    """Refuse a module that cannot take the update that the configuration gives it."""
    if isinstance(module, SnellLinearAdapter):
        module = module.get_base_layer()
    if not isinstance(module, _SUPPORTED):
        raise ValueError(
            f"module {name!r} is a {type(module).__name__}, which SNELL cannot adapt: "
            "target nn.Linear or Conv1D modules, or list it in exclude_modules"
        )
    rows, columns = weight_shape(module)
    try:
        check_fit(columns, rows, config.rule(name), config.pieces(name), config.init)
    except ValueError as error:
        raise ValueError(f"module {name!r}: {error}") from None
