"""What holds for the repository as a whole: names, links, documentation, hygiene."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["so-optim", "snell-layers", "fewshot-data", "vision-backbones"]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "datasets_registry" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / "packages" / name / "README.md" for name in PACKAGES),
]


def module_of(package: str):
    return importlib.import_module(package.replace("-", "_"))


def nox_sessions() -> set[str]:
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    return {f.name for f in functions if any("session" in ast.unparse(d) for d in f.decorator_list)}


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [ROOT / name for name in listing.stdout.split("\0") if name]


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_few_and_documented(package):
    module = module_of(package)
    assert 2 <= len(module.__all__) <= 5
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)) or not callable(getattr(module, name)), name


@pytest.mark.parametrize("package", PACKAGES)
def test_public_callables_say_arguments_and_show_an_example(package):
    module = module_of(package)
    for name in module.__all__:
        member = getattr(module, name)
        if not callable(member):
            continue
        text = inspect.getdoc(member)
        assert "Example" in text, f"{package}.{name} has no example"
        assert "Args:" in text or "Attributes:" in text or not _has_parameters(member), name


def _has_parameters(member) -> bool:
    return bool(inspect.signature(member).parameters)


@pytest.mark.parametrize("package", PACKAGES)
def test_import_is_light_and_silent(package):
    heavy = {
        "timm", "open_clip", "transformers", "peft", "sklearn", "datasets", "matplotlib", "rich",
        "tyro", "fewshot_bench",
    }  # fmt: skip
    code = f"import {package.replace('-', '_')}, sys; print(*{heavy!r} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr.strip()) == ("", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_version_is_stated_once_and_in_the_changelog(package):
    folder = ROOT / "packages" / package
    version = tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
    assert importlib.metadata.version(package) == version
    assert f"## {version}" in (folder / "CHANGELOG.md").read_text()


def test_the_registry_in_the_package_is_the_one_at_the_root():
    inside = ROOT / "packages/fewshot-data/src/fewshot_data/datasets_registry"
    assert inside.resolve() == (ROOT / "datasets_registry").resolve()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_pages_name_only_nox_sessions_that_exist(page):
    known = nox_sessions()
    for command in re.findall(r"nox -s ([a-z_ ]+)", page.read_text()):
        assert set(command.split()) & known, f"{page.name}: nox -s {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_repository_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", prose):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_no_machine_path_index_or_oversized_file_is_tracked():
    places = re.compile(
        r"(index[-]url|extra[-]index|find[-]links)\b[^\n]*://|/(root|work|home)/\w+"
    )
    for path in tracked_files():
        if path.is_symlink() or not path.is_file():
            continue
        assert path.stat().st_size < 3 << 20, path
        if path.suffix in {".py", ".toml", ".md", ".txt", ".yml", ".json", ""}:
            found = places.search(path.read_text(encoding="utf-8"))
            assert found is None, f"{path}: {found.group()}"


def test_constraints_pin_exact_versions_without_urls():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert len(pins) > 50
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line) for line in pins)


def test_source_files_stay_one_idea_long():
    for folder in [*(ROOT / "packages").glob("*/src"), ROOT / "benchmarks" / "src"]:
        for path in folder.rglob("*.py"):
            assert path.name not in {"utils.py", "common.py", "helpers.py", "misc.py"}
            assert len(path.read_text().splitlines()) <= 300, path
