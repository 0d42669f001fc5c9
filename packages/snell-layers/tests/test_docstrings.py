"""The examples of all docstrings run."""

import doctest
import importlib
import pkgutil

import pytest

import snell_layers

# The kernels in Triton need Triton, and are tested where it is.
MODULES = [
    m.name
    for m in pkgutil.walk_packages(snell_layers.__path__, "snell_layers.")
    if ".kernels.triton" not in m.name
]
NEEDS_PEFT = "snell_layers.peft"


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    if name.startswith(NEEDS_PEFT):
        pytest.importorskip("peft")
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_public_names_have_examples():
    for name in snell_layers.__all__:
        assert ">>>" in getattr(snell_layers, name).__doc__, f"{name} has no example"
