"""What pages read: set-based, only what changed, and as the whole table says it."""

import sqlite3
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from dashboards.filters import Filters
from dashboards.library import Library
from search.database import row, table
from search.database.engine import open_engine
from search.database.storage import open_storage
from space.errors import InputError

WORDS = "conv 4 | 2x group 8 g2 se4 /2 | depthwise 12"


def study(path: Path, name: str = "s") -> optuna.Study:
    storage = open_storage(str(path), create=True)
    return optuna.create_study(storage=storage, study_name=name, direction="maximize")


def add(study: optuna.Study, value: float | None, **attributes: object) -> None:
    state = TrialState.COMPLETE if value is not None else TrialState.FAIL
    trial = create_trial(state=state, value=value, user_attrs=dict(attributes))
    study.add_trial(trial)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


def test_a_view_is_what_the_table_says(path: Path) -> None:
    made = study(path)
    add(made, 0.5, words=WORDS, bytes=100, params=50)
    add(made, None, words="conv 4 | conv 8", bytes=90, reason="diverged")
    view = Library(str(path)).view(1, Filters())
    whole = table.trials(open_engine(str(path)), "s")
    for column in set(row.OVERVIEW_COLUMNS) - {"summary"}:
        left, right = view.trials[column].to_list(), whole[column].to_list()
        assert [x for x in left if x == x] == [x for x in right if x == x and x is not None]
    first = view.trials.iloc[0]
    assert tuple(first[["block", "groups", "se", "depth", "width"]]) == ("group", 2, "some", 3, 12)
    assert list(Library(str(path)).view(1, Filters(blocks=("conv",))).trials["number"]) == [1]


def test_only_what_changed_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = study(path)
    for value in (0.1, 0.2):
        add(made, value, words=WORDS, bytes=100)
    running = made.ask()
    running.report(0.3, 1)
    add(made, 0.4, words=WORDS, bytes=110)
    library, asked = Library(str(path)), []
    original = table.trials

    def noted(*arguments: object, **keys: object) -> pd.DataFrame:
        asked.append(keys["since"])
        return original(*arguments, **keys)  # type: ignore[arg-type]

    monkeypatch.setattr(table, "trials", noted)
    assert list(library.trials(1)["state"]) == ["COMPLETE", "COMPLETE", "RUNNING", "COMPLETE"]
    library.trials(1)
    assert asked == [0]  # nothing changed
    before = library.version(1)
    running.report(0.35, 2)
    assert library.version(1) != before
    running.set_user_attr("words", "conv 4 | conv 16")
    made.tell(running, 0.6)
    found = library.trials(1)
    assert asked == [0, 2]  # the two finished ones before it were not read again
    assert list(found["state"]) == ["COMPLETE"] * 4
    assert found["block"].to_list() == ["group", "group", "conv", "group"]
    again = Library(str(path)).trials(1)
    pd.testing.assert_frame_equal(found, again)


def test_curves_are_those_of_running_trials_too(path: Path) -> None:
    made = study(path)
    trial = made.ask()
    trial.report(0.1, 1)
    trial.report(float("nan"), 2)
    trial.report(0.3, 3)
    view = Library(str(path)).view(1, Filters())
    curve = view.curves([0])
    assert curve["epoch"].to_list() == [1, 2, 3]
    assert curve["accuracy"].fillna(-1).to_list() == [0.1, -1, 0.3]
    assert view.curves([]).empty
    assert view.curves([5]).empty


def test_another_program_s_study_is_shown_as_far_as_it_goes(path: Path) -> None:
    made = study(path, "<b>'; DROP TABLE studies; --</b>/../x")
    made.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    add(made, 0.5, words=3, bytes="many", macs=[1])
    library = Library(str(path))
    view = library.view(1, Filters())
    assert not view.subject.spec
    assert view.trials["bytes"].isna().all()
    assert view.references("bytes") == []
    assert view.teachers == ()
    assert [trial.number for trial in view.study([0, 2]).trials] == [0, 1]
    assert all(set(trial.params) == {"x"} for trial in view.study([0, 2]).trials)
    assert library.trial(1, 0).confusion is None


def test_what_is_not_there_is_told(path: Path) -> None:
    study(path)
    library = Library(str(path))
    assert library.trials(1).empty
    with pytest.raises(InputError, match="no study 7"):
        library.subject(7)
    with pytest.raises(InputError, match="no trial 4"):
        library.trial(1, 4)
    with pytest.raises(InputError, match="there are: s"):
        library.identity("t")
    with pytest.raises(InputError, match="does not exist"):
        Library(str(path.with_name("other.db")))


def test_the_database_is_only_read(path: Path) -> None:
    add(study(path), 0.5, words=WORDS)
    library = Library(str(path))
    with pytest.raises(Exception, match="readonly"), library.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM trials")
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT COUNT(*) FROM trials").fetchone() == (1,)
