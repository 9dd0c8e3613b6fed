"""Killed and resumed equals uninterrupted; nothing lost, nothing twice."""

import os
import random
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from commands import SMALL, children, command, distilnas, environment, living, refused

from search import report, table
from search.places import Folder

LONGER = (*SMALL, "--epochs", "8", "--pruner", "none")  # the last of two flags holds
UNEQUAL = ["started", "completed", "seconds"]  # times of day and durations


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def rows(folder: Path) -> pd.DataFrame:
    frame = table.trials(report.engine(str(folder / "studies.db")), "s")
    return frame.drop(columns=UNEQUAL)


def states(folder: Path) -> list[tuple[int, str]]:
    frame = table.trials(report.engine(str(folder / "studies.db")), "s")
    return list(zip(frame["number"], frame["state"], strict=True))


def study_made(folder: Path) -> bool:
    """Whether `resume` has something to go on with."""
    if not (folder / "studies.db").exists():
        return False
    with sqlite3.connect(folder / "studies.db") as connection:
        try:
            query = "SELECT 1 FROM study_user_attributes WHERE key = 'spec'"
            return bool(connection.execute(query).fetchall())
        except sqlite3.OperationalError:
            return False


def wait_for_line(process: "subprocess.Popen[str]", word: str) -> None:
    """Read standard error up to the line that holds the word."""
    assert process.stderr is not None
    for line in process.stderr:
        if word in line:
            return
    pytest.fail(f"the search ended without {word!r}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    answer = distilnas(folder, "search", *LONGER)
    assert answer.status == 0, answer.err
    return folder


# Each word is in a line of the plain progress; the kill comes a moment behind it.
MOMENTS = ["teacher: teacher-small", "trial 0:", "trial 0 complete", "trial 1:", "trial 2:"]


@pytest.mark.slow
def test_killed_many_times_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    for word in MOMENTS:
        arguments = (
            ("resume", "s", "--cache", "cache") if study_made(tmp_path) else ("search", *LONGER)
        )
        process = start(tmp_path, *arguments)
        wait_for_line(process, word)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert any(state == "RUNNING" for _, state in states(tmp_path))
    answer = distilnas(tmp_path, "resume", "s", "--cache", "cache")
    assert answer.status == 0, answer.err
    pd.testing.assert_frame_equal(rows(tmp_path), rows(whole))
    best = "runs/s/best.safetensors"
    assert (tmp_path / best).read_bytes() == (whole / best).read_bytes()
    assert not list((tmp_path / "runs").rglob("*.tmp"))


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "search", *LONGER)
    wait_for_line(process, "trial 0:")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "distilnas resume s" in err
    assert "Traceback" not in err
    assert distilnas(tmp_path, "resume", "s", "--cache", "cache").status == 0
    pd.testing.assert_frame_equal(rows(tmp_path), rows(whole))


@pytest.mark.slow
def test_a_study_is_made_by_one_process(tmp_path: Path) -> None:
    first = start(tmp_path, "search", *SMALL, "--teacher-epochs", "500")
    wait_for_line(first, "teacher:")
    refused(distilnas(tmp_path, "search", *SMALL), "made by one process", "distilnas worker s")
    first.kill()
    first.communicate()
    with Folder(str(tmp_path / "studies.db"), "s").lock("s"):
        pass  # the kernel has freed it


def wait_for_all_to_end(processes: set[int]) -> None:
    until = time.monotonic() + 20
    while living(processes):
        assert time.monotonic() < until, f"orphans: {living(processes)}"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_a_crew_outlives_its_coordinator(
    whole: Path, tmp_path: Path, how: signal.Signals
) -> None:
    process = start(tmp_path, "search", *LONGER, "--workers", "2")
    wait_for_line(process, "epoch 2/8")
    crew = children(process.pid)
    assert len(crew) >= 2
    asked = how != signal.SIGKILL
    for member in crew if asked else ():  # as terminals and schedulers do: to all of them
        os.kill(member, how)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (128 + how if asked else -how)
    assert not asked or "distilnas resume s" in err
    assert "Traceback" not in err
    wait_for_all_to_end(crew)
    assert "RUNNING" in {state for _, state in states(tmp_path)}
    answer = distilnas(tmp_path, "resume", "s", "--cache", "cache", "--workers", "2")
    assert answer.status == 0, answer.err
    pd.testing.assert_frame_equal(rows(tmp_path), rows(whole))
    assert not list((tmp_path / "runs").rglob("*.tmp"))


@pytest.mark.slow
def test_a_member_that_is_killed_costs_nothing(whole: Path, tmp_path: Path) -> None:
    process = start(tmp_path, "search", *LONGER, "--workers", "2")
    wait_for_line(process, "epoch 4/8")
    for member in children(process.pid):  # and multiprocessing's tracker
        os.kill(member, signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    pd.testing.assert_frame_equal(rows(tmp_path), rows(whole))


@pytest.mark.slow
def test_ctrl_c_while_a_crew_starts(tmp_path: Path) -> None:
    process = start(tmp_path, "search", *LONGER, "--workers", "2")
    wait_for_line(process, "trial 1:")
    os.killpg(process.pid, signal.SIGINT)  # members may not have run their first line
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
