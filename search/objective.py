"""One trial: suggest -> solve -> build -> train -> file -> row."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from search.places import CHECKPOINT, EXACT, STUDENT, Folder
from search.spec import Spec
from search.suggest import suggest
from space.architecture import Architecture
from space.budget import InfeasibleError, Solution, solve
from space.build import build
from space.count import cost
from space.storage import stored_bytes
from trainers import export
from trainers.bank import LogitBank
from trainers.checkpoint import Checkpoint
from trainers.data import Data
from trainers.engine import train
from trainers.evaluation import evaluate
from trainers.model import Model
from trainers.recipe import Recipe
from trainers.result import Epoch, TrialResult


class Watcher(Protocol):
    """Who is told how a search goes; see `search.progress`."""

    def trial_began(self, number: int, solution: Solution) -> None: ...

    def finalist_began(self, number: int, seed: int, words: str) -> None: ...

    def epoch_done(self, epoch: Epoch) -> None: ...

    def trial_done(self, row: "Outcome") -> None: ...


class Outcome(NamedTuple):
    """How a trial ended."""

    number: int
    state: TrialState
    value: float | None  # validation accuracy of the file, as read back
    attributes: dict[str, Any]  # the row's user attributes

    @property
    def counted(self) -> bool:
        """Whether something was trained for it."""
        return "duplicate_of" not in self.attributes and self.attributes["ended"] != "infeasible"


@dataclass(frozen=True, slots=True)
class Bench:
    """All that training a student of a study needs."""

    spec: Spec
    data: Data
    teacher: LogitBank | None
    folder: Folder
    device: torch.device


class Trained(NamedTuple):
    """A student that was trained and stored."""

    result: TrialResult
    accuracy: float | None  # validation, of the file as read back; None where there is none


def train_student(
    bench: Bench,
    architecture: Architecture,
    recipe: Recipe,
    name: str,
    report: Callable[[Epoch], bool],
) -> Trained:
    """Train one student and write its file `name/student.safetensors` in the study's folder.

    Goes on from the checkpoint in that folder; the caller removes it when the outcome is stored.
    """
    spec, card = bench.spec, bench.spec.card
    student = build(architecture, seed=recipe.seed)
    model = Model(student, size=card.size, mean=card.mean, std=card.std)
    place = bench.folder.path / name
    checkpoint = Checkpoint(place / CHECKPOINT)
    result = train(
        model,
        recipe,
        bench.data,
        report,
        device=bench.device,
        teacher=bench.teacher,
        checkpoint=checkpoint,
    )
    if result.ended != "finished":
        return Trained(result, None)
    path = place / STUDENT
    try:
        export.write(student, card, spec.budget.format, path)
        if spec.budget.format != "fp32":
            export.write(student, card, "fp32", place / EXACT)
    except OverflowError as error:
        return Trained(result._replace(ended="diverged", reason=str(error)), None)
    accuracy = evaluate(
        export.read(path).model.to(bench.device), bench.data.validation, bench.device
    )
    return Trained(result, accuracy)


def run_trial(bench: Bench, study: optuna.Study, trial: optuna.Trial, watcher: Watcher) -> Outcome:
    """Run a new or an unfinished trial and store its outcome."""
    outcome = _outcome(bench, study, trial, watcher)
    for key, value in outcome.attributes.items():
        trial.set_user_attr(key, value)
    study.tell(trial.number, outcome.value, outcome.state)
    # Only now: a trial whose end is not yet stored goes on from its checkpoint.
    Checkpoint(bench.folder.checkpoint(trial.number)).remove()
    watcher.trial_done(outcome)
    return outcome


def _outcome(bench: Bench, study: optuna.Study, trial: optuna.Trial, watcher: Watcher) -> Outcome:
    spec = bench.spec
    params = suggest(trial, spec.family)
    shape = spec.family.shape(
        params, classes=len(spec.classes), channels=spec.channels, size=spec.size
    )
    try:
        solution = solve(shape, spec.budget, spec.card, multiple=spec.multiple)
    except InfeasibleError as error:
        attributes = {"ended": "infeasible", "reason": str(error)}
        return Outcome(trial.number, TrialState.FAIL, None, attributes)
    described = describe(solution, spec)
    twin = find_twin(study, trial.number, described["fingerprint"])
    if twin is not None:
        return _copied(twin, trial, described)
    watcher.trial_began(trial.number, solution)
    reported = trial.storage.get_trial(trial._trial_id).intermediate_values

    def report(epoch: Epoch) -> bool:
        if epoch.epoch not in reported:
            trial.report(epoch.accuracy, epoch.epoch)
        watcher.epoch_done(epoch)
        # Epochs that are trained again for want of a checkpoint were judged the first time.
        again = epoch.epoch < max(reported, default=0)
        return not again and epoch.epoch < spec.recipe.epochs and trial.should_prune()

    place = bench.folder.trial(trial.number).name
    try:
        trained = train_student(bench, solution.architecture, spec.recipe, place, report)
    except RuntimeError as error:  # PyTorch's; one student's failure must not end the search
        reason = str(error).splitlines()[0]
        attributes = described | {"ended": "error", "reason": reason}
        return Outcome(trial.number, TrialState.FAIL, None, attributes)
    attributes = described | results(trained)
    return _ended(trial.number, trained, attributes)


def _ended(number: int, trained: Trained, attributes: dict[str, Any]) -> Outcome:
    if trained.accuracy is not None:
        return Outcome(number, TrialState.COMPLETE, trained.accuracy, attributes)
    if trained.result.ended == "pruned":
        return Outcome(number, TrialState.PRUNED, None, attributes)
    return Outcome(number, TrialState.FAIL, None, attributes)


def describe(solution: Solution, spec: Spec) -> dict[str, Any]:
    """What is known of a student before it is trained: the first half of its row."""
    architecture = solution.architecture
    counted = cost(architecture, spec.card)
    return {
        "architecture": architecture.to_dict(),
        "fingerprint": architecture.fingerprint,
        "words": architecture.words,
        "params": counted.parameters,
        "macs": counted.macs,
        "activation_peak": counted.activation_peak,
        "bytes": stored_bytes(architecture, spec.budget.format, spec.card),
        "budget_share": solution.share,
        "repairs": list(solution.repairs),
    }


def results(trained: Trained) -> dict[str, Any]:
    """What training gave: the second half of a row."""
    result = trained.result
    return {
        "file_accuracy": trained.accuracy,
        "network_accuracy": result.accuracy,
        "accuracies": [epoch.accuracy for epoch in result.history],
        "losses": [epoch.loss for epoch in result.history],
        "epochs": result.epochs,
        "seconds": result.seconds,
        "device": result.device,
        "micro_batch": result.micro_batch,
        "ended": result.ended,
        "reason": result.reason,
    }


def find_twin(study: optuna.Study, number: int, fingerprint: str) -> FrozenTrial | None:
    """An earlier ended trial of the same network; within a study the fidelity is the same."""
    for trial in _ended_trials(study):
        if trial.number < number and trial.user_attrs.get("fingerprint") == fingerprint:
            return trial
    return None


def _ended_trials(study: optuna.Study) -> Iterator[FrozenTrial]:
    for trial in study.get_trials(deepcopy=False):
        if trial.state.is_finished() and "duplicate_of" not in trial.user_attrs:
            yield trial


def _copied(twin: FrozenTrial, trial: optuna.Trial, described: dict[str, Any]) -> Outcome:
    """The outcome of the trial that trained the same network."""
    known = trial.storage.get_trial(trial._trial_id).intermediate_values
    for step, value in twin.intermediate_values.items():
        if step not in known:
            trial.report(value, step)
    attributes = twin.user_attrs | described | {"duplicate_of": twin.number}
    return Outcome(trial.number, twin.state, twin.value if twin.values else None, attributes)
