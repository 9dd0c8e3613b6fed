"""Running the command line as a user would: another process, its two outputs, its exit status."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from benchmarks import results
from dashboards.cli import main

ROOT = Path(__file__).parents[1]
SMALL = (
    *("--cache", "cache", "--name", "s", "--trials", "3"),
    *("--epochs", "3", "--teacher-epochs", "1", "--device", "cpu"),
)


class Answer(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "search", *arguments]


def environment() -> dict[str, str]:
    """One thread, so that tests beside each other do not fight for cores."""
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def distilnas(folder: Path, *arguments: str, timeout: float = 300) -> Answer:
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)


def inside(folder: Path, *arguments: str) -> Answer:
    """The same in this process, seconds faster."""
    out, err = io.StringIO(), io.StringIO()
    before, argv = Path.cwd(), sys.argv
    try:
        os.chdir(folder)
        sys.argv = ["distilnas", *arguments]
        with redirect_stdout(out), redirect_stderr(err):
            main()
        status = 0
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = argv
        os.chdir(before)
    return Answer(status, out.getvalue(), err.getvalue())


def refused(answer: Answer, *words: str) -> None:
    """Assert exit status 2 and one line on standard error that holds these words."""
    assert answer.status == 2, answer
    lines = [line for line in answer.err.splitlines() if line.startswith("distilnas: ")]
    assert len(lines) == 1, answer.err
    assert "Traceback" not in answer.err
    for word in words:
        assert word in lines[0], lines[0]


def children(process: int) -> set[int]:
    """Processes that this one has begun, and that have not ended."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            state, parent = path.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == process and state != "Z":
                found.add(int(path.parent.name))
    return found


def living(processes: Iterable[int]) -> set[int]:
    """Those of the processes that run."""
    found = set()
    for number in processes:
        with suppress(OSError):
            stat = Path(f"/proc/{number}/stat").read_text()
            if stat.rpartition(")")[2].split()[0] != "Z":
                found.add(number)
    return found


def refused_benchmark(
    command: click.Command, begins: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Assert that a benchmark, run with the flags in `sys.argv`, ends in one line and status 2."""
    with pytest.raises(SystemExit) as ended:
        results.run(command)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(begins)
    assert error.count("\n") == 1
    assert told in error
