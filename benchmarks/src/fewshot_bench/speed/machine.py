"""What has to be set before the process starts: one thread, and an allocator that keeps memory.

With glibc's defaults every large temporary is mapped and faulted in anew, so a method that
allocates less looks faster for the wrong reason.
"""

import os
from collections.abc import Mapping

__all__ = ["ENVIRONMENT", "available_bytes", "is_set"]

ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "67108864",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def is_set(environment: Mapping[str, str] = os.environ) -> bool:
    """Tell whether the process was started as measurements need it.

    Args:
        environment: Its variables.

    Returns:
        Whether all are there with the right values.
    """
    return all(environment.get(name) == value for name, value in ENVIRONMENT.items())


def available_bytes() -> int:
    """Estimate how much memory may still be taken.

    Returns:
        What the system says is available, or what is free where it does not say.
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
