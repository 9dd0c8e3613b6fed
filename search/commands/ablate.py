"""The command `ablate`: from a design to trained arms."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch

from search.ablation.arms import ArmBuilder, Resolved, resolve
from search.ablation.design import SHARED, SIZE_MATCHED, Design, read_design
from search.ablation.forecast import forecast
from search.commands.go_on import go_on
from search.commands.join import join
from search.commands.session import Session, version
from search.commands.teachers import taught
from search.database.address import database_errors
from search.database.storage import open_storage, reachable
from search.study.flags import Flags
from search.study.folder import cache_folder
from search.study.plan import AblationSpec
from search.study.settings import HERE, unheard
from search.study.spec import kept_source, kept_unlabelled
from search.study.study import FIRST_SEEDS, SEEDS, create, folder_for, require_free
from search.terminal.plan import planned
from search.training.context import ContextSpec
from search.training.teacher_cache import (
    TeacherSource,
    check_teachers,
    keep_teachers,
    named_teachers,
    sizes_seen,
)
from search.workers import on_ray
from space.errors import InputError
from trainers.data.datasets import Data, load
from trainers.data.survey import survey
from trainers.data.unlabelled import with_unlabelled
from trainers.engine.evaluation import choose_device
from trainers.engine.modes import default_mode


def ablate(
    flags: Flags,
    file: Path,
    quick: bool,
    settings: Mapping[str, object],
    *,
    pretrained: str | None,
    dry_run: bool,
) -> None:
    """Resolve a design, print the plan, train every arm over every seed, print the table.

    Args:
        settings: that stand in place of the file's.
    """
    session = Session.of(flags, join)
    session.prepare()
    design = read_design(file, quick, settings, flags.storage)
    cache_path = cache_folder(flags.cache)
    chosen = choose_device(flags.device)
    if session.on != HERE:
        on_ray.require_ray()
    teachers = named_teachers(design.data, design.teacher_tables, pretrained, design.asked)
    with database_errors(session.storage):
        # A dry run checks everything that the run would refuse.
        storage = reachable(session.storage)
        folder_for(session.storage, design.name, session.artifacts)
        others = {*design.sizes, *sizes_seen(teachers.values())}
        data = load(design.data, design.size, others=others, cache=cache_path)
        if design.unlabelled is not None:
            data = with_unlabelled(data, design.unlabelled, cache=cache_path)
        session.say(data.words)
        check_teachers(teachers, data)
        plan, resolved = make_plan(design, data, teachers, chosen)
        if resolved.impossible and not dry_run:
            raise refusal(resolved)
        if storage is not None:
            require_free(storage, design.name, plan)
        expected = forecast(plan, design.seeds, data, teachers, cache_path, chosen)
        seen = survey(design.data, data, cache_path, design.unlabelled) if dry_run else None
        planned(
            plan, resolved, design.seeds, expected, session.console, seen, as_json=session.as_json
        )
        if resolved.impossible:
            raise refusal(resolved)
        if not dry_run:
            _begin(session, design, plan, data, teachers, cache_path, flags.device)


def _begin(
    session: Session,
    design: Design,
    plan: AblationSpec,
    data: Data,
    teachers: Mapping[str, TeacherSource],
    cache: Path,
    device: str,
) -> None:
    storage, name = open_storage(session.storage, create=True), design.name
    folder, where = folder_for(session.storage, name, session.artifacts)
    chosen = choose_device(device)
    with folder.lock(name):
        require_free(storage, name, plan)
        heard = {arm.teacher for arm in plan.arms}
        then = f"then {len(plan.arms) * design.seeds} trainings"
        wanted = {key: its for key, its in teachers.items() if key in heard}
        own = {
            key: taught(
                its,
                data,
                cache,
                chosen,
                session.console,
                f"teacher {key}",
                then,
                beside=wanted.values(),
            )
            for key, its in wanted.items()
        }
        own = keep_teachers(folder, own)
        plan = plan.with_teachers(
            {key: teacher.hash for key, teacher in own.items()},
            {key: teacher.facts for key, teacher in own.items()},
        )
        asked = {SEEDS: design.seeds, FIRST_SEEDS: design.seeds}
        study = create(storage, name, plan, {**asked, **session.limits, **where})
    context_spec = ContextSpec(plan, folder, plan.source, cache, device)
    go_on(session, context_spec, context_spec.furnished(data, own, chosen), study)


def make_plan(
    design: Design, data: Data, teachers: Mapping[str, TeacherSource], device: torch.device
) -> tuple[AblationSpec, Resolved]:
    """The plan of a design for this data; its teachers are not trained yet."""
    plan = AblationSpec(
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
        **kept_unlabelled(data, design.unlabelled),
    )
    precision = default_mode(device).precision
    resolved = resolve(ArmBuilder(design, plan, tuple(teachers), precision))
    heard = any(arm.teacher and not arm.labelled_only for arm in resolved.arms)
    if design.unlabelled is not None and not heard:
        raise unheard(design.unlabelled)
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
