"""Signs by which processes on one machine know whether another one lives."""

import datetime
import fcntl
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import BinaryIO

BOOT = Path("/proc/sys/kernel/random/boot_id")


def marked(path: Path) -> BinaryIO:
    """A new file, locked until it is closed or this process ends, however it ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("xb")
    with suppress(OSError):  # no locks on this file system: others wait for the grace
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def is_dead(path: Path) -> bool:
    """Whether the process that marked a file has ended; False if that cannot be told."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@cache
def host() -> str:
    """This machine's name, in characters that a file's name may have."""
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in socket.gethostname())


@cache
def boot() -> str:
    """An identity that changes when the machine restarts; "" if the system has none."""
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def utc() -> str:
    """Now, by this machine's clock: for people only."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
