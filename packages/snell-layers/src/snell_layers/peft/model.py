"""The PEFT tuner: which modules are wrapped, and clear words where that is impossible."""

import difflib
import warnings
from collections.abc import Iterator
from typing import Any

from peft import PeftModel
from peft.tuners.tuners_utils import (
    BaseTuner,
    _maybe_include_all_linear_layers,
    check_target_module_exists,
)
from peft.utils.constants import DUMMY_TARGET_MODULES
from torch import Tensor, nn

from snell_layers.recompute import save_memory

from .adapter import SnellAdapter
from .families import BLOCK_LINEARS
from .loading import check_recipe, check_tensors, recipe
from .targets import adapter_class, candidates, check_target

__all__ = ["SnellModel"]


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
    tuner_layer_cls = SnellAdapter
    target_module_mapping = BLOCK_LINEARS

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
        if isinstance(target, SnellAdapter):
            target.update_layer(adapter_name, peft_config, current_key)
            return
        made = adapter_class(target)
        assert made is not None, "targets are checked before any is replaced"
        layer = made(target, adapter_name, peft_config, current_key)
        if isinstance(parent, nn.TransformerEncoderLayer):
            layer.register_forward_pre_hook(_stay_off_the_fast_path)
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
        known = model_config.get("model_type") in BLOCK_LINEARS
        if peft_config.target_modules is None and not known:
            raise ValueError(
                f"target_modules is not set, and {type(self.model).__name__} has no defaults: "
                f"choose from {candidates(self.model)}"
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
                f"choose from {candidates(model)}"
            )
        for name, module in targets.items():
            check_target(model, peft_config, name, module)
        _warn_of_unused(peft_config.target_modules, model)

    def _post_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        """Let the neighbours of adapted layers leave what backward can use instead of inputs."""
        save_memory(model, config.memory)

    def _check_merge_allowed(self) -> None:
        """Check every layer before any is merged, so that an error leaves the model whole."""
        super()._check_merge_allowed()
        for module in self.model.modules():
            if isinstance(module, SnellAdapter):
                for name in module.active_adapters:
                    module.check_merge(name)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """As PEFT, which looks one level deep; an attention has a level for each of its weights."""
        own, kept = f".snell_factors.{adapter_name}.", ".snell_factors."
        if own in key:
            return key.replace(own, kept)
        return super()._remove_adapter_name_from_key(key, adapter_name)

    @classmethod
    def _get_adapter_state_dict(
        cls, model: nn.Module, config: Any, adapter_name: str, *args: Any, **kwargs: Any
    ) -> dict[str, Tensor]:
        """What PEFT saves, and what kind of updates it describes."""
        selected = super()._get_adapter_state_dict(model, config, adapter_name, *args, **kwargs)
        return {**selected, **recipe(config)} if isinstance(model, PeftModel) else selected

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls, model: nn.Module, config: Any, adapter_name: str, state_dict: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Refuse what does not fit every adapted layer; PEFT would load part of it."""
        check_recipe(config, state_dict)
        remapped = super()._remap_adapter_state_dict_for_load(
            model, config, adapter_name, state_dict
        )
        check_tensors(model, adapter_name, remapped)
        return remapped


def _outside_of_adapters(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Named modules of the model, without what lies inside an adapted layer."""
    inside: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not name or (inside and name.startswith(inside)):
            continue
        if isinstance(module, SnellAdapter):
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


def _stay_off_the_fast_path(module: nn.Module, inputs: Any) -> None:
    """Nothing; torch's encoder layer reads the frozen weights in evaluation, unless hooks exist."""
