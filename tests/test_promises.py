"""The promises at the top of README, each kept by the command line alone."""

import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import ROOT, command, distilnas, environment

from trainers import export
from trainers.data.datasets import load
from trainers.engine.evaluation import accuracy_of, confusion

SMALL = (
    *("--trials", "4", "--epochs", "4", "--teacher-epochs", "2", "--device", "cpu"),
    *("--cache", "cache", "--name", "s"),
)
PROMISES = {
    "On budget by construction.": "test_on_budget_by_construction",
    "What is scored is what ships.": "test_what_is_scored_is_what_ships",
    "Nothing is lost.": "test_nothing_is_lost",
    "Many students an hour.": "test_many_students_an_hour",
    "Teach once.": "test_teach_once",
}


def rows(folder: Path) -> list[dict[str, Any]]:
    found = distilnas(folder, "show", "s", "--json").json["trials"]
    assert found
    return list(found)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search, made without a pruner: every student has a file."""
    folder = tmp_path_factory.mktemp("searched")
    answer = distilnas(folder, "search", *SMALL, "--pruner", "none")
    assert answer.status == 0, answer.err
    return folder


def test_each_promise_has_its_test() -> None:
    page = (ROOT / "README.md").read_text()
    assert re.findall(r"^- \*\*(.+?)\*\*", page, re.MULTILINE)[:5] == list(PROMISES)
    assert set(PROMISES.values()) <= set(globals())


def test_on_budget_by_construction(searched: Path) -> None:
    """Every student's file, on the disk, fills the budget and does not exceed it."""
    for row in rows(searched):
        file = searched / "runs" / "s" / f"trial{row['number']:04d}" / "student.safetensors"
        assert file.stat().st_size == row["bytes"] <= 20_000
        assert row["bytes"] >= 0.95 * 20_000
        assert row["state"] == "COMPLETE"  # none was rejected


def test_what_is_scored_is_what_ships(searched: Path) -> None:
    """A trial's value is what its int8 file answers on the validation images, once it is read."""
    for row in rows(searched):
        assert row["format"] == "int8"
        assert row["value"] == row["file_accuracy"]
        folder = searched / "runs" / "s" / f"trial{row['number']:04d}"
        digest = hashlib.sha256((folder / "student.safetensors").read_bytes()).hexdigest()
        assert digest == sha256_of(searched, row["number"])
    best = min(rows(searched), key=lambda row: (-row["value"], row["bytes"], row["number"]))
    own = searched / "runs" / "s" / f"trial{best['number']:04d}" / "student.safetensors"
    assert (searched / "runs" / "s" / "best.safetensors").read_bytes() == own.read_bytes()
    data = load("digits", cache=searched / "cache").validation
    found_KK = confusion(export.read(own).model, data, torch.device("cpu"))
    assert best["value"] == accuracy_of(found_KK)


def sha256_of(folder: Path, number: int) -> str:
    """Of a student's file, as its row says."""
    query = (
        "SELECT value_json FROM trial_user_attributes a JOIN trials t USING (trial_id) "
        "WHERE key = 'file_sha256' AND number = ?"
    )
    with closing(sqlite3.connect(folder / "studies.db")) as database:
        found: str = json.loads(database.execute(query, (number,)).fetchone()[0])
    return found


def test_nothing_is_lost(searched: Path, tmp_path: Path) -> None:
    """Killed in its second student and resumed, it ends with the same numbers and files."""
    with subprocess.Popen(
        command("search", *SMALL, "--pruner", "none"),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("  trial 1: epoch 2"):
                os.killpg(process.pid, signal.SIGKILL)
    assert [row["state"] for row in rows(tmp_path)] == ["COMPLETE", "RUNNING"]
    assert distilnas(tmp_path, "resume", "s", "--cache", "cache", "--device", "cpu").status == 0
    times = ("started", "completed", "seconds")
    kept = [{k: v for k, v in row.items() if k not in times} for row in rows(tmp_path)]
    whole = [{k: v for k, v in row.items() if k not in times} for row in rows(searched)]
    assert kept == whole
    for file in (searched / "runs").rglob("*.safetensors"):
        assert (tmp_path / file.relative_to(searched)).read_bytes() == file.read_bytes()


def running(folder: Path) -> int:
    """Trials in training now, by the database."""
    try:
        with closing(sqlite3.connect(f"file:{folder}/studies.db?mode=ro", uri=True)) as database:
            query = "SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'"
            return int(database.execute(query).fetchone()[0])
    except sqlite3.Error:
        return 0  # it is not made yet


@pytest.mark.slow
def test_many_students_an_hour(tmp_path: Path) -> None:
    """Two are in training at the same time; how many an hour: tests/test_pages_figures.py."""
    flags = (*SMALL, "--teacher", "none", "--workers", "2")
    process = subprocess.Popen(
        command("search", *flags),
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    most = 0
    while process.poll() is None:
        most = max(most, running(tmp_path))
        time.sleep(0.02)
    assert process.returncode == 0
    assert most == 2


def test_teach_once(searched: Path) -> None:
    """A second search of the same views trains no teacher, and asks none: the bank is read."""
    cache = searched / "cache"
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.rglob("*.bin")}
    teachers = set((cache / "teachers").iterdir())
    assert len(before) == 4  # a file an epoch
    answer = distilnas(searched, "search", *SMALL[:-1], "t", "--pruner", "none")
    assert answer.status == 0, answer.err
    assert "computing the teacher's logits" not in answer.err
    assert "teacher: teacher-small from scratch" not in answer.err
    after = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.rglob("*.bin")}
    assert after == before
    assert set((cache / "teachers").iterdir()) == teachers
    first, second = (
        json.loads(distilnas(searched, "show", name, "--json").out) for name in ("s", "t")
    )
    assert [t["value"] for t in first["trials"]] == [t["value"] for t in second["trials"]]
