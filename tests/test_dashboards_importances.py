"""What accuracy depends on: the figures of Optuna itself, for studies of every kind."""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import optuna
import pytest
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from benchmarks import synthetic_studies
from dashboards.figures import importances as importance_figure
from dashboards.figures.importances import FEWEST, importances
from dashboards.filters import Filters
from dashboards.library import Library
from search.database.storage import open_storage

Objective = Callable[[optuna.Trial], float | tuple[float, ...]]


def everything(trial: optuna.Trial) -> float:
    """Every kind of distribution; some parameters matter, some do not."""
    growth = trial.suggest_categorical("growth", [1.41, 1.68, 2.0])
    rate = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    drop = trial.suggest_float("drop", 0.0, 0.5, step=0.25)
    width = trial.suggest_int("width", 4, 400, log=True)
    depth = trial.suggest_int("depth", 1, 9, step=4)
    mixed = trial.suggest_categorical("mixed", [None, True, 3, "3", 0.5])
    trial.suggest_categorical("whole", [8, 16, 32])
    trial.suggest_categorical("flag", [False, True])
    trial.suggest_categorical("<b>name", ["relu", "swish"])
    trial.suggest_float("chance", -1, 1)
    trial.suggest_categorical("only", [7])
    trial.suggest_int("fixed", 3, 3)
    good = (growth == 1.68) + math.log10(rate) / 5 - drop + math.log(width) / 9
    return good + 0.1 * (depth == 5) + 0.2 * (mixed is None)


def floats_of_choices(trial: optuna.Trial) -> float:
    growth = trial.suggest_categorical("growth", [1.41, 1.68, 2.0])
    return float(trial.suggest_float("x", 0, 1) + 0.01 * growth)


def conditional(trial: optuna.Trial) -> float:
    if trial.suggest_categorical("kind", ["a", "b"]) == "a":
        return float(trial.suggest_float("of a", 0, 1))
    return 0.2 + 0.1 * trial.suggest_int("of b", 1, 5)


def widening(trial: optuna.Trial) -> float:
    """A distribution that is another one from trial to trial."""
    return float(trial.suggest_float("x", 0, 1 + trial.number % 3))


def failing(trial: optuna.Trial) -> float:
    x = float(trial.suggest_float("x", 0, 1))
    if trial.number % 4 == 1:
        trial.report(x, 1)
        raise optuna.TrialPruned
    return math.inf if trial.number % 4 == 2 else x + trial.suggest_int("k", 1, 4)


def two(trial: optuna.Trial) -> tuple[float, float]:
    x, y = trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)
    return x + y / 4, y - x / 8


Direction = Literal["minimize", "maximize"]
CASES: dict[str, tuple[Objective, list[Direction], int]] = {
    "everything": (everything, ["maximize"], 60),
    "minimised": (everything, ["minimize"], 40),
    "choices that are floats": (floats_of_choices, ["maximize"], 60),
    "few": (everything, ["maximize"], FEWEST),
    "more": (everything, ["minimize"], 13),
    "conditional": (conditional, ["maximize"], 60),
    "widening": (widening, ["minimize"], 40),
    "pruned and infinite": (failing, ["maximize"], 50),
    "two objectives": (two, ["maximize", "minimize"], 50),
}


def made(path: Path, name: str, directions: list[Direction]) -> optuna.Study:
    return optuna.create_study(
        storage=open_storage(str(path), create=True),
        study_name=name,
        directions=directions,
        sampler=optuna.samplers.RandomSampler(seed=1),
    )


def by_optuna(study: optuna.Study) -> dict[str, float]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())


def shown(path: Path, filters: Filters | None = None) -> dict[str, float]:
    """By the picture of the first study of a database."""
    data = importances(Library(str(path)).view(1, filters or Filters())).data
    return dict(zip(data["parameter"], data["share"], strict=True))


@pytest.mark.parametrize("case", CASES)
def test_the_shares_are_optuna_s(tmp_path: Path, case: str) -> None:
    objective, directions, trials = CASES[case]
    path = tmp_path / "studies.db"
    study = made(path, case, directions)
    study.optimize(objective, n_trials=trials)
    found = shown(path)
    assert found == pytest.approx(by_optuna(study))
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert sum(found.values()) == pytest.approx(1)


def test_growth_is_a_choice_and_no_number(tmp_path: Path) -> None:
    """Of choices that lie unevenly, one took all the importance of what decides."""
    path = tmp_path / "studies.db"
    made(path, "s", ["maximize"]).optimize(floats_of_choices, n_trials=60)
    found = shown(path)
    assert found["x"] > 0.8 > 0.2 > found["growth"]


def test_what_was_enqueued_beyond_its_distribution_counts(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    study = made(path, "s", ["maximize"])
    for x in (-5.0, 2.5):
        study.enqueue_trial({"x": x})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(
            lambda trial: trial.suggest_float("x", 0, 1) + everything(trial), n_trials=20
        )
    assert shown(path) == pytest.approx(by_optuna(study))


def test_our_own_studies_are_as_optuna_sees_them(tmp_path: Path) -> None:
    """Students that were drawn again are draws, too; filters leave some trials out."""
    path = tmp_path / "studies.db"
    synthetic_studies.make(path, 150)
    study = optuna.load_study(study_name="synthetic", storage=open_storage(str(path), create=False))
    first = next(trial for trial in study.trials if trial.state == TrialState.COMPLETE)
    study.add_trial(
        optuna.trial.create_trial(
            value=first.value,
            params=first.params,
            distributions=first.distributions,
            user_attrs=first.user_attrs | {"duplicate_of": first.number},
        )
    )
    growth = first.distributions["growth"]
    assert isinstance(growth, optuna.distributions.CategoricalDistribution)
    assert all(isinstance(choice, float) for choice in growth.choices)
    assert shown(path) == pytest.approx(by_optuna(study))

    filters = Filters(blocks=("group", "conv"))
    kept = set(Library(str(path)).view(1, filters).trials["number"])
    part = optuna.create_study(direction="maximize")
    part.add_trials([trial for trial in study.trials if trial.number in kept])
    assert 0 < len(part.trials) < len(study.trials)
    assert shown(path, filters) == pytest.approx(by_optuna(part))


@pytest.mark.parametrize(
    ("objective", "trials", "words"),
    [
        (lambda trial: 0.5 + 0 * trial.suggest_float("x", 0, 1), 9, "or no value does"),
        (lambda trial: trial.number / 9 * trial.suggest_int("x", 1, 1), 9, "No parameter varies"),
        (lambda trial: trial.number / 9, 9, "No parameter varies"),
        (lambda trial: trial.suggest_float("x", 0, 1), 4, "there are 4"),
    ],
)
def test_nothing_that_matters_is_said(
    tmp_path: Path, objective: Objective, trials: int, words: str
) -> None:
    path = tmp_path / "studies.db"
    made(path, "s", ["maximize"]).optimize(objective, n_trials=trials)
    assert words in importances(Library(str(path)).view(1, Filters())).empty


def test_of_very_many_trials_some_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "studies.db"
    synthetic_studies.make(path, 150)
    monkeypatch.setattr(importance_figure, "EVALUATED", 40)
    view = Library(str(path)).view(1, Filters())
    asked: list[int] = []

    def study(numbers: list[int]) -> optuna.Study:
        asked.extend(numbers)
        return view.study(numbers)

    picture = importances(view._replace(study=study))
    assert len(set(asked)) == 40 < (view.trials["state"] == "COMPLETE").sum()
    assert "40 trials drawn at random" in picture.note
    assert "Observed in search" in picture.note


def test_a_name_is_text(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    made(path, "s", ["maximize"]).optimize(everything, n_trials=9)
    picture = importances(Library(str(path)).view(1, Filters()))
    (bars,) = picture.figure.data
    assert list(bars.x) == list(picture.data["share"])
    assert set(picture.data["parameter"]) - set(bars.y) == {"<b>name"}
    assert "&lt;b&gt;name" in bars.y
