# /// script
# dependencies = ["nox>=2025.5", "uv"]
# ///
"""Every check and every job of this repository; nothing is run any other way.

`nox -l` lists the sessions, `nox -s NAME -- ARGS` hands ARGS on to the tool behind one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["tests"]

ROOT = Path(__file__).parent
PACKAGES = ("so-optim", "snell-layers", "fewshot-data", "vision-backbones")
MODULES = ("so_optim", "snell_layers", "fewshot_data", "vision_backbones", "fewshot_bench")
TESTS = (*(f"packages/{name}/tests" for name in PACKAGES), "benchmarks/tests", "tests")
SOURCES = ("packages", "benchmarks", "tests", "docs", "noxfile.py", "conftest.py")
# One thread a process: the small matrices of the tests gain nothing from more, and two
# workers that each start two threads on two cores slow each other down.
THREADS = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def install_everything(session: nox.Session, *tools: str) -> None:
    """Install the four packages, the harness and some tools, in the tested versions."""
    projects = [part for name in PACKAGES for part in ("-e", f"packages/{name}")]
    session.install("-c", "constraints.txt", *projects, "-e", "benchmarks", *tools)


def run_pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest on two workers, offline."""
    session.run("pytest", *arguments, env=THREADS | OFFLINE)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Do the main job on the embedded data: a table, a page and plots in results/quickstart."""
    install_everything(session)
    out = session.posargs or ["--out", "results/quickstart"]
    session.run("fewshot", "sweep", "--preset", "quickstart", "--report", *out, env=THREADS)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests of every package and of the harness, but for those marked `long`."""
    install_everything(session, "pytest", "pytest-xdist", "pytest-timeout", "hypothesis")
    workers = str(os.cpu_count() or 2)
    chosen = session.posargs or ("-m", "not long", *TESTS)
    run_pytest(session, "-n", workers, "--dist", "worksteal", "--timeout", "600", *chosen)


@nox.session
def so_speed(session: nox.Session) -> None:
    """Measure SO's step beside a frozen network, LoRA and others: time, memory, the step alone."""
    install_everything(session)
    session.run("python", "-m", "fewshot_bench.speed", *session.posargs, env=THREADS)


@nox.session
def snell_speed(session: nox.Session) -> None:
    """Measure SNELL's tables, each by its name (`quick` without one): `-- --help` lists them."""
    install_everything(session)
    session.run("python", "-m", "fewshot_bench.speed.snell", *session.posargs, env=THREADS)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, damage and starve real sweeps and count what is lost (a quarter of an hour)."""
    install_everything(session)
    session.run("python", "-m", "fewshot_bench.faults", *session.posargs, env=THREADS)


@nox.session
def data_speed(session: nox.Session) -> None:
    """Measure reading and transforming images beside torchvision's ImageFolder (5 minutes)."""
    install_everything(session)
    session.run("python", "-m", "fewshot_bench.speed.decoding", *session.posargs, env=THREADS)


@nox.session
def support_life(session: nox.Session) -> None:
    """Draw the life of a support for the documentation."""
    install_everything(session)
    out = session.posargs or ["--out", "docs/assets/support-life.png"]
    session.run("python", "-m", "fewshot_bench.support_life", *out, env=THREADS)


@nox.session
def snell_ablations(session: nox.Session) -> None:
    """Do SNELL's ablations on the embedded data (20 minutes of one core): tables, a picture."""
    install_everything(session)
    folder = Path("results/snell-ablations")
    sweep = ["--preset", "snell-ablations", "--out", str(folder), "--report"]
    session.run("fewshot", "sweep", *sweep, *session.posargs, env=THREADS)
    picture = ["--out", str(folder / "snell-ablations.png")]
    session.run("python", "-m", "fewshot_bench.ablations", str(folder), *picture, env=THREADS)


@nox.session
def snell_pictures(session: nox.Session) -> None:
    """Draw the reviewed ablations, and a sparsity pattern from a training, for the docs."""
    install_everything(session)
    reviewed, assets = "benchmarks/results/snell-ablations", Path("docs/assets")
    ablations = [reviewed, "--out", str(assets / "snell-ablations.png")]
    session.run("python", "-m", "fewshot_bench.ablations", *ablations, env=THREADS)
    pattern = ["--out", str(assets / "snell-pattern.png")]
    session.run("python", "-m", "fewshot_bench.sparsity_pattern", *pattern, env=THREADS)


ALONE = ("so-optim", "snell-layers", "snell-layers[peft]", "fewshot-data", "vision-backbones")


@nox.session
@nox.parametrize("package", ALONE)
def alone(session: nox.Session, package: str) -> None:
    """Build sdist and wheel, install one package in an empty environment, run its own tests."""
    name, _, extra = package.rstrip("]").partition("[")
    module = name.replace("-", "_")
    extras = ",".join(filter(None, ("test", extra)))
    session.install("build")
    with tempfile.TemporaryDirectory() as folder:
        session.run("python", "-m", "build", "--outdir", folder, f"packages/{name}", silent=True)
        (wheel,) = Path(folder).glob("*.whl")
        session.install("-c", "constraints.txt", f"{name}[{extras}] @ {wheel.as_uri()}")
        session.chdir(folder)  # so that what is imported is what was installed
        session.run("python", "-W", "error", "-c", f"import {module}; print({module}.__all__)")
        session.chdir(ROOT)
    run_pytest(session, f"packages/{name}/tests", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting; `nox -s lint -- --fix` repairs what it can."""
    session.install("-c", "constraints.txt", "ruff")
    fix = ["--fix"] if "--fix" in session.posargs else []
    session.run("ruff", "check", *fix, *SOURCES)
    session.run("ruff", "format", *([] if fix else ["--check"]), *SOURCES)


@nox.session
def types(session: nox.Session) -> None:
    """Check types with pyrefly."""
    install_everything(session, "pyrefly")
    session.run("pyrefly", "check", *session.posargs)


@nox.session
def imports(session: nox.Session) -> None:
    """Check who may import whom (the contracts are in pyproject.toml)."""
    projects = [part for name in PACKAGES for part in ("-e", f"packages/{name}")]
    session.install("--no-deps", *projects, "-e", "benchmarks")
    session.install("-c", "constraints.txt", "import-linter")
    session.run("lint-imports", "--no-cache")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site, strictly, into site/."""
    session.install("-c", "constraints.txt", "zensical", "mkdocstrings-python", "latex2mathml")
    extensions = {"PYTHONPATH": str(ROOT / "docs" / "extensions")}
    session.run("zensical", "build", "--strict", "--clean", *session.posargs, env=extensions)


@nox.session
def site(session: nox.Session) -> None:
    """Build the documentation with the report of reviewed results in it; check every link."""
    install_everything(session, "zensical", "mkdocstrings-python", "latex2mathml")
    extensions = {"PYTHONPATH": str(ROOT / "docs" / "extensions")}
    session.run("zensical", "build", "--strict", "--clean", env=extensions)
    reviewed = session.posargs[0] if session.posargs else "benchmarks/results/quickstart"
    history = ROOT / ".asv" / "html"
    if history.is_dir():  # what `nox -s bench_publish` left
        shutil.copytree(history, ROOT / "site" / "history", dirs_exist_ok=True)
    session.run("python", "-m", "fewshot_bench.web.site", reviewed, "site/report", env=THREADS)
    session.run("python", "-m", "fewshot_bench.web.links", "site")


@nox.session
def browser(session: nox.Session) -> None:
    """Look at the report in Chromium (Debian: `apt-get install chromium`); keep screenshots."""
    install_everything(
        session, "-e", "benchmarks[browser]", "pytest", "pytest-timeout", "hypothesis"
    )
    kept = {"FEWSHOT_SCREENSHOTS": str(ROOT / "build" / "screenshots")}
    chosen = session.posargs or ["benchmarks/tests/test_site_browser.py"]
    session.run("pytest", "--timeout", "300", *chosen, env=THREADS | OFFLINE | kept)


@nox.session
def snippets(session: nox.Session) -> None:
    """Run every code block of the READMEs and the documentation (docstrings run in `tests`)."""
    install_everything(session, "pytest", "pytest-xdist", "sybil")
    documents = ["README.md", "docs", *(f"packages/{name}/README.md" for name in PACKAGES)]
    run_pytest(session, "-n", "2", "--dist", "loadfile", *(session.posargs or documents))


@nox.session
def datasets_page(session: nox.Session) -> None:
    """Write the page of all datasets from the registry."""
    install_everything(session)
    session.run("python", "-m", "fewshot_data.page", "docs/datasets/index.md", env=THREADS)


@nox.session
def pretrain_tiny(session: nox.Session) -> None:
    """Make the weights of the three tiny backbones again (about 45 minutes of one core)."""
    install_everything(session)
    session.run("python", "-m", "fewshot_bench.pretrain", *session.posargs, env=THREADS)
