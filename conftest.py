"""Runs the code blocks of Markdown pages as tests (`nox -s snippets`).

Only that session installs sybil; everywhere else this file does nothing.
"""

from __future__ import annotations

import importlib.util
import os
import tempfile
from pathlib import Path

if importlib.util.find_spec("sybil"):
    from sybil import Sybil
    from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

    def enter_empty_folder(namespace: dict) -> None:
        """Give every page an empty working directory, so that none writes into the checkout."""
        namespace["_home"], namespace["_folder"] = Path.cwd(), tempfile.TemporaryDirectory()
        os.chdir(namespace["_folder"].name)

    def leave_empty_folder(namespace: dict) -> None:
        """Return to where pytest was started."""
        os.chdir(namespace["_home"])
        namespace["_folder"].cleanup()

    pytest_collect_file = Sybil(
        parsers=[PythonCodeBlockParser(), SkipParser()],
        pattern="*.md",
        setup=enter_empty_folder,
        teardown=leave_empty_folder,
    ).pytest()
