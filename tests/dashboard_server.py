"""A dashboard in a process of its own, for tests that ask it."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from commands import environment


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@contextmanager
def served(database: Path | str, *flags: str, **variables: str) -> Iterator[str]:
    """The address of a dashboard over a database; it is stopped as Ctrl-C stops it."""
    port = free_port()
    command = [sys.executable, "-m", "dashboards", "dashboard", "--no-browser"]
    process = subprocess.Popen(
        [*command, "--storage", str(database), "--port", str(port), *flags],
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, address)
        yield address
    finally:
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[0]
    assert "Traceback" not in said, said


def _wait(process: "subprocess.Popen[str]", address: str) -> None:
    for _ in range(600):  # a busy machine takes its time
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except urllib.error.HTTPError:
            return  # it answers, be it with a refusal
        except OSError:
            if process.poll() is not None:
                raise AssertionError(process.communicate()[0]) from None
            time.sleep(0.1)
        else:
            return
    raise AssertionError(f"no answer at {address} ({os.getpid()})")
