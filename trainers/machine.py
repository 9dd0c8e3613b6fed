"""What this process may use of its machine: cores and memory.

A container sees all of its machine, and gets what its control groups let it have; each group's
limits hold for all groups in it (https://docs.kernel.org/admin-guide/cgroup-v2.html).
`joblib.cpu_count()` asks the outermost group only, and so misses a limit that systemd or Slurm set.
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

GROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
MEMORY = Path("/proc/meminfo")
THREADS_VARIABLE = "OMP_NUM_THREADS"
# Of a group's files: its limits, what it uses, and a line of memory.stat, which counts pages of
# files that the kernel gives back when memory is short. First version 2, then version 1.
MEMORY_FILES = (
    (("memory.max", "memory.high"), "memory.current", "inactive_file"),
    (("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file"),
)


def cores() -> int:
    """CPU cores that this process may use, and its control groups have time for."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quotas = [math.ceil(quota) for group in _groups("cpu") for quota in _quota(group)]
    return max(1, min([allowed or 1, *quotas]))


def free_memory() -> int | None:
    """Bytes that this process may still take; None where the system does not say."""
    lines = (line.split() for line in _text(MEMORY).splitlines())
    known = [int(words[1]) * 1024 for words in lines if words[:1] == ["MemAvailable:"]]
    known += [left for group in _groups("memory") for left in _left(group)]
    return max(0, min(known)) if known else None


def keep_threads_to_cores() -> None:
    """Let PyTorch start no more threads than there are cores, where the user has not said."""
    import torch  # takes seconds

    if not os.environ.get(THREADS_VARIABLE):
        torch.set_num_threads(min(torch.get_num_threads(), cores()))


def _groups(controller: str) -> Iterator[Path]:
    """Folders of this process's control groups: its own one, and those that it lies in.

    In a container the folders often begin with its own group, whatever name the process is told.
    """
    places = {(root, "/") for root in (GROUPS, GROUPS / controller)}
    for line in _text(OWN).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            places |= {(GROUPS, path), (GROUPS / "unified", path)}
        elif controller in controllers.split(","):
            places |= {(GROUPS / controller, path), (GROUPS / controllers, path)}
    found = set()
    for root, path in places:
        parts = [] if ".." in path else [part for part in path.split("/") if part]
        found |= {root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)}
    return iter(sorted(found))


def _quota(group: Path) -> Iterator[float]:
    """Cores' time that a group may take; nothing where it is not limited."""
    words = _text(group / "cpu.max").split()
    words = words or [_text(group / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        yield int(words[0]) / int(words[1])  # without a limit it is `max` or -1


def _left(group: Path) -> Iterator[int]:
    """Bytes that a group may still take."""
    for limits, used, reclaimed in MEMORY_FILES:
        use = _text(group / used).strip()
        for limit in (_text(group / name).strip() for name in limits):
            if limit.isdigit() and use.isdigit():
                yield int(limit) - int(use) + _counted(group / "memory.stat", reclaimed)


def _counted(path: Path, name: str) -> int:
    lines = (line.split() for line in _text(path).splitlines())
    return next((int(words[1]) for words in lines if words[:1] == [name]), 0)


def _text(path: Path) -> str:
    """A file's text; empty where there is none to read."""
    try:
        return path.read_text()
    except OSError:
        return ""
