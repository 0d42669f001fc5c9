"""The C++ kernel as a shared library: compiled once for this processor, and kept in a cache folder.

A C++ compiler is all that is needed, for about two seconds; neither torch's nor Python's headers
are. Without a compiler the torch path does the same work.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

__all__ = ["library"]

SOURCE = Path(__file__).with_name("distance.cpp")
# Contraction into fused multiply-adds would change the bits of the entries.
FLAGS = (
    *("-O3", "-std=c++17", "-shared", "-fPIC"),
    *("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
TUNED = ("-march=native", "-mcpu=native", None)
"""What makes use of all of this processor: GCC and Clang on x86, Clang on ARM, anything else."""

_log = logging.getLogger("snell_layers")


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or `None` where they cannot be had; the reason is logged."""
    compiler = os.environ.get("CXX") or next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        _log.info("no C++ compiler found: SNELL's updates are computed by torch, which is slower")
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError) as error:
        _log.warning("SNELL's kernels could not be compiled, torch does the work: %s", error)
        return None


def _compiled(compiler: str) -> Path:
    """The library of this source, compiler and processor, made if it is not there."""
    name = hashlib.sha256("\0".join([SOURCE.read_text(), compiler, *FLAGS, _processor()]).encode())
    file = _folder() / f"distance-{name.hexdigest()[:20]}.so"
    if not file.exists():
        with tempfile.TemporaryDirectory(dir=file.parent) as folder:
            made = Path(folder) / file.name
            _compile(compiler, made)
            made.replace(file)  # whole or not at all, whoever else is at it
    return file


def _compile(compiler: str, target: Path) -> None:
    """Run the compiler, with the flag for this processor that it knows."""
    complaint = ""
    for tuned in TUNED:
        command = [compiler, *FLAGS, *([tuned] if tuned else []), str(SOURCE), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode == 0:
            return
        complaint = done.stderr
    raise OSError(f"{compiler} failed: {complaint[-500:]}")


def _processor() -> str:
    """What a library for this processor depends on: a home folder may be shared by others."""
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else [platform.processor()]
    flags = [line for line in lines if line.startswith(("flags", "Features", "model name"))]
    return "\n".join([platform.machine(), *sorted(set(flags or lines[:1]))])


def _folder() -> Path:
    """A folder of this user that nobody else writes to; one for this process if there is none."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "snell_layers"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owned = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
    except (OSError, RuntimeError):
        owned = False
    usable = owned and os.access(folder, os.W_OK)
    return folder if usable else Path(tempfile.mkdtemp(prefix="snell_layers-"))
