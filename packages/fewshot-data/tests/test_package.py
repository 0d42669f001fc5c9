"""The package as a whole: what importing it costs, and that docstring examples are true."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import fewshot_data

PREFIX = "fewshot_data."
MODULES = sorted(module.name for module in pkgutil.walk_packages(fewshot_data.__path__, PREFIX))
LATE = ("torchvision", "datasets", "sklearn", "matplotlib", "PIL", "pandas", "transformers")


def test_importing_costs_torch_only_and_says_nothing():
    code = f"import sys, fewshot_data; print([m for m in {LATE} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_the_public_names_are_these():
    names = ["DatasetSpec", "FewShotData", "few_shot", "list_datasets", "load_spec"]
    assert sorted(fewshot_data.__all__) == names


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_are_true(name):
    module = importlib.import_module(name)
    flags = doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL
    failed, _ = doctest.testmod(module, optionflags=flags)
    assert failed == 0
