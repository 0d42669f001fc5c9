"""Every example in a docstring is run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import vision_backbones

MODULES = [m.name for m in pkgutil.walk_packages(vision_backbones.__path__, "vision_backbones.")]


@pytest.mark.parametrize("name", ["vision_backbones", *MODULES])
def test_examples(name):
    results = doctest.testmod(importlib.import_module(name), extraglobs={})
    assert results.failed == 0
