"""A study goes on to its end: what `search`, `ablate`, `resume` and `worker` have in common."""

import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import optuna
from rich.console import Console

from search.commands.session import Session
from search.database.address import command
from search.study.folder import STUDENT
from search.study.plan import AblationSpec
from search.study.ranking import FURTHER_SEEDS, Finalist
from search.study.settings import HERE
from search.study.spec import SearchSpec
from search.study.study import (
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
from search.terminal.progress import Display
from search.training.context import ContextSpec, TrainingContext
from search.trials import finalists as final
from search.trials.loop import run_trials
from search.trials.planned import Planned
from search.trials.sampled import Sampled
from search.workers import on_ray
from search.workers.auto import Typical, open_executor, typical_student
from search.workers.executor import Executor
from search.workers.worker import Worker
from space.count import macs


def go_on(
    session: Session, context_spec: ContextSpec, context: TrainingContext, study: optuna.Study
) -> None:
    """Run what is left of a study, and print its results."""
    if isinstance(context.spec, SearchSpec):
        _search(session, context_spec, context, context.spec, study)
    elif isinstance(context.spec, AblationSpec):
        _ablation(session, context_spec, context, context.spec, study)


def _search(
    session: Session,
    context_spec: ContextSpec,
    context: TrainingContext,
    spec: SearchSpec,
    study: optuna.Study,
) -> None:
    """Run what is left of a search, beside its other workers, and write the best student."""
    context = replace(context, say=session.say)
    if session.on != HERE:
        with session.resumable(study.study_name), shown(study, session.console) as display:
            on_ray.run(session, session.join, context_spec, study, display)
        ranking = final.finalists(study)
    else:
        typical, console = partial(typical_student, spec), session.console
        with (
            session.worker(study, context_spec.folder) as worker,
            open_executor(
                context, context_spec, session.workers, left(study), typical, console
            ) as executor,
            shown(study, console) as display,
        ):
            ranking = finish(spec, worker, executor, display)
    session.say_limit(study)
    conclude(session, context_spec, study, ranking)
    if not left(study):
        settle(study)


def left(study: optuna.Study) -> int:
    """Trainings that a study still asks for, as far as that is known."""
    rounds = int(study.user_attrs.get(FINALISTS, 0))
    trials = target(study) - counted(study)
    if trials > 0:
        return max(trials, rounds * len(FURTHER_SEEDS))
    return len(final.untrained(study, rounds))


def shown(study: optuna.Study, console: Console) -> Display:
    """A search's progress, from where it stands."""
    display = Display(console, trials=target(study), done=counted(study))
    for trial in best_trials(study, 1):
        display.known_best(trial.value or 0.0, trial.number, trial.user_attrs["bytes"])
    return display


def finish(
    spec: SearchSpec, worker: Worker, executor: Executor, display: Display
) -> list[Finalist]:
    """Run what is left of a study: its trials, then its finalists; best finalist first."""
    with worker.at_work(executor.devices, in_process=executor.in_process):
        run_trials(Sampled(spec, worker.folder), worker, executor, display)
        rounds = int(worker.study.user_attrs.get(FINALISTS, 0))
        if not rounds:
            return []
        return final.run_finalists(spec, worker, rounds, executor, display)


def conclude(
    session: Session, context_spec: ContextSpec, study: optuna.Study, ranking: list[Finalist]
) -> None:
    """Choose the winner, write its file, print the table."""
    leaders, folder = best_trials(study, 1), context_spec.folder
    if ranking and ranking[0].mean > 0:  # or all their seeds diverged, and left no file
        publish(folder.path / final.best_seed(ranking[0]) / STUDENT, folder)
    elif leaders:
        publish(folder.student(leaders[0].number), folder)
    if session.out is not None and leaders:
        output.copy_best(folder.best, Path(session.out))
    name, storage = study.study_name, session.storage
    if session.joined:
        return
    hints = [
        command("show", name, storage),
        session.to_resume(name, "--trials", str(asked_last(study))),
        shlex.join(
            ["distilnas", "test", str(folder.best), "--data", context_spec.source, *session.cache]
        ),
    ]
    output.finished(storage, name, ranking, context_spec.spec, folder, hints, session.as_json)


def _ablation(
    session: Session,
    context_spec: ContextSpec,
    context: TrainingContext,
    plan: AblationSpec,
    study: optuna.Study,
) -> None:
    """Train what is left of an ablation, and print its table."""
    context = replace(context, say=session.say)
    total, name = len(plan.arms) * int(study.user_attrs[SEEDS]), study.study_name
    done = ended(study)
    console, typical = session.console, partial(typical_arm, plan)
    shown = Display(console, trials=total, done=done, best=False)
    if session.on != HERE:
        with session.resumable(name), shown as display:
            on_ray.run(session, session.join, context_spec, study, display)
    else:
        with (
            session.worker(study, context_spec.folder) as worker,
            open_executor(
                context, context_spec, session.workers, total - done, typical, console
            ) as executor,
            shown as display,
            worker.at_work(executor.devices, in_process=executor.in_process),
        ):
            run_trials(Planned(plan, context), worker, executor, display)
    session.say_limit(study)
    if not session.joined:
        evidence.finished(session, name, int(study.user_attrs[SEEDS]))
    if ended(study) >= total:
        settle(study)


def ended(study: optuna.Study) -> int:
    """Trials that have ended."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def typical_arm(plan: AblationSpec) -> Typical:
    """The arm of middle work."""
    order = sorted(plan.arms, key=lambda arm: macs(arm.architecture, plan.size))
    middle = order[len(order) // 2]
    return Typical(middle.architecture, middle.recipe)
