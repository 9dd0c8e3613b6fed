"""Killed and resumed equals uninterrupted; nothing lost, nothing twice."""

import os
import random
import re
import signal
import sqlite3
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import (
    SMALL,
    children,
    distilnas,
    inside,
    living,
    refused,
    rows,
    start,
    states,
    trials,
    until,
    wait_for_line,
)

from search.database import table
from search.database.engine import open_engine
from search.study.folder import Folder

LONGER = (*SMALL, "--epochs", "8", "--pruner", "none")  # the last of two flags holds


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    answer = distilnas(folder, "search", *LONGER)
    assert answer.status == 0, answer.err
    return folder


# Each word is in a line of the plain progress; the kill comes a moment after it.
MOMENTS = ["teacher: teacher-small", "trial 0:", "trial 0 complete", "trial 1:", "trial 2:"]


@pytest.mark.slow
def test_killed_many_times_equals_uninterrupted(whole: Path, tmp_path: Path) -> None:
    rng, unfinished = random.Random(0), 0
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
        unfinished += "RUNNING" in states(tmp_path)
    assert unfinished, "no kill has met a trial"
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


# --- `resume --trials N`: N more, however often it is killed and typed again

QUICK = (
    *("--cache", "cache", "--name", "s", "--teacher", "none", "--trials", "2", "--epochs", "2"),
    *("--pruner", "none", "--device", "cpu", "--budget", "4KB", "--space", "plain"),
)


def attributes(folder: Path) -> dict[str, Any]:
    return table.attributes(open_engine(str(folder / "studies.db")), "s")


def resumed(folder: Path, *arguments: str) -> str:
    """What a resume that is left alone says beside its results."""
    answer = inside(folder, "resume", "s", "--cache", "cache", *arguments)
    assert answer.status == 0, answer.err
    return answer.err


def ended(folder: Path) -> int:
    """Trials for which something was trained; none is left unfinished."""
    frame = trials(folder)
    assert not (frame["state"] == "RUNNING").any()
    return int(frame["duplicate_of"].isna().sum())


def interrupted(folder: Path, word: str, how: signal.Signals, *arguments: str) -> str:
    """A resume that is stopped when a line with the word is there."""
    process = start(folder, "resume", "s", "--cache", "cache", *arguments)
    said = wait_for_line(process, word)
    process.send_signal(how)
    said += process.communicate(timeout=60)[1]
    assert process.returncode == (130 if how == signal.SIGINT else -how)
    return said


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_trials_are_added_once_however_often_the_command_is_stopped(
    tmp_path: Path, how: signal.Signals
) -> None:
    assert inside(tmp_path, "search", *QUICK).status == 0
    said = interrupted(tmp_path, "trial 2:", how, "--trials", "3", "--timeout", "1h")
    assert "3 trials more, 5 trials in all" in said
    assert "60 min more, " in said
    limit = attributes(tmp_path)["timeout"]
    said = resumed(tmp_path, "--trials", "3", "--timeout", "1h")
    assert re.search(r"goes on with the 3 trials asked for before: [23] trials are left", said)
    assert re.search(r"goes on with the 60 min asked for before: .* are left", said)
    assert attributes(tmp_path)["timeout"] == limit
    assert ended(tmp_path) == 5
    assert "goes on" not in resumed(tmp_path, "--trials", "0")
    assert ended(tmp_path) == 5
    assert "3 trials more, 8 trials in all" in resumed(tmp_path, "--trials", "3", "--timeout", "1h")
    assert ended(tmp_path) == 8
    assert attributes(tmp_path)["timeout"] > limit


@pytest.mark.slow
def test_trials_are_added_once_beside_other_workers(tmp_path: Path) -> None:
    """In two terminals at the same time; another number, or nothing, is another wish."""
    assert inside(tmp_path, "search", *QUICK).status == 0
    first = start(tmp_path, "resume", "s", "--cache", "cache", "--trials", "4")
    wait_for_line(first, "trial 2:")
    assert "goes on with the 4 trials" in resumed(tmp_path, "--trials", "4")
    assert first.communicate(timeout=60)[1] is not None
    assert first.returncode == 0
    assert ended(tmp_path) == 6
    interrupted(tmp_path, "trial 6:", signal.SIGKILL, "--trials", "2")
    assert "1 trials more, 9 trials in all" in resumed(tmp_path, "--trials", "1")
    assert ended(tmp_path) == 9


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_of_a_crew_outlives_its_coordinator(
    whole: Path, tmp_path: Path, how: signal.Signals
) -> None:
    process = start(tmp_path, "search", *LONGER, "--workers", "2")
    wait_for_line(process, "epoch 2/8")
    executor = children(process.pid)
    assert len(executor) >= 2
    asked = how != signal.SIGKILL
    for member in executor if asked else ():  # as terminals and schedulers do: to all of them
        os.kill(member, how)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (128 + how if asked else -how)
    assert not asked or "distilnas resume s" in err
    assert "Traceback" not in err
    until(lambda: not living(executor), seconds=60)  # no orphans
    assert "RUNNING" in states(tmp_path)
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
