"""Several students at once: the same results, and one's end is not the others'."""

import io
import os
from pathlib import Path
from typing import Any

import members
import pandas as pd
import pytest
from commands import SMALL, Answer, children, distilnas, inside, refused, rows
from optuna.trial import TrialState
from rich.console import Console

from search.database.row import Row
from search.study.settings import parse_workers
from search.terminal.progress import Display
from search.training.listener import Outcome
from search.workers.auto import best, candidates
from space.errors import InputError
from trainers.engine.result import Epoch
from trainers.machine import cores

RANDOM = (*("--sampler", "random"), *("--pruner", "none"), *("--seed", "3"), *("--teacher", "none"))
QUICK = (*SMALL, *RANDOM, "--epochs", "4", "--trials", "5")
RESUME = ("resume", "s", "--cache", "cache", "--device", "cpu")


def students(folder: Path) -> dict[str, bytes]:
    found = sorted((folder / "runs").rglob("*.safetensors"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_trained_beside_each_other_as_alone(tmp_path: Path) -> None:
    arguments = (*SMALL, *RANDOM, "--finalists", "1")
    alone, beside = tmp_path / "alone", tmp_path / "beside"
    for folder, workers in ((alone, "1"), (beside, "2")):
        folder.mkdir()
        answer = distilnas(folder, "search", *arguments, "--workers", workers)
        assert answer.status == 0, answer.err
    pd.testing.assert_frame_equal(rows(beside), rows(alone))
    assert students(beside) == students(alone)
    assert len(students(beside)) == 3 * 2 + 3 * 2 + 1  # of 3 trials, 3 further seeds, the best
    assert not list((beside / "runs").rglob("*.tmp"))
    assert not list((beside / "runs").rglob("checkpoint.pt"))


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose searches train by `members.misled_train`."""
    monkeypatch.setattr("search.training.objective.train", members.misled_train)
    monkeypatch.setattr("search.commands.search.ContextSpec", members.ContextSpec)
    return tmp_path


def searched(folder: Path, *flags: str) -> Answer:
    folder.mkdir(exist_ok=True)
    before = children(os.getpid())
    answer = inside(folder, "search", *QUICK, *flags)
    left = children(os.getpid()) - before
    assert len(left) <= 1, "more is left than multiprocessing's own tracker"
    return answer


@pytest.mark.slow
def test_one_student_s_failure_is_its_own(quick: Path) -> None:
    assert searched(quick / "whole").status == 0
    expected = rows(quick / "whole")
    folder = quick / "failing"
    folder.mkdir()
    members.behave(folder, {"trial0001": "raise", "trial0002": "die", "trial0003": "die once"})
    answer = searched(folder, "--workers", "2")
    assert answer.status == 0, answer.err
    found = rows(folder)
    assert list(found["state"][1:3]) == ["FAIL", "FAIL"]
    assert list(found["ended"][1:3]) == ["error", "error"]
    assert list(found["reason"][1:3]) == ["a convolution failed", "its process died (signal 9)"]
    others = [0, 3, 4]
    pd.testing.assert_frame_equal(found.loc[others], expected.loc[others], check_dtype=False)
    begun = members.trainings(folder)
    assert sorted(begun) == sorted(f"trial{k:04d}" for k in (0, 1, 2, 2, 3, 3, 4))


@pytest.mark.parametrize(
    ("befalls", "words"),
    [
        ("input", "bank of teacher logits"),
        pytest.param("full", "No space left", marks=pytest.mark.slow),
    ],
)
def test_what_fails_for_all_stops_all(quick: Path, befalls: str, words: str) -> None:
    members.behave(quick, {"trial0002": befalls})
    refused(searched(quick, "--workers", "2"), words)
    assert set(rows(quick)["state"]) <= {"COMPLETE", "FAIL", "RUNNING"}
    assert rows(quick)["state"][2] == "RUNNING"
    members.behave(quick, {})
    answer = inside(quick, *RESUME)
    assert answer.status == 0, answer.err
    alone = quick / "alone"
    assert searched(alone).status == 0
    pd.testing.assert_frame_equal(rows(quick), rows(alone))


def test_a_network_in_training_is_not_trained_twice(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A space of two shapes; trials of the same one come while it is trained, and wait."""
    from dataclasses import replace

    from search.study import spec as specs
    from space.spaces import search_space

    def tiny(name: str, *, size: int, compressed_stem: bool = False) -> Any:
        whole = search_space(name, size=size, compressed_stem=compressed_stem)
        choices = {key: values[:1] for key, values in whole.choices.items()}
        return replace(whole, choices=choices | {"stage1_depth": (1, 2)})

    monkeypatch.setattr(specs, "search_space", tiny)
    members.behave(quick, {"trial0000": "slow"})
    answer = searched(quick, "--workers", "3")
    assert answer.status == 0, answer.err
    found = rows(quick)
    assert len(members.trainings(quick)) == found["duplicate_of"].isna().sum() == 2
    twins = found[found["duplicate_of"].notna()]
    assert len(twins) >= 50
    for _, row in twins.iterrows():
        first = found.loc[int(row["duplicate_of"])]
        assert (row["fingerprint"], row["state"]) == (first["fingerprint"], first["state"])
        assert row["accuracies"] == first["accuracies"]
        assert row["number"] > first["number"]


@pytest.mark.slow
def test_auto_measures_and_says_so(tmp_path: Path) -> None:
    answer = distilnas(tmp_path, "search", *SMALL, *RANDOM, "--workers", "auto")
    assert answer.status == 0, answer.err
    lines = [line for line in answer.err.splitlines() if line.startswith("parallel: ")]
    assert len(lines) in (1, 2)
    assert len(rows(tmp_path)) == 3
    answer = distilnas(tmp_path, *RESUME, "--workers", "auto")  # there is nothing to do
    assert "parallel: 1" in answer.err


def test_more_workers_than_cores_is_a_warning(quick: Path) -> None:
    many = str(cores() + 1)
    answer = searched(quick, "--trials", "1", "--workers", many)
    assert answer.status == 0
    assert f"warning: {many} students at once share" in answer.err


def test_the_file_of_settings_may_say_it(tmp_path: Path) -> None:
    for text in ("4", '"auto"'):
        (tmp_path / "c.toml").write_text(f"workers = {text}\n")
        planned = inside(tmp_path, "search", "--config", "c.toml", "--dry-run", "--json")
        assert str(planned.json["settings"]["workers"]) == text.strip('"')


def test_numbers_of_workers() -> None:
    assert [parse_workers(given) for given in (1, "3", " auto ")] == [1, 3, None]
    for wrong in (0, -1, "0", "-2", "1.5", "many", "", "²"):
        with pytest.raises(InputError, match="at least 1"):
            parse_workers(wrong)


@pytest.mark.parametrize(
    ("highest", "tried"), [(2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_candidates_of_auto(highest: int, tried: list[int]) -> None:
    assert candidates(highest) == tried


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({1: 100.0, 2: 104.0}, 1),  # not worth a second process
        ({1: 100.0, 2: 180.0, 4: 185.0}, 2),
        ({1: 100.0, 2: 180.0, 4: 300.0}, 4),
        ({1: 100.0, 2: 0.0}, 1),
        ({1: 0.0, 2: 0.0}, 1),
    ],
)
def test_the_smallest_crew_that_is_nearly_as_fast(rates: dict[int, float], chosen: int) -> None:
    assert best(rates) == chosen


def test_a_row_a_running_student() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Display(console, trials=4, done=0) as display:
        display.began("trial 0", "conv 8", 8)
        display.began("trial 1", "conv 12", 8)
        display.epoch_done("trial 1", Epoch(3, 0.5, 1.0, 1.0))
        shown = {task.description: task.completed for task in display.progress.tasks}
        assert shown == {"trials": 0, "trial 0": 0, "trial 1": 3}
        display.ended("trial 0")
        assert [task.description for task in display.progress.tasks] == ["trials", "trial 1"]


def test_a_fallback_from_graphs_is_said_once() -> None:
    told = io.StringIO()
    with Display(Console(file=told, width=120), trials=3, done=0) as display:
        for number in range(3):
            row = Row(ended="error", reason="no", fallback="it waits for the device")
            display.trial_done(Outcome(number, TrialState.FAIL, None, row, f"trial {number}"))
    assert told.getvalue().count("it waits for the device") == 1
