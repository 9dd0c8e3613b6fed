"""The command `ablate`: from a design to trained arms; and how an ablation goes on."""

import hashlib
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import FrozenTrial, TrialState

from search.ablation.arms import Maker, Resolved, resolve
from search.ablation.design import MAX_SEEDS, SHARED, SIZE_MATCHED, Design, read_design
from search.ablation.forecast import forecast
from search.commands.session import Session, version
from search.database.address import database_errors
from search.database.storage import open_storage, reachable
from search.study.folder import EXACT, STUDENT, cache_folder
from search.study.plan import Plan
from search.study.ranking import UNSTORABLE
from search.study.settings import HERE
from search.study.spec import kept_source
from search.study.study import FIRST_SEEDS, SEEDS, create, place_for, require_free, settle
from search.terminal import evidence as views
from search.terminal.plan import planned
from search.terminal.progress import Display
from search.training.context import Bench, Job, Station
from search.training.objective import describe, digest, scored
from search.training.teacher_cache import (
    Named,
    check_teachers,
    keep_teachers,
    named_teachers,
    taught,
)
from search.trials.loop import Copied, Draw, run_trials
from search.workers import on_ray
from search.workers.auto import Typical, open_crew
from space.count import macs
from space.errors import InputError
from trainers import export
from trainers.data.datasets import Data, load
from trainers.data.survey import survey
from trainers.engine.evaluation import choose_device
from trainers.engine.modes import default_mode
from trainers.engine.result import FINISHED


def ablate(
    session: Session,
    file: Path,
    quick: bool,
    flags: Mapping[str, Any],
    *,
    pretrained: str | None,
    cache: str,
    device: str,
    dry_run: bool,
) -> None:
    """Resolve a design, print the plan, train every arm over every seed, print the table."""
    session.prepare()
    design, place = read_design(file, quick, flags, session.storage), cache_folder(cache)
    chosen = choose_device(device)
    if session.on != HERE:
        on_ray.require_ray()
    teachers = named_teachers(design.data, design.teachers, pretrained)
    with database_errors(session.storage):
        # All that can be refused is asked in a dry run, too.
        storage = reachable(session.storage)
        place_for(session.storage, design.name, session.artifacts)
        data = load(design.data, design.size, cache=place)
        session.say(data.words)
        check_teachers(teachers, data)
        plan, resolved = make_plan(design, data, teachers, chosen)
        if resolved.impossible and not dry_run:
            raise refusal(resolved)
        if storage is not None:
            require_free(storage, design.name, plan)
        expected = forecast(plan, design.seeds, data, teachers, place, chosen)
        seen = survey(design.data, data, place) if dry_run else None
        planned(plan, resolved, design.seeds, expected, session, seen)
        if resolved.impossible:
            raise refusal(resolved)
        if not dry_run:
            _begin(session, design, plan, data, teachers, place, device)


def _begin(
    session: Session,
    design: Design,
    plan: Plan,
    data: Data,
    teachers: Mapping[str, Named],
    cache: Path,
    device: str,
) -> None:
    storage, name = open_storage(session.storage, create=True), design.name
    folder, where = place_for(session.storage, name, session.artifacts)
    chosen = choose_device(device)
    with folder.lock(name):
        require_free(storage, name, plan)
        heard = {arm.teacher for arm in plan.arms}
        then = f"then {len(plan.arms) * design.seeds} trainings"
        own = {
            key: taught(wanted, data, cache, chosen, session.console, f"teacher {key}", then)
            for key, wanted in teachers.items()
            if key in heard
        }
        keep_teachers(folder, own)
        plan = plan.with_teachers(own)
        asked = {SEEDS: design.seeds, FIRST_SEEDS: design.seeds}
        study = create(storage, name, plan, {**asked, **session.limits, **where})
    station = Station(plan, folder, plan.source, cache, device)
    go_on(session, station, station.furnished(data, own, chosen), plan, study)


def go_on(
    session: Session, station: Station, bench: Bench, plan: Plan, study: optuna.Study
) -> None:
    """Train what is left of an ablation, and print its table."""
    bench = replace(bench, say=session.say)
    total, name = len(plan.arms) * int(study.user_attrs[SEEDS]), study.study_name
    done = ended(study)
    console, typical = session.console, partial(typical_arm, plan)
    shown = Display(console, trials=total, done=done, best=False)
    if session.on != HERE:
        with session.resumable(name), shown as display:
            on_ray.run(session, station, study, display)
    else:
        with (
            session.worker(study, station.folder) as worker,
            open_crew(bench, station, session.workers, total - done, typical, console) as crew,
            shown as display,
            worker.at_work(crew.devices, in_process=crew.in_process),
        ):
            run_trials(Planned(plan, bench), worker, crew, display)
    session.say_limit(study)
    if not session.joined:
        views.finished(session, name, int(study.user_attrs[SEEDS]))
    if ended(study) >= total:
        settle(study)


def ended(study: optuna.Study) -> int:
    """Trials that have ended."""
    return sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))


def make_plan(
    design: Design, data: Data, teachers: Mapping[str, Named], device: torch.device
) -> tuple[Plan, Resolved]:
    """The plan of a design on some data, its teachers yet to be trained."""
    plan = Plan(
        source=kept_source(design.data),
        data=data.fingerprint,
        classes=data.classes,
        channels=data.channels,
        size=data.size,
        version=version(),
        question=design.question,
        design=design.design,
        size_matched=design.widths == SIZE_MATCHED,
        budget="",
        shared_views=design.views == SHARED,
        factors={},
        arms=(),
        baseline=design.baseline_name,
        validation=len(data.validation),
        taught={},
        described={},
        published=design.published or {},
    )
    precision = default_mode(device).precision
    resolved = resolve(Maker(design, plan, tuple(teachers), precision))
    plan = replace(
        plan,
        arms=resolved.arms,
        baseline=resolved.baseline,
        factors=resolved.factors,
        budget=resolved.budget,
    )
    return plan, resolved


def refusal(resolved: Resolved) -> InputError:
    """What to say of arms that cannot exist."""
    words = "; ".join(f"{name}: {reason}" for name, reason in resolved.impossible)
    count = len(resolved.impossible)
    which = "1 arm" if count == 1 else f"{count} arms"
    return InputError(f"every arm must be possible, but {which} cannot exist ({words})")


def typical_arm(plan: Plan) -> Typical:
    """The arm of middle work."""
    order = sorted(plan.arms, key=lambda arm: macs(arm.architecture, plan.size))
    middle = order[len(order) // 2]
    return Typical(middle.architecture, middle.recipe)


NO_SCORE = {"file_accuracy": None, "confusion": None, "file_sha256": None}


class Planned:
    """The students of an ablation, a `search.trials.loop.Source`: trial numbers say which."""

    identity = "training"
    pruner = None  # a comparison needs every arm's last epoch

    def __init__(self, plan: Plan, bench: Bench) -> None:
        self.plan, self.bench = plan, bench

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        arm, seed = self.plan.trial(number)
        fixed = {"arm": arm.name, "seed": seed, **arm.levels}
        with warnings.catch_warnings():  # Optuna tells at every call what may change
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler(0))

    def most(self, study: optuna.Study, uncounted: int, idle: int) -> int:
        return len(self.plan.arms) * int(study.user_attrs[SEEDS])

    def draw(self, trial: optuna.Trial) -> Draw:
        plan, (arm, seed) = self.plan, self.plan.trial(trial.number)
        trial.suggest_categorical("arm", [arm.name for arm in plan.arms])
        trial.suggest_int("seed", 0, MAX_SEEDS)
        for factor in arm.levels:
            trial.suggest_categorical(factor, plan.factors[factor])
        recipe = arm.recipe_of(seed, shared_views=plan.shared_views)
        place = self.bench.folder.trial(trial.number).name
        job = Job(arm.architecture, recipe, arm.format, arm.teacher, place)
        described = describe(arm.architecture, plan.card_for(recipe), arm.format) | {
            "budget_share": arm.budget_share,
            "repairs": [],
            "training": training_identity(job),
        }
        return Draw(job, described, f"{arm.name}, seed {seed}")

    def copied(self, twin: FrozenTrial, draw: Draw) -> Copied:
        """The twin's network, stored in this arm's format and scored again: no training."""
        known: dict[str, Any] = {"trained_as": twin.number, "seconds": 0.0}
        folder = self.bench.folder
        exact, student = folder.exact(twin.number), folder.student(twin.number)
        own = folder.path / draw.job.place / STUDENT
        folder.fetch(*(str(path.relative_to(folder.path)) for path in (exact, student)))
        source = exact if exact.exists() else student
        ended = twin.user_attrs["ended"]
        if ended != FINISHED and not (ended == UNSTORABLE and exact.exists()):
            return Copied(TrialState.FAIL, None, known)
        try:
            if draw.job.format != "fp32":
                export.convert(source, "fp32", own.with_name(EXACT))
            export.convert(source, draw.job.format, own)
        except OverflowError as error:
            failed = {"ended": UNSTORABLE, "reason": str(error)}
            return Copied(TrialState.FAIL, None, known | failed | NO_SCORE)
        folder.keep(f"{draw.job.place}/{EXACT}", f"{draw.job.place}/{STUDENT}")
        accuracy, confusion = scored(self.bench, own)
        stored = {"ended": FINISHED, "reason": "", "confusion": confusion}
        known |= stored | {"file_accuracy": accuracy, "file_sha256": digest(own)}
        return Copied(TrialState.COMPLETE, accuracy, known)


def training_identity(job: Job) -> str:
    """Twelve hexadecimal digits, equal for trainings that end in the same network."""
    parts = [job.architecture.fingerprint, job.recipe.fingerprint, str(job.teacher)]
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
