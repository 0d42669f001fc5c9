from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from fewshot_bench import speed

MODULES = [m.name for m in pkgutil.iter_modules(speed.__path__, "fewshot_bench.speed.")]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_of_the_speed_benchmark_is_right(name):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
