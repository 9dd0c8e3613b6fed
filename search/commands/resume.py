"""The command `resume`: a study goes on; its name is enough."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import optuna

from search.ablation.design import MAX_SEEDS
from search.commands.go_on import go_on
from search.commands.join import join
from search.commands.session import Session
from search.database.address import database_errors
from search.database.storage import open_storage
from search.study.flags import Flags
from search.study.folder import cache_folder, require_writable
from search.study.limits import DEVICE_SECONDS, TIMEOUT, duration, spent_of
from search.study.spec import SearchSpec, StudySpec
from search.study.study import (
    ADDED,
    FINALISTS,
    SEEDS,
    SETTLED,
    TARGET,
    counted,
    folder_of,
    open_study,
    target,
)
from search.training.context import ContextSpec
from space.errors import InputError, require_range
from trainers.engine.evaluation import choose_device

FOR_SEARCHES = ("trials", "finalists", "budget", "epochs", "space", "out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """More work, or settings that must be the study's own. None: not given."""

    trials: int | None
    seeds: int | None
    finalists: int | None
    budget: str | None
    epochs: int | None
    space: str | None

    def check(self) -> None:
        if (self.trials or 0) < 0:
            raise InputError(f"--trials must be at least 0 more trials, but got {self.trials}")


def resume(name: str, flags: Flags, asked: Asked) -> None:
    """Go on with a study."""
    session = replace(Session.of(flags, join), elsewhere=flags.elsewhere)
    session.prepare()
    if session.out is not None:
        require_writable(Path(session.out))
    asked.check()
    choose_device(flags.device)  # first: the data may take long to load
    with database_errors(flags.storage):
        study, spec = open_study(open_storage(flags.storage, create=False), name)
        _refuse(name, spec, {**asdict(asked), "out": session.out})
        folder = folder_of(flags.storage, study, flags.artifacts)
        folder.require(name)
        source, cache = flags.data or spec.source, cache_folder(flags.cache)
        context_spec = ContextSpec(spec, folder, source, cache, flags.device, flags.unlabelled)
        context = context_spec.context()
        session.say(context.data.words)
        _add_limits(study, session)
        if isinstance(spec, SearchSpec):
            _add(study, session, asked.trials, asked.finalists)
        else:
            _add_seeds(study, asked.seeds)
        go_on(session, context_spec, context, study)


def _add_limits(study: optuna.Study, session: Session) -> None:
    """Raise time limits: by so much beyond what was used."""
    used = spent_of(study)
    seconds = {TIMEOUT: used.seconds, DEVICE_SECONDS: used.device_seconds}
    words = {TIMEOUT: duration, DEVICE_SECONDS: lambda left: f"{left / 3600:.2f} device-hours"}
    for key, more in session.limits.items():
        _extend(study, session, key, more, seconds[key], seconds[key], words[key])


def _add(study: optuna.Study, session: Session, trials: int | None, finalists: int | None) -> None:
    if trials:
        done = counted(study)
        before = max(target(study), done)
        _extend(study, session, TARGET, trials, done, before, lambda left: f"{left:.0f} trials")
    if finalists is not None:
        study.set_user_attr(FINALISTS, finalists)


def _extend(
    study: optuna.Study,
    session: Session,
    key: str,
    more: float,
    used: float,
    before: float,
    words: Callable[[float], str],
) -> None:
    """Raise a limit by `more`. The same command after an interruption adds nothing.

    Args:
        used: how much of the limit was used so far.
        before: the limit so far.
        words: puts an amount into words.
    """
    added, settled = (study.user_attrs.get(name, {}) for name in (ADDED, SETTLED))
    amount, limit = added.get(key, (None, 0))
    # Finalists are trained after the last trial: trials alone do not say that a study has ended.
    is_open = added.get(key) != settled.get(key) and (used < limit or key == TARGET)
    if amount == more and is_open:
        left = words(max(0, limit - used))
        text = f"goes on with the {words(more)} asked for before: {left} are left"
    else:
        limit = before + more
        # Written first: the process may die before the limit itself is raised.
        study.set_user_attr(ADDED, {**added, key: (more, limit)})
        text = f"{words(more)} more, {words(limit)} in all"
    study.set_user_attr(key, limit)
    session.console.print(text, soft_wrap=True)


def _add_seeds(study: optuna.Study, seeds: int | None) -> None:
    """Train every arm over more seeds. They come after the others, so nothing is trained again."""
    if seeds is not None:
        before = int(study.user_attrs[SEEDS])
        require_range(
            "--seeds (of each arm, those that were asked for included)", seeds, before, MAX_SEEDS
        )
        study.set_user_attr(SEEDS, seeds)


def _refuse(name: str, spec: StudySpec, asked: Mapping[str, object]) -> None:
    """Raise InputError for flags of the other kind of study, and for settings that differ."""
    given = {key: value for key, value in asked.items() if value is not None}
    if isinstance(spec, SearchSpec):
        if "seeds" in given:
            raise InputError(f"{name!r} is a search: --seeds is for ablations; use --trials")
        _refuse_changes(name, spec, given)
        return
    wrong = [f"--{key}" for key in FOR_SEARCHES if key in given]
    if wrong:
        raise InputError(
            f"{name!r} is an ablation: {', '.join(wrong)} is for searches; its arms can be "
            "trained over more seeds: --seeds"
        )


def _refuse_changes(name: str, spec: SearchSpec, given: dict[str, object]) -> None:
    """Raise InputError for a setting that differs from the study's."""
    mine: dict[str, object] = {
        "budget": str(spec.budget),
        "epochs": spec.recipe.epochs,
        "space": spec.space,
    }
    if "budget" in given:
        asked = spec.budget.parse(str(given["budget"]), spec.budget.format)
        given["budget"] = str(replace(spec.budget, limit=asked.limit, unit=asked.unit))
    differences = [
        f"{key}: the study has {mine[key]}, but got {given[key]}"
        for key in mine
        if key in given and given[key] != mine[key]
    ]
    if differences:
        raise InputError(
            f"study {name!r} keeps its settings ({'; '.join(differences)}); "
            "start another study: distilnas search --name"
        )
