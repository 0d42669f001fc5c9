"""Make the method known to PEFT, whose list of methods is a closed enum without a plugin hook.

This is the only file that extends PEFT's private surface; if a PEFT upgrade breaks it, the
registration test fails first.
"""

from enum import Enum
from typing import Any, TypeVar, cast

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType, register_peft_method

__all__ = ["METHOD", "peft_type", "register"]

METHOD = "snell"
Strings = TypeVar("Strings", bound=Enum)


def peft_type() -> PeftType:
    """The enum member of this method, added on first use."""
    return add_member(PeftType, METHOD.upper())


def add_member(kinds: type[Strings], name: str) -> Strings:
    """The member of an enum of strings with this name and value; made if there is none."""
    if name not in kinds.__members__:
        member: Any = str.__new__(cast(Any, kinds), name)
        shown = {"_name_": name, "_value_": name, "_sort_order_": len(kinds)}
        for key, value in {**shown, "__objclass__": kinds}.items():
            object.__setattr__(member, key, value)
        # From Python 3.12 members are class attributes, and the enum's own setter refuses new ones.
        type.__setattr__(kinds, name, member)
        kinds._member_map_[name] = kinds._value2member_map_[name] = member
        kinds._member_names_.append(name)
        if hasattr(kinds, "_hashable_values_"):  # newer Pythons ask it whether a value is `in`
            kinds._hashable_values_.append(name)
    return kinds.__members__[name]


def register(config_class: type[PeftConfig], model_class: type[BaseTuner]) -> None:
    """Register the method; a second call does nothing.

    Args:
        config_class: The configuration that `get_peft_model` is called with.
        model_class: The tuner that it selects; its prefix is `snell_`.
    """
    if peft_type() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=METHOD, config_cls=config_class, model_cls=model_class)
