"""The Triton kernels, run for real by Triton's interpreter, and compiled for GPUs.

Whether a kernel is interpreted is decided when Triton is imported, and another test of this
process may have imported it already. So the cases run in a process of their own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CASES = {  # and whether they are interpreted
    "triton_bits_cases.py": True,
    "triton_fold_cases.py": True,
    "triton_compile_cases.py": False,
}

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None,
    reason="Triton is not installed (it comes with torch for GPUs on Linux)",
)


def run_python(*arguments, interpret):
    unwanted = ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "TRITON_INTERPRET")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment["TRITON_INTERPRET"] = str(int(interpret))
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=500
    )


@needs_triton
@pytest.mark.parametrize(("cases", "interpret"), CASES.items())
def test_cases(cases, interpret):
    command = ("-m", "pytest", "-q", "-p", "no:xdist", "-W", "error", str(HERE / cases))
    done = run_python(*command, interpret=interpret)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert "skipped" not in done.stdout


def test_no_case_is_forgotten():
    assert {path.name for path in HERE.glob("triton_*.py")} == set(CASES)


def test_importing_the_package_imports_no_triton():
    code = "import sys, {}; sys.exit(3 * ('triton' in sys.modules))"
    if run_python("-c", code.format("torch"), interpret=False).returncode == 3:
        pytest.skip("torch itself imports Triton here")
    assert run_python("-c", code.format("snell_layers"), interpret=False).returncode == 0
