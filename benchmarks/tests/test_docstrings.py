import doctest
import importlib
import pkgutil

import pytest

import fewshot_bench

MODULES = [m.name for m in pkgutil.iter_modules(fewshot_bench.__path__, "fewshot_bench.")]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_is_right(name):
    if name.endswith("__main__"):
        pytest.skip("importing it runs the command line")
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(name), optionflags=flags).failed == 0
