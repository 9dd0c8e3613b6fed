"""A study goes on to its end: what `search`, `ablate`, `resume` and `worker` have in common.

What differs between a search and an ablation is a `Kind`.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import optuna
from rich.console import Console

from search.commands.session import Session
from search.database.address import command
from search.study.folder import STUDENT
from search.study.plan import AblationSpec
from search.study.ranking import FURTHER_SEEDS, best_seed, seed_key
from search.study.settings import HERE
from search.study.spec import OWN_TEACHER, SearchSpec
from search.study.study import (
    DESCRIBED,
    FINALISTS,
    SEEDS,
    asked_last,
    best_trials,
    counted,
    publish,
    settle,
    target,
)
from search.terminal import evidence, output
from search.terminal.answer import MORE_SEEDS
from search.terminal.progress import Display
from search.training.context import ContextSpec, TrainingContext
from search.trials import finalists
from search.trials.loop import run_trials
from search.trials.planned import Planned
from search.trials.sampled import Sampled
from search.workers import on_ray
from search.workers.auto import Typical, open_executor, typical_student
from search.workers.executor import Executor
from search.workers.worker import Worker
from space.count import macs


class Kind(Protocol):
    """What a search and an ablation do in their own ways."""

    @property
    def remaining(self) -> int:
        """Trainings that the study still asks for, as far as that is known."""
        ...

    def typical(self) -> Typical:
        """A student of median cost, for measuring how many to train at once."""
        ...

    def display(self, console: Console) -> Display:
        """The study's progress, from where it stands."""
        ...

    def run(self, worker: Worker, executor: Executor, display: Display) -> None:
        """Train what is left, beside the study's other workers."""
        ...

    def conclude(self, session: Session) -> None:
        """Write the study's result and print it."""
        ...


def go_on(
    session: Session, context_spec: ContextSpec, context: TrainingContext, study: optuna.Study
) -> None:
    """Run what is left of a study, beside its other workers, and print its results."""
    context, console = replace(context, say=session.say), session.console
    kind = _kind(context_spec, context, study)
    if session.on != HERE:
        with session.resumable(study.study_name), kind.display(console) as display:
            on_ray.run(session, session.join, context_spec, study, display)
    else:
        with (
            session.worker(study, context_spec.folder) as worker,
            open_executor(
                context, context_spec, session.workers, kind.remaining, kind.typical, console
            ) as executor,
            kind.display(console) as display,
            worker.at_work(executor.devices, in_process=executor.in_process),
        ):
            kind.run(worker, executor, display)
    session.say_limit(study)
    kind.conclude(session)
    if not kind.remaining:
        settle(study)


def _kind(context_spec: ContextSpec, context: TrainingContext, study: optuna.Study) -> Kind:
    if isinstance(context.spec, AblationSpec):
        return Ablation(context.spec, context, study)
    assert isinstance(context.spec, SearchSpec), "a study is one or the other"
    return Search(context.spec, context_spec, study)


@dataclass(frozen=True, slots=True)
class Search:
    """A `Kind`: trials from a sampler, then finalists; the best student's file."""

    spec: SearchSpec
    where: ContextSpec
    study: optuna.Study

    @property
    def remaining(self) -> int:
        trials = target(self.study) - counted(self.study)
        if trials > 0:
            return max(trials, self._rounds * len(FURTHER_SEEDS))
        return len(finalists.untrained(self.study, self._rounds))

    @property
    def _rounds(self) -> int:
        return int(self.study.user_attrs.get(FINALISTS, 0))

    def typical(self) -> Typical:
        return typical_student(self.spec)

    def display(self, console: Console) -> Display:
        display = Display(console, trials=target(self.study), done=counted(self.study))
        for trial in best_trials(self.study, 1):
            display.known_best(trial.value or 0.0, trial.number, trial.user_attrs["bytes"])
        return display

    def run(self, worker: Worker, executor: Executor, display: Display) -> None:
        run_trials(Sampled(self.spec, worker.folder), worker, executor, display)
        if self._rounds:
            finalists.run_finalists(self.spec, worker, self._rounds, executor, display)

    def conclude(self, session: Session) -> None:
        study, folder = self.study, self.where.folder
        ranking, leaders = finalists.finalists(study), best_trials(study, 1)
        if ranking and ranking[0].mean > 0:  # 0: all their seeds diverged and left no file
            winner = seed_key(ranking[0].number, best_seed(ranking[0]))
            publish(folder.path / winner / STUDENT, folder)
        elif leaders:
            publish(folder.student(leaders[0].number), folder)
        if session.out is not None and leaders:
            output.copy_best(folder.best, Path(session.out))
        name, storage = study.study_name, session.storage
        if session.joined:
            return
        tried = [str(folder.best), "--data", self.where.source, *session.cache]
        hints = [
            command("show", name, storage),
            session.to_resume(name, "--trials", str(asked_last(study))),
            shlex.join(["distilnas", "test", *tried]),
        ]
        described = study.user_attrs.get(DESCRIBED, {}).get(OWN_TEACHER, {})
        taught = described.get("accuracy")
        output.finished(storage, name, ranking, self.spec, folder, hints, session.as_json, taught)


@dataclass(frozen=True, slots=True)
class Ablation:
    """A `Kind`: every arm over every seed; the table of the evidence."""

    plan: AblationSpec
    context: TrainingContext
    study: optuna.Study

    @property
    def remaining(self) -> int:
        return max(0, self._asked - self._ended)

    @property
    def _seeds(self) -> int:
        return int(self.study.user_attrs[SEEDS])

    @property
    def _asked(self) -> int:
        return len(self.plan.arms) * self._seeds

    @property
    def _ended(self) -> int:
        trials = self.study.get_trials(deepcopy=False)
        return sum(trial.state.is_finished() for trial in trials)

    def typical(self) -> Typical:
        plan = self.plan
        order = sorted(plan.arms, key=lambda arm: macs(arm.architecture, plan.size_of(arm)))
        middle = order[len(order) // 2]
        return Typical(middle.architecture, middle.recipe, middle.size)

    def display(self, console: Console) -> Display:
        return Display(console, trials=self._asked, done=self._ended, best=False)

    def run(self, worker: Worker, executor: Executor, display: Display) -> None:
        run_trials(Planned(self.plan, self.context), worker, executor, display)

    def conclude(self, session: Session) -> None:
        if not session.joined:
            name, seeds = self.study.study_name, self._seeds + MORE_SEEDS
            more = session.to_resume(name, "--seeds", str(seeds))
            evidence.finished(session.storage, name, more, session.as_json)
