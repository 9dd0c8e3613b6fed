"""Running the command line as a user would: another process, its two outputs, its exit status."""

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import click
import pandas as pd
import pytest
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from benchmarks import results
from dashboards.cli import main
from search.database import table
from search.database.engine import open_engine
from space.errors import InputError

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


def start(folder: Path, *arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """The same, not waited for, its outputs to be read.

    Args:
        variables: of its environment.
    """
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment() | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_line(process: "subprocess.Popen[str]", word: str) -> str:
    """Standard error up to the line that holds the word."""
    assert process.stderr is not None
    said = ""
    for line in process.stderr:
        said += line
        if word in line:
            return said
    pytest.fail(f"it ended without {word!r}:\n{said}")


def until(
    true: Callable[[], object],
    process: "subprocess.Popen[str] | None" = None,
    seconds: float = 300,  # on a busy machine, too
) -> None:
    """Wait for something to come true, while the process lives that makes it so."""
    end = time.monotonic() + seconds
    while not true():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


TIMES = ["started", "completed", "seconds"]  # of rows: they differ from run to run


def trials(where: Path | str, study: str = "s") -> pd.DataFrame:
    """A study's rows.

    Args:
        where: a folder with `studies.db`, or a database's address.
    """
    with _engine(where) as engine:
        return table.trials(engine, study)


def rows(where: Path | str, study: str = "s") -> pd.DataFrame:
    """What of a study's rows is the same whenever it is run."""
    return trials(where, study).drop(columns=TIMES)


def states(where: Path | str) -> list[str]:
    """Of the study's trials; none while it is being made."""
    with suppress(InputError, SQLAlchemyError):
        return list(trials(where)["state"])
    return []


def epochs(where: Path | str) -> int:
    """That the study's first trial has reported."""
    with suppress(InputError, SQLAlchemyError), _engine(where) as engine:
        return len(table.curves(engine, "s", [0]))
    return 0


@contextmanager
def _engine(where: Path | str) -> Iterator[sa.Engine]:
    engine = open_engine(str(where / "studies.db") if isinstance(where, Path) else where)
    try:
        yield engine
    finally:
        engine.dispose()


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
