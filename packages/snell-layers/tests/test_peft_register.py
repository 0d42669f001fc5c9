"""Registration: PEFT's closed enum of methods gets one more member, once, like any other."""

import copy
import importlib
import pickle
import sys
from enum import Enum

import pytest

pytest.importorskip("peft")

from peft import TaskType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.utils import PeftType

import snell_layers.peft
from snell_layers.peft import SnellConfig, SnellModel, register
from snell_layers.peft.register import add_member


def test_the_method_is_a_member_like_any_other():
    kind = SnellConfig().peft_type
    assert isinstance(kind, PeftType)
    assert isinstance(kind, str)
    assert kind is PeftType.SNELL is PeftType["SNELL"] is PeftType("SNELL")
    assert (kind.name, kind.value, kind) == ("SNELL", "SNELL", "SNELL")
    assert kind in PeftType
    assert "SNELL" in PeftType.__members__
    if sys.version_info >= (3, 12):  # before, only members could be asked for
        assert "SNELL" in PeftType
    assert list(PeftType).count(kind) == 1
    assert list(PeftType)[-1] is kind
    assert len(PeftType) == len(PeftType.__members__) == len(list(PeftType))
    assert hash(kind) == hash(PeftType("SNELL"))
    assert {kind: 1}[PeftType("SNELL")] == 1
    assert repr(kind) == "<PeftType.SNELL: 'SNELL'>"
    assert f"{kind.value}" == "SNELL"


def test_copies_and_pickles_are_the_member_itself():
    kind = PeftType.SNELL
    assert copy.copy(kind) is kind
    assert copy.deepcopy([kind])[0] is kind
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(kind, protocol)) is kind
    config = pickle.loads(pickle.dumps(SnellConfig(r=4)))
    assert config == SnellConfig(r=4)
    assert copy.deepcopy(config) == config


def test_registering_again_changes_nothing():
    members, kind = list(PeftType), PeftType.SNELL
    register(SnellConfig, SnellModel)
    register(SnellConfig, SnellModel)
    importlib.reload(snell_layers.peft)
    assert list(PeftType) == members
    assert PeftType.SNELL is kind
    assert PEFT_TYPE_TO_TUNER_MAPPING[kind] is SnellModel
    assert PEFT_TYPE_TO_CONFIG_MAPPING[kind] is SnellConfig


def test_the_enum_stays_closed_to_everybody_else():
    with pytest.raises(AttributeError):
        PeftType.SNELL = "other"
    with pytest.raises(ValueError, match="not a valid PeftType"):
        PeftType("SNELLA")
    assert "SNELL" not in TaskType.__members__


def test_the_mechanics_hold_for_any_enum_of_strings():
    class Kind(str, Enum):  # noqa: UP042  as PEFT's is
        ONE = "ONE"

    added = add_member(Kind, "TWO")
    assert add_member(Kind, "TWO") is added
    assert list(Kind) == [Kind.ONE, added]
    assert Kind("TWO") is Kind.TWO is Kind["TWO"] is added
    assert dir(added) == dir(Kind.ONE)
