"""The command `worker`: this process joins a study beside its other workers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import optuna

from search.commands.go_on import go_on
from search.commands.session import Session
from search.database.address import database_errors
from search.database.storage import open_storage
from search.study.flags import Flags
from search.study.folder import cache_folder
from search.study.spec import StudySpec
from search.study.study import (
    folder_of,
    open_study,
)
from search.terminal import output
from search.training.context import ContextSpec
from search.workers.stopping import StopRequest
from search.workers.worker import FINALIST
from space.errors import InputError
from trainers.engine.evaluation import choose_device

WAIT_SECONDS = 1.0  # between two looks for a study


def join(
    name: str, flags: Flags, *, wait: float = 0.0, stop_request: StopRequest | None = None
) -> None:
    """Work on a study beside its other workers, until it has ended.

    Args:
        wait: seconds to wait for a study that is not there yet.
        stop_request: who asks it to stop; by default its own process's signals.
    """
    session = replace(
        Session.of(flags, join),
        joined=True,
        stop_request=stop_request or StopRequest(),
    )
    session.prepare()
    choose_device(flags.device)
    with database_errors(flags.storage):
        study, spec = _awaited(flags.storage, name, wait)
        folder = folder_of(flags.storage, study, flags.artifacts)
        folder.require(name)
        source, cache = flags.data or spec.source, cache_folder(flags.cache)
        context_spec = ContextSpec(spec, folder, source, cache, flags.device, flags.unlabelled)
        with _account(session, name):
            context = context_spec.context()
            session.say(context.data.words)
            go_on(session, context_spec, context, study)


@contextmanager
def _account(session: Session, name: str) -> Iterator[None]:
    """At the end, also when asked to stop, print what this worker did."""
    try:
        yield
    except KeyboardInterrupt:
        _tell(session, name, ended=False)
        raise
    _tell(session, name, ended=not session.stop_request.asked)


def _tell(session: Session, name: str, *, ended: bool) -> None:
    stored = {what: count for what, count in session.stored.items() if count}
    finalists = stored.pop(FINALIST, 0)
    if session.as_json:
        document = {"study": name, "trials": stored, "finalists": finalists, "ended": ended}
        output.print_json(document)
        return
    words = [f"{count} {state.lower()}" for state, count in stored.items()]
    words += [f"{finalists} of finalists"] if finalists else []
    begin = f"study {name!r} has ended; " if ended else ""
    session.say(f"{begin}trained here: {', '.join(words) or 'nothing'}")


def _awaited(storage: str, name: str, wait: float) -> tuple[optuna.Study, StudySpec]:
    """The study, as soon as it exists; InputError after `wait` seconds."""
    until = time.monotonic() + wait
    while True:
        try:
            with database_errors(storage):
                return open_study(open_storage(storage, create=False), name)
        except InputError:
            if time.monotonic() >= until:
                raise
        time.sleep(min(WAIT_SECONDS, max(0.0, until - time.monotonic())))
