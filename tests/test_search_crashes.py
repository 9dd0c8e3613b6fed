"""A process that dies after any of a study's database transactions loses and doubles nothing."""

import errno
import json
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import forks
import members
import optuna
import pandas as pd
import pytest
from commands import inside, refused, rows
from members import quick_train
from optuna.storages import RDBStorage

from search.training import objective
from trainers.teachers import teacher

# A process that is killed on purpose closes nothing.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
TRIALS, EPOCHS = 6, 4
MOMENTS = 8
SEARCH = (
    *("search", "--name", "s", "--trials", str(TRIALS), "--epochs", str(EPOCHS)),
    *("--teacher", "none", "--device", "cpu", "--cache", "cache"),
)
TAUGHT = tuple(word.replace("none", "teacher-small") for word in SEARCH)
RESUME = ("resume", "s", "--device", "cpu", "--cache", "cache")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.objective.train", quick_train)


def begun(folder: Path, *flags: str) -> bool:
    """Whether there is a study that `resume` can go on with."""
    answer = inside(folder, "studies", "--json", *flags)
    return answer.status == 0 and any(study["budget"] for study in answer.json)


def run(
    folder: Path,
    *flags: str,
    limit: int | None = None,
    place: tuple[str, ...] = (),
    more: tuple[str, ...] = (),
) -> int | None:
    """The command that a user would give next, in a process of its own.

    Args:
        place: the flag that names the database, for every command.
        more: flags of `resume`.

    Returns:
        Its transactions, or None where it died after the limit.
    """
    arguments = (*((*RESUME, *more) if begun(folder, *place) else (*SEARCH, *flags)), *place)
    told, train = folder / "told", objective.train  # type: ignore[attr-defined]
    process = forks.server().Process(
        target=forks.run_command, args=(folder, arguments, train, limit, told)
    )
    process.start()
    process.join()
    if process.exitcode != 0:
        assert process.exitcode in (-signal.SIGKILL, -signal.SIGSEGV)
        return None
    status, _, err, count = json.loads(told.read_text())
    assert status == 0, err
    return int(count)


# Flags, and the share of the study's life after which processes die: TPE's first ten trials are
# random, so its model needs a longer study.
STUDIES = {
    "random-hyperband": (("--sampler", "random", "--pruner", "hyperband"), 0.0),
    "nsga2-median": (("--sampler", "nsga2", "--pruner", "median", "--trials", "8"), 0.0),
    "tpe-halving": (("--sampler", "tpe", "--pruner", "halving", "--trials", "13"), 0.75),
    "gp-none": (("--sampler", "gp", "--pruner", "none", "--trials", "12"), 0.85),
}


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_dying_behind_any_transaction_changes_nothing(tmp_path: Path, study: str) -> None:
    flags, begin = STUDIES[study]
    whole = tmp_path / "whole"
    whole.mkdir()
    count = run(whole, *flags)
    assert count
    expected = rows(whole)
    if study.endswith(("halving", "hyperband")):  # chance decides whether the median stops any
        assert "PRUNED" in set(expected["state"])
    rng = random.Random(0)
    for moment in range(MOMENTS):  # one in every stretch of what is left of the study's life
        share = begin + (1 - begin) * (moment + rng.random()) / MOMENTS
        folder = tmp_path / str(moment)
        dies_twice(folder, flags, int(count * share), rng.randrange(40))
        pd.testing.assert_frame_equal(rows(folder), expected, obj=f"{share:.1%}")


def test_a_killed_and_resumed_search_prunes_the_same_trials(tmp_path: Path) -> None:
    flags, whole = ("--trials", "10", "--epochs", "8"), tmp_path / "whole"
    whole.mkdir()
    count = run(whole, *flags)
    assert count
    expected = rows(whole)
    assert list(expected["state"]).count("PRUNED") >= 3
    for share in (0.3, 0.8):
        dies_twice(tmp_path / str(share), flags, int(count * share), 7)
        pd.testing.assert_frame_equal(rows(tmp_path / str(share)), expected, obj=f"{share:.0%}")


def dies_twice(folder: Path, flags: tuple[str, ...], first: int, second: int) -> None:
    """A study that dies after so many transactions, then once more, then goes on to its end."""
    folder.mkdir()
    assert run(folder, *flags, limit=first) is None
    run(folder, *flags, limit=second)
    run(folder, *flags)


def counted(folder: Path) -> int:
    trials = rows(folder)
    trained = trials["duplicate_of"].isna() & (trials["ended"] != "infeasible")
    return int((trained & (trials["state"] != "RUNNING")).sum())


def test_more_trials_are_added_once_however_often_the_command_is_killed(tmp_path: Path) -> None:
    """From its first transaction on; once they are done the same command adds as many again."""
    assert run(tmp_path, "--trials", "2")
    whole = run(tmp_path, more=("--trials", "3"))
    assert whole
    assert counted(tmp_path) == 5
    for limit in (0, 1, 2, whole // 3, whole // 3):
        assert run(tmp_path, limit=limit, more=("--trials", "3")) is None
    assert run(tmp_path, more=("--trials", "3"))
    assert counted(tmp_path) == 8
    assert run(tmp_path, more=("--trials", "3"))
    assert counted(tmp_path) == 11
    assert run(tmp_path, more=("--trials", "0"))
    assert run(tmp_path)
    assert counted(tmp_path) == 11


def test_more_trials_are_added_once_though_their_finals_are_killed(tmp_path: Path) -> None:
    """All trials have ended by then; the command has not."""

    def more(finalists: int) -> tuple[str, ...]:
        return ("--trials", "1", "--finalists", str(finalists))

    assert run(tmp_path, "--trials", "2", "--pruner", "none")
    whole = run(tmp_path, more=more(1))
    assert whole
    assert counted(tmp_path) == 3
    killed = 0  # in finals
    for expected, part in enumerate((0.5, 0.65, 0.8, 0.95), 4):
        again = more(expected - 2)
        if run(tmp_path, limit=int(part * whole), more=again) is None:
            killed += counted(tmp_path) == expected
            assert run(tmp_path, more=again)
        assert counted(tmp_path) == expected
    assert killed


def test_another_number_is_added_to_what_is_left(tmp_path: Path) -> None:
    assert run(tmp_path, "--trials", "2")
    assert run(tmp_path, limit=12, more=("--trials", "3")) is None
    assert run(tmp_path, more=("--trials", "1"))
    assert counted(tmp_path) == 6


CRASHES = [
    ({"trial0001": "crash once"}, 1, "crashes once: trained once more"),
    ({"trial0001": "crash"}, 2, "crashes twice: failed"),
    ({"seed1": "crash"}, 2, "a finalist's seed"),
    ({"trial0000": "crash", "trial0002": "crash"}, 4, "two of them"),
]


@pytest.mark.parametrize(("behaviour", "crashes", "case"), CRASHES, ids=[c[2] for c in CRASHES])
def test_a_student_that_crashes_its_process_fails_alone(
    tmp_path: Path,
    behaviour: dict[str, str],
    crashes: int,
    case: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process ends by SIGSEGV; `resume` goes on, and a second crash fails the student."""
    monkeypatch.setattr("search.training.objective.train", members.misled_train)
    members.behave(tmp_path, behaviour)
    flags = ("--pruner", "none", "--finalists", "1")
    for _ in range(crashes):
        assert run(tmp_path, *flags) is None
    assert run(tmp_path, *flags) is not None
    failed = [place for place, befalls in behaviour.items() if befalls == "crash"]
    trials = rows(tmp_path)
    for number, (state, reason) in enumerate(zip(trials["state"], trials["reason"], strict=True)):
        if f"trial{number:04d}" in failed:
            assert state == "FAIL"
            assert reason == "its process crashed 2 times (Segmentation fault)"
        else:
            assert "crashed" not in reason
    if "seed1" in failed:
        study = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'studies.db'}")
        finals = [row for key, row in study.user_attrs.items() if key.endswith(":1")]
        assert [row["reason"] for row in finals] == [
            "its process crashed 2 times (Segmentation fault)"
        ]


def test_kills_are_no_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a trial's process is killed, the trial is taken up again."""
    monkeypatch.setattr("search.training.objective.train", members.misled_train)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    assert run(whole)
    members.behave(killed, {"trial0001": "die"})
    for _ in range(4):
        assert run(killed) is None
    members.behave(killed, {})
    assert run(killed)
    pd.testing.assert_frame_equal(rows(killed), rows(whole))


@pytest.mark.slow
def test_dying_while_the_study_is_made(tmp_path: Path) -> None:
    """From the tables on: the same command begins it anew, or `resume` goes on."""
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run(whole, "--trials", "1")
    expected, made = rows(whole), []
    for limit in range(11):
        folder = tmp_path / str(limit)
        folder.mkdir()
        assert run(folder, "--trials", "1", limit=limit) is None
        made.append(begun(folder))
        run(folder, "--trials", "1")
        pd.testing.assert_frame_equal(rows(folder), expected, obj=str(limit))
    assert set(made) == {False, True}


def test_what_can_be_resumed_has_its_teacher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *rest: Any) -> Any:
        if path.name == "teacher.pt":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return save(path, *rest)

    flags = ("--trials", "1", "--teacher-epochs", "1")
    save = teacher.save
    monkeypatch.setattr(teacher, "save", full)
    refused(inside(tmp_path, *TAUGHT, *flags), "No space left", "teacher.pt")
    assert not begun(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("search.training.objective.train", quick_train)
    assert inside(tmp_path, *TAUGHT, *flags).status == 0
    assert (tmp_path / "runs/s/teacher.pt").exists()


def test_a_half_made_study_says_what_to_do(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'studies.db'}"
    storage = RDBStorage(url)
    optuna.create_study(study_name="s", storage=storage, direction="maximize")
    storage.remove_session()
    storage.engine.dispose()
    refused(inside(tmp_path, *RESUME), "not begun", "again")
    assert inside(tmp_path, *SEARCH).status == 0
    assert len(rows(tmp_path)) >= TRIALS


def content(database: Path) -> list[str]:
    """All that a database holds; its file's bytes change when SQLite moves its log into it."""
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_a_taken_name_is_refused_before_a_teacher_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("--trials", "1", "--recipe", "digits")
    assert inside(tmp_path, *SEARCH, *flags).status == 0
    before = content(tmp_path / "studies.db")

    def refuse(*rest: object, **more: object) -> None:
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr("search.commands.teachers.teach", refuse)
    taught = (*TAUGHT, *flags)
    refused(inside(tmp_path, *taught, "--budget", "40KB"), "20000", "40000")
    refused(inside(tmp_path, *taught), "exists")
    assert content(tmp_path / "studies.db") == before


@pytest.mark.slow
def test_dying_on_postgresql(tmp_path: Path, postgres: str) -> None:
    flags, place = ("--trials", "3"), ("--storage", postgres)
    whole, folder = tmp_path / "whole", tmp_path / "dies"
    for made in (whole, folder):
        made.mkdir()
    count = run(whole, *flags)
    assert count
    deaths = 0
    while run(folder, *flags, limit=count // 5 + 7 * deaths, place=place) is None:
        deaths += 1
    assert deaths > 2
    pd.testing.assert_frame_equal(rows(postgres), rows(whole))
