"""The examples of all docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import so_optim

# Kernels need Triton, and are tested where it is.
MODULES = [
    module.name
    for module in pkgutil.walk_packages(so_optim.__path__, "so_optim.")
    if ".kernels" not in module.name
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    modules = map(importlib.import_module, MODULES)
    assert sum(bool(test.examples) for m in modules for test in finder.find(m)) >= 6
