"""Finalists: three further seeds each, the winner by their mean, nothing trained twice."""

from pathlib import Path
from typing import Any

import pytest
from commands import inside

from search.database import table
from search.database.engine import open_engine
from search.training.context import TrainingContext
from search.training.job import Job
from search.training.objective import train_student
from search.training.row import Trained
from search.workers import executor
from trainers.engine.result import Epoch, TrialResult

SEARCH = (
    *("search", "--name", "s", "--trials", "4", "--epochs", "1", "--pruner", "none"),
    *("--teacher", "none", "--device", "cpu", "--cache", "cache"),
)
RESUME = ("resume", "s", "--device", "cpu", "--cache", "cache")


class Trainings:
    """Stands in for training a finalist: notes who came, and can be stopped at one."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.stop_at = -1
        self.fails: set[str] = set()
        self.accuracies: dict[str, float] = {}

    def __call__(self, context: TrainingContext, job: Job, tell: Any) -> Trained:
        name = job.key
        if "seed" not in name:
            return train_student(context, job, tell)
        if len(self.names) == self.stop_at:
            raise KeyboardInterrupt
        self.names.append(name)
        if name in self.fails:
            raise RuntimeError("no memory is left")
        folder = context.folder.path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "student.safetensors").write_bytes(name.encode())
        epoch = Epoch(1, 0.5, 1.0, 1.0)
        tell(epoch)
        accuracy = self.accuracies.get(name, 0.5)
        result = TrialResult((epoch,), "finished" if accuracy else "diverged", "", 0.1, "cpu", 64)
        return Trained(result, accuracy or None)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Trainings:
    made = Trainings()
    monkeypatch.setattr(executor, "train_student", made)
    return made


def test_an_interrupted_final_goes_on(tmp_path: Path, trainings: Trainings) -> None:
    trainings.stop_at = 4
    answer = inside(tmp_path, *SEARCH, "--finalists", "2")
    assert answer.status == 130
    assert "distilnas resume s" in answer.err
    assert len(trainings.names) == 4
    trainings.stop_at = -1
    assert inside(tmp_path, *RESUME).status == 0
    assert len(trainings.names) == len(set(trainings.names)) == 6
    before = len(table.trials(open_engine(str(tmp_path / "studies.db")), "s"))
    assert inside(tmp_path, *RESUME).status == 0  # there is nothing left to do
    assert len(trainings.names) == 6
    assert len(table.trials(open_engine(str(tmp_path / "studies.db")), "s")) == before


def test_the_winner_is_named_by_its_mean(tmp_path: Path, trainings: Trainings) -> None:
    assert inside(tmp_path, *SEARCH).status == 0
    frame = table.trials(open_engine(str(tmp_path / "studies.db")), "s")
    lucky, steady = (f"trial{k:04d}" for k in table.best(frame, 2)["number"])
    trainings.accuracies = {f"{lucky}/seed{k}": a for k, a in ((1, 0.9), (2, 0.2), (3, 0.0))}
    trainings.accuracies |= {f"{steady}/seed{k}": a for k, a in ((1, 0.6), (2, 0.7), (3, 0.5))}
    answer = inside(tmp_path, *RESUME, "--finalists", "2", "--json")
    first, second = answer.json["finalists"]
    assert [f"trial{finalist['number']:04d}" for finalist in (first, second)] == [steady, lucky]
    assert first["mean"] == pytest.approx(0.6)
    assert first["spread"] == pytest.approx(0.1)
    assert second["accuracies"] == [0.9, 0.2, 0.0]  # a seed that diverged is worth nothing
    assert (tmp_path / "runs/s/best.safetensors").read_bytes() == f"{steady}/seed2".encode()
    shown = inside(tmp_path, "show", "s", "--json").json["finalists"]
    assert [finalist["mean"] for finalist in shown] == [first["mean"], second["mean"]]
    (tmp_path / "a.toml").write_text('[baseline]\nstudy = "s"\n[factors]\nse = [0, 4]\n')
    plan = inside(tmp_path, "ablate", "a.toml", "--dry-run", "--json", "--cache", "cache").json
    number = int(steady.removeprefix("trial"))
    winner = frame["architecture"][frame["number"] == number].iloc[0]
    assert _words_of(plan["arms"][0]["architecture"]) == _words_of(winner)


def _words_of(architecture: dict[str, Any]) -> list[dict[str, Any]]:
    """Its stages, without the widths that a solver may find anew."""
    return [stage | {"width": 0} for stage in architecture["stages"]]


def test_all_finalists_may_diverge(tmp_path: Path, trainings: Trainings) -> None:
    """Their files may be missing: the search's own best stays."""
    assert inside(tmp_path, *SEARCH).status == 0
    best = (tmp_path / "runs/s/best.safetensors").read_bytes()

    def diverges(context: TrainingContext, job: Job, tell: Any) -> Trained:
        return Trained(TrialResult((), "diverged", "loss was nan", 0.1, "cpu", 64), None)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(executor, "train_student", diverges)
        answer = inside(tmp_path, *RESUME, "--finalists", "1")
    assert answer.status == 0, answer.err
    assert (tmp_path / "runs/s/best.safetensors").read_bytes() == best
    assert inside(tmp_path, "show", "s").status == 0


def test_a_failing_seed_is_left_out(tmp_path: Path, trainings: Trainings) -> None:
    """A device's or the memory's failure says nothing of the student, and does not end the run."""
    assert inside(tmp_path, *SEARCH).status == 0
    frame = table.trials(open_engine(str(tmp_path / "studies.db")), "s")
    first, second = (f"trial{k:04d}" for k in table.best(frame, 2)["number"])
    trainings.fails = {f"{first}/seed2", *(f"{second}/seed{k}" for k in (1, 2, 3))}
    trainings.accuracies = {f"{first}/seed{k}": a for k, a in ((1, 0.6), (3, 0.8))}
    answer = inside(tmp_path, *RESUME, "--finalists", "2", "--json")
    assert answer.status == 0, answer.err
    assert "seed 2 failed: no memory is left; its mean leaves this seed out" in answer.err
    (finalist,) = answer.json["finalists"]  # of the other one nothing is known
    assert (finalist["seeds"], finalist["failed"]) == ([1, 3], [2])
    assert finalist["mean"] == pytest.approx(0.7)
    assert (tmp_path / "runs/s/best.safetensors").read_bytes() == f"{first}/seed3".encode()
    assert "60.0% 80.0% failed" in inside(tmp_path, "show", "s").out
