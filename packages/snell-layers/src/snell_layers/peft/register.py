"""Make the method known to PEFT, whose list of methods is a closed enum without a plugin hook.

This is the only file that extends PEFT's private surface; if a PEFT upgrade breaks it, the
registration test fails first.
"""

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType, register_peft_method

__all__ = ["METHOD", "peft_type", "register"]

METHOD = "snell"


def peft_type() -> PeftType:
    """The enum member of this method, added on first use."""
    name = METHOD.upper()
    if name not in PeftType.__members__:
        member = str.__new__(PeftType, name)
        object.__setattr__(member, "_name_", name)
        object.__setattr__(member, "_value_", name)
        # From Python 3.12 members are class attributes, and the enum's own setter refuses new ones.
        type.__setattr__(PeftType, name, member)
        PeftType._member_map_[name] = PeftType._value2member_map_[name] = member
        PeftType._member_names_.append(name)
    return PeftType.__members__[name]


def register(config_class: type[PeftConfig], model_class: type[BaseTuner]) -> None:
    """Register the method; a second call does nothing.

    Args:
        config_class: The configuration that `get_peft_model` is called with.
        model_class: The tuner that it selects; its prefix is `snell_`.
    """
    if peft_type() not in PEFT_TYPE_TO_CONFIG_MAPPING:
        register_peft_method(name=METHOD, config_cls=config_class, model_cls=model_class)
