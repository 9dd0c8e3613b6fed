"""Options of one training command that do not belong to the study: database, workers, limits."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import optuna
from rich.console import Console

from search.database.address import command
from search.database.leases import GRACE
from search.database.storage import backend_of
from search.study.flags import Flags
from search.study.folder import Folder, named_cache
from search.study.limits import asked_limits, limits_of, spent_of
from search.study.settings import parse_backend, parse_grace, parse_workers
from search.terminal import output
from search.workers.stopping import StopRequest
from search.workers.worker import Worker
from trainers.engine.memory import keep_freed_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of such a command."""

    join: Callable[..., None]  # the command `worker`, which Ray's workers run
    storage: str
    workers: int | None  # students trained at once; None: measured
    as_json: bool
    out: str | None = None  # a copy of the best file
    grace: float = GRACE  # seconds without a heartbeat before others may take over
    artifacts: str | None = None  # folder that holds new studies' folders
    limits: Mapping[str, float] = field(default_factory=dict)  # of a new study: its attributes
    on: str = "here"  # or ray, or ray://HEAD:PORT
    gpus_per_worker: float | None = None  # on Ray
    stop_request: StopRequest = field(default_factory=StopRequest)
    stored: Counter[str] = field(default_factory=Counter)  # what this process stored; see `Worker`
    elsewhere: tuple[str, ...] = ()  # flags for a study's files that were moved, as they were typed
    cache: tuple[str, ...] = ()  # `--cache` as it was typed, unless it is the default
    joined: bool = False  # another process reports the results
    console: Console = field(default_factory=lambda: output.console(stderr=True))

    @classmethod
    def of(cls, flags: Flags, join: Callable[..., None]) -> "Session":
        """The session that flags ask for.

        Args:
            join: the command `worker`.

        Raises:
            InputError: a flag outside its rule.
        """
        return cls(
            join=join,
            storage=flags.storage,
            workers=parse_workers(flags.workers),
            as_json=flags.as_json,
            out=flags.out,
            grace=parse_grace(flags.grace),
            artifacts=flags.artifacts,
            limits=asked_limits(flags.timeout, flags.gpu_hours),
            on=parse_backend(flags.on),
            gpus_per_worker=flags.gpus_per_worker,
            cache=named_cache(flags.cache),
        )

    def prepare(self) -> None:
        """Set the process up: once, before anything is loaded."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        keep_freed_memory()

    def say(self, text: str) -> None:
        """Print beside the results, on standard error."""
        self.console.print(text, soft_wrap=True)

    @contextmanager
    def worker(self, study: optuna.Study, folder: Folder) -> Iterator[Worker]:
        """A worker on a study."""
        backend_of(study).storage.retry.say = self.say
        with (
            self.resumable(study.study_name),
            Worker.joining(
                study, folder, self.stop_request, grace=self.grace, stored=self.stored
            ) as worker,
        ):
            folder.sweep()
            yield worker

    @contextmanager
    def resumable(self, name: str) -> Iterator[None]:
        """On Ctrl-C, say how to resume the study."""
        try:
            yield
        except KeyboardInterrupt:
            self.console.print(
                f"stopped; nothing is lost. Go on with: {self.to_resume(name)}", soft_wrap=True
            )
            raise

    def say_limit(self, study: optuna.Study) -> None:
        """If a limit of the study was reached, say which, and how to raise it."""
        reached = limits_of(study).reached(spent_of(study))
        if reached is not None:
            flag = reached.partition(":")[0]
            more = (flag, "2h" if flag == "--timeout" else "2")
            self.console.print(f"limit reached, {reached}", soft_wrap=True)
            command = self.to_resume(study.study_name, *more)
            self.console.print(f"for more: {command}", soft_wrap=True)

    def to_resume(self, name: str, *more: str) -> str:
        """The command that resumes a study on this machine."""
        return command("resume", name, self.storage, *more, *self.elsewhere, *self.cache)


def version() -> str:
    """Of DistilNAS, as installed."""
    from importlib.metadata import version as installed

    return installed("distilnas")
