"""Optuna's storage, made to outlast an absence: same answers, every question tried again."""

import inspect
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage, _cached_storage
from optuna.trial import FrozenTrial, TrialState

from search.database.address import url_of
from search.database.storage import RetryingStorage, backend_of, open_storage


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database."""
    if request.param == "sqlite":
        return str(tmp_path / "studies.db")
    return str(request.getfixturevalue("postgres"))


class Absence:
    """A database that is away for so many seconds, told by a clock that only sleeping moves."""

    def __init__(self, storage: RetryingStorage, seconds: float, error: str) -> None:
        self.time, self.seconds, self.error = 0.0, seconds, error
        self.asked, self.said = 0, list[str]()
        storage.retry.now, storage.retry.sleep = lambda: self.time, self.sleep
        storage.retry.say = self.said.append
        sa.event.listen(storage.engine, "begin", self.fail)

    def sleep(self, seconds: float) -> None:
        self.time += seconds

    def fail(self, connection: sa.Connection) -> None:
        self.asked += 1
        if self.time < self.seconds:
            raise sa.exc.OperationalError("SELECT password", {}, Exception(self.error))


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[RetryingStorage]:
    opened = open_storage(str(tmp_path / "studies.db"), create=True)
    yield opened
    opened.remove_session()
    opened.engine.dispose()


QUESTIONS = {
    "ours": lambda storage: storage.read(lambda c: list(c.execute(sa.text("SELECT 1 WHERE 0")))),
    "optuna's": lambda storage: storage.get_all_studies(),
}
Question = Callable[[RetryingStorage], list[object]]
each_question = pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)


@each_question
def test_an_absence_is_outlasted_and_told(storage: RetryingStorage, ask: Question) -> None:
    absence = Absence(storage, 60, "the server went away")
    assert ask(storage) == []
    assert 60 <= absence.time < 63.1
    assert 22 < absence.asked < 50
    assert absence.said == [
        "the study database does not answer (the server went away); trying again for 10 min",
        "the study database answers again",
    ]


@each_question
def test_a_restart_is_not_told(storage: RetryingStorage, ask: Question) -> None:
    absence = Absence(storage, 0.5, "the server went away")
    assert ask(storage) == []
    assert absence.asked > 2
    assert absence.said == []


@each_question
def test_patience_ends(storage: RetryingStorage, ask: Question) -> None:
    absence = Absence(storage, math.inf, "refused")
    with pytest.raises((sa.exc.OperationalError, optuna.exceptions.StorageInternalError)):
        ask(storage)
    assert 600 < absence.time < 603.1
    assert len(absence.said) == 1


@each_question
def test_what_does_not_pass_is_not_tried_again(storage: RetryingStorage, ask: Question) -> None:
    absence = Absence(storage, math.inf, "database or disk is full")
    with pytest.raises((sa.exc.OperationalError, optuna.exceptions.StorageInternalError)):
        ask(storage)
    assert (absence.asked, absence.said) == (1, [])


def test_every_question_of_optuna_s_outlasts_an_absence() -> None:
    """Whatever of a storage Optuna's cache asks while a study runs."""
    asked = set(re.findall(r"self\._backend\.(\w+)", inspect.getsource(_cached_storage)))
    # Made before a study runs, or not at all: trials are made and ended by the worker.
    never = {
        *("create_new_study", "delete_study", "_create_new_trial", "set_trial_state_values"),
        *("record_heartbeat", "_get_stale_trial_ids", "get_heartbeat_interval"),
        *("get_heartbeat_stale_trial_callback",),
    }
    assert "get_trial" in asked
    for name in asked - never:
        assert getattr(RetryingStorage, name) is not getattr(RDBStorage, name), name


def test_trials_are_read_as_optuna_reads_them(address: str) -> None:
    """Set by set as object by object, but for what no worker asks for."""
    study = optuna.create_study(storage=open_storage(address, create=True), study_name="s")
    study.enqueue_trial({"x": 1.5})
    study.optimize(play, n_trials=12)
    study.ask()
    own, study_id = backend_of(study)
    plain = RDBStorage(url_of(address), skip_table_creation=True)
    for states in (None, (TrialState.COMPLETE,), (TrialState.RUNNING, TrialState.PRUNED)):
        for included, beyond in ((set[int](), -1), ({2, 3, 40}, 5)):
            asked = (study_id, states, included, beyond)
            assert list(map(told, own._get_trials(*asked))) == [
                {key: text for key, text in told(trial).items() if "confusion" not in key}
                for trial in plain._get_trials(*asked)
            ]
    for storage in (own, plain):
        storage.remove_session()
        storage.engine.dispose()


def told(trial: FrozenTrial) -> dict[str, str]:
    """All that a trial holds, as text: NaN is not NaN, and the order of attributes is nothing."""
    found = {f"attribute {key}": repr(value) for key, value in trial.user_attrs.items()}
    found |= {f"mark {key}": repr(value) for key, value in trial.system_attrs.items()}
    whole = {key: value for key, value in vars(trial).items() if "_attrs" not in key}
    return found | {key: repr(value) for key, value in whole.items()}


def play(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", -2, 2)
    trial.suggest_categorical("kind", ["a", None, 3, True])
    trial.suggest_int("width", 4, 64, step=4)
    trial.set_user_attr("row", {"a": [1, None, "b"]})
    trial.set_user_attr("confusion", [[1]])
    for step, value in enumerate((0.5, math.nan, math.inf, -math.inf)):
        trial.report(value, step)
    if trial.number % 4 == 1:
        raise optuna.TrialPruned
    return math.inf if trial.number % 4 == 2 else x
