"""A search stops trials early: asked of whole searches, by the command line and the database."""

import gc
import random
import re
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from commands import ROOT, Answer, distilnas, inside
from optuna.trial import TrialState

from search.database import table
from search.database.engine import open_engine
from trainers.engine.result import Epoch, TrialResult
from trainers.recipe import Recipe

EPOCHS, TRIALS = 16, 16
SEARCH = (
    *("search", "--name", "s", "--cache", "cache", "--device", "cpu", "--teacher", "none"),
    *("--trials", str(TRIALS), "--epochs", str(EPOCHS)),
)
RUNGS = {"halving": {4, 8}, "hyperband": {4, 12}, "median": set(range(4, EPOCHS))}
OPTUNAS = {
    "halving": optuna.pruners.SuccessiveHalvingPruner(min_resource=4, reduction_factor=2),
    "median": optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=4),
}
TIMES = ["started", "completed", "seconds"]


def rows(storage: str | Path) -> pd.DataFrame:
    return table.trials(open_engine(str(storage)), "s").drop(columns=TIMES)


def stopped(trials: pd.DataFrame) -> pd.DataFrame:
    """Those that a pruner stopped, without copies."""
    return trials[(trials["state"] == "PRUNED") & trials["duplicate_of"].isna()]


def steady_train(model: Any, recipe: Recipe, data: Any, tell: Any, **more: Any) -> TrialResult:
    """The engine's outside in a millisecond: good students are good from the first epoch on."""
    quality = random.Random(model.network.architecture.fingerprint).random()
    history = []
    for epoch in range(1, recipe.epochs + 1):
        history.append(Epoch(epoch, quality * (epoch / recipe.epochs) ** 0.5, 1.0, 1.0))
        if tell(history[-1]):
            reason = f"stopped early after epoch {epoch}"
            return TrialResult(tuple(history), "pruned", reason, 0.0, "cpu", recipe.batch)
    return TrialResult(tuple(history), "finished", "", 0.0, "cpu", recipe.batch)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.objective.train", steady_train)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("pruner", RUNGS)
def test_every_pruner_stops_trials(tmp_path: Path, pruner: str) -> None:
    flags = () if pruner == "halving" else ("--pruner", pruner)  # halving is the default
    answer = inside(tmp_path, *SEARCH, *flags)
    assert answer.status == 0, answer.err
    trials = rows(tmp_path / "studies.db")
    early = stopped(trials)
    assert len(early) >= 3
    assert set(early["epochs"]) <= RUNGS[pruner]
    assert (early["value"] == early["accuracies"].str[-1]).all()
    assert (trials.loc[trials["state"] == "COMPLETE", "epochs"] == EPOCHS).all()
    if pruner in OPTUNAS:
        assert list(early["number"]) == stopped_by(OPTUNAS[pruner], trials)
    counted = trials[trials["duplicate_of"].isna() & (trials["ended"] != "infeasible")]
    assert len(counted) == TRIALS  # what was stopped counts
    for number, epochs in zip(early["number"], early["epochs"], strict=True):
        assert f"trial {number} stopped early after epoch {int(epochs)}" in answer.err

    saved = int((EPOCHS - early["epochs"]).sum())
    words = f"{len(early)} of {TRIALS} trials were stopped early, which saved {saved} of"
    assert words in answer.out
    assert words in inside(tmp_path, "show", "s").out
    document = inside(tmp_path, "show", "s", "--json").json["stopped_early"]
    assert document == {
        "trained": TRIALS,
        "stopped": len(early),
        "epochs": EPOCHS * TRIALS,
        "saved": saved,
    }
    assert inside(tmp_path, "report", "--out", "report.html").status == 0
    assert words in (tmp_path / "report.html").read_text()
    assert inside(tmp_path, "resume", "s", "--json").json["stopped_early"] == document


def stopped_by(pruner: optuna.pruners.BasePruner, trials: pd.DataFrame) -> list[int]:
    """Trials, trained one after the other, that Optuna's pruner stops where they ended."""
    study, found = optuna.create_study(direction="maximize", pruner=pruner), []
    for row in trials[trials["duplicate_of"].isna()].to_dict("records"):
        trial, accuracies = study.ask(), row["accuracies"]
        for epoch, accuracy in enumerate(accuracies, 1):
            trial.report(accuracy, epoch)
            if epoch < EPOCHS and trial.should_prune():
                assert epoch == len(accuracies)
                found.append(row["number"])
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            value = None if row["state"] == "FAIL" else row["value"]
            study.tell(trial, value, state=TrialState[row["state"]])
    return found


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_sampler_sees_the_trials_of_its_own_process(tmp_path: Path, sampler: str) -> None:
    """After ten random students a model suggests them: the same in one process as in two."""
    found = []
    for name, parts in (("whole", (14,)), ("parts", (11, 3))):
        folder = tmp_path / name
        folder.mkdir()
        first, *more = parts
        flags = ("--sampler", sampler, "--pruner", "none", "--trials", str(first))
        assert inside(folder, *SEARCH, *flags).status == 0
        for trials in more:
            resume = ("resume", "s", "--trials", str(trials), "--cache", "cache")
            assert inside(folder, *resume, "--device", "cpu").status == 0
        found.append(rows(folder / "studies.db"))
    whole, parted = found
    pd.testing.assert_frame_equal(whole, parted)
    drawn = tmp_path / "random"
    drawn.mkdir()
    flags = ("--sampler", "random", "--pruner", "none", "--trials", "14")
    assert inside(drawn, *SEARCH, *flags).status == 0
    assert list(rows(drawn / "studies.db")["words"])[-3:] != list(found[0]["words"])[-3:]


@pytest.mark.usefixtures("quick")
def test_none_stops_nothing_and_says_nothing(tmp_path: Path) -> None:
    answer = inside(tmp_path, *SEARCH, "--pruner", "none")
    assert stopped(rows(tmp_path / "studies.db")).empty
    shown = inside(tmp_path, "show", "s")
    assert "stopped early" not in answer.out + answer.err + shown.out
    assert inside(tmp_path, "show", "s", "--json").json["stopped_early"] is None


# A command's process ends with its connections; this one goes on.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.usefixtures("quick")
def test_the_database_makes_no_difference(tmp_path: Path, postgres: str) -> None:
    assert inside(tmp_path, *SEARCH).status == 0
    assert inside(tmp_path, *SEARCH, "--storage", postgres).status == 0
    gc.collect()
    expected = rows(tmp_path / "studies.db")
    assert len(stopped(expected)) >= 3
    pd.testing.assert_frame_equal(rows(postgres), expected)


def test_two_at_once_are_stopped_as_well(tmp_path: Path) -> None:
    """Real students, in processes of their own."""
    flags = ("--workers", "2", "--epochs", "8", "--trials", "10")
    answer = distilnas(tmp_path, *SEARCH, *flags)
    assert answer.status == 0, answer.err
    early = stopped(rows(tmp_path / "studies.db"))
    assert len(early) >= 2
    assert set(early["epochs"]) <= {2, 4}
    assert f"{len(early)} of 10 trials were stopped early" in answer.out


STOPPED = re.compile(
    r"(\d+) of 16 trials were stopped early, which saved (\d+) of 320 epochs \(\d+%\)"
)


def readme_block() -> list[str]:
    """What `make readme` wrote into README."""
    text = (ROOT / "README.md").read_text().partition("<!-- demo: written by make readme -->")[2]
    return [line.removeprefix("    ") for line in text.partition("<!--")[0].splitlines() if line]


def test_readme_s_output_is_a_search_s_end() -> None:
    block = readme_block()
    stopped = STOPPED.fullmatch(block[0])
    assert stopped
    assert int(stopped[1]) > 8  # "most students are stopped early"
    assert 5 * int(stopped[1]) <= int(stopped[2]) <= 15 * int(stopped[1])
    (file,) = [line for line in block if line.startswith("file: ")]
    assert re.fullmatch(r"file: \S+best.safetensors, [\d,]+ bytes of 20,000 \(.*budget\)", file)
    assert block[-3:] == [
        "  distilnas show digits-20KB-int8",
        "  distilnas resume digits-20KB-int8 --trials 16",
        "  distilnas test runs/digits-20KB-int8/best.safetensors --data digits",
    ]


def readme_shows(answer: Answer, trials: pd.DataFrame) -> None:
    """README's block has the lines of this end; the sampler's first ten students are the same
    everywhere, accuracies and what is suggested after them depend on the processor's roundings."""
    shown = [line.rstrip() for line in answer.out.splitlines() if line.strip()]
    assert STOPPED.fullmatch(shown[0])
    assert shown[-3:] == readme_block()[-3:]
    bytes_of = dict(zip(trials["number"], trials["bytes"], strict=True))
    known = [line.split() for line in readme_block() if re.match(r" +\d+ +\d+\.\d%", line)]
    assert known
    for number, _, size, *_ in known:
        if int(number) < 10:
            assert int(size.replace(",", "")) == bytes_of[int(number)]


@pytest.mark.slow
def test_a_default_search_saves_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`distilnas search` as it is typed, against what it would take without a pruner."""
    monkeypatch.setenv("DISTILNAS_CACHE", "cache")  # no flag, which the hints would repeat
    answer = distilnas(tmp_path, "search", timeout=600)
    assert answer.status == 0, answer.err
    trials = table.trials(open_engine(str(tmp_path / "studies.db")), "digits-20KB-int8")
    early = stopped(trials)
    assert len(early) >= 5
    assert set(early["epochs"]) <= {5, 10}
    readme_shows(answer, trials)
    trained = trials[trials["duplicate_of"].isna()]["epochs"]
    assert trained.sum() < 0.7 * trained.max() * len(trained)
    assert trained.max() == 20
