"""What a number was measured with: package versions, git revision, device, platform."""

import functools
import platform
import subprocess
from importlib import metadata
from pathlib import Path

from fewshot_bench.results import MetaInfo

__all__ = ["describe"]

PACKAGES = (
    "so-optim", "snell-layers", "fewshot-data", "vision-backbones",
    "torch", "timm", "open_clip_torch", "transformers", "peft", "datasets", "numpy",
    "torchvision", "pillow",
)  # fmt: skip


def describe(device: str, threads: int) -> MetaInfo:
    """Describe the environment of a run.

    Args:
        device: As in the configuration: `cpu`, `cuda`, ...
        threads: CPU threads of the run.

    Returns:
        The `meta_info` part of its result. Looked up once per process.
    """
    revision, dirty = _git(Path.cwd())
    return MetaInfo(
        packages=dict(_packages()),
        git_revision=revision,
        git_dirty=dirty,
        device=_device(device),
        python=platform.python_version(),
        platform=platform.platform(),
        threads=threads,
    )


@functools.cache
def _packages() -> tuple[tuple[str, str], ...]:
    """Look up the versions of the installed packages."""
    return tuple((name, _version(name)) for name in PACKAGES)


def _version(name: str) -> str:
    """Give a package's version, or say that it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


@functools.cache
def _git(folder: Path) -> tuple[str | None, bool | None]:
    """Give the revision of the repository around a folder and whether tracked files differ."""
    revision = _command(folder, "rev-parse", "HEAD")
    changes = _command(folder, "status", "--porcelain", "--untracked-files=no")
    return (revision, None) if changes is None else (revision, bool(changes))


def _command(folder: Path, *arguments: str) -> str | None:
    """Run git; `None` when there is no git or no repository."""
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@functools.cache
def _device(device: str) -> str:
    """Name the processor or the graphics card."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return _cpu()


def _cpu() -> str:
    """Name the processor as the system does."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
