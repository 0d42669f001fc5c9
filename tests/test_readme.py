"""The tree in the README: one line per file, and the line is the file's own first sentence."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {
    "packages/fewshot-data/src/fewshot_data": "1-2. k examples per class, reproducibly",
    "packages/vision-backbones/src/vision_backbones": "3. pretrained models behind one call",
    "packages/so-optim/src/so_optim": "4a. sparse optimisation",
    "packages/snell-layers/src/snell_layers": "4b. kernelized sparse layers, a PEFT method",
    "benchmarks/src/fewshot_bench": "5-8. the ruler: one loop, metrics, result files, reports",
}


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def branch(folder: str, title: str) -> list[str]:
    lines = [f"{folder}/  {title}"]
    for path in sorted((ROOT / folder).rglob("*.py")):
        if path.name != "__init__.py":
            name = path.relative_to(ROOT / folder).as_posix()
            lines.append(f"    {name:<24} {first_sentence(path)}")
    return lines


def tree() -> str:
    return "\n".join(line for folder, title in FOLDERS.items() for line in branch(folder, title))


def test_every_file_says_what_it_is_in_one_sentence():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            assert 10 < len(first_sentence(path)) < 120, path


def test_the_readme_shows_the_tree_as_it_is():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert tree() in readme, f"put this into README.md:\n\n{tree()}"


def test_the_readme_shows_the_table_of_the_reviewed_results(capsys):
    from fewshot_bench.report import print_tables

    print_tables(ROOT / "benchmarks" / "results" / "quickstart")
    printed = "\n".join(line.rstrip() for line in capsys.readouterr().out.strip().splitlines())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert printed in readme, f"put this into README.md:\n\n{printed}"


def test_reviewed_results_come_from_committed_code():
    from fewshot_bench.results import read_result

    paths = sorted((ROOT / "benchmarks" / "results").glob("*/runs/*.json"))
    assert paths
    for path in paths:
        result = read_result(path)
        assert result.meta_info.git_dirty is False, path
        assert path.stem == result.run_info.name
