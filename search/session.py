"""How a command that trains was called: what is the user's and the machine's, not the study's."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import optuna
from rich.console import Console

from search import report
from trainers.memory import keep_freed_memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One call of such a command."""

    storage: str
    workers: int | None  # students at once; None: measured
    as_json: bool
    out: str | None = None  # a copy of the best file
    console: Console = field(default_factory=lambda: report.console(stderr=True))

    def prepare(self) -> None:
        """Set the process up: once, before anything is loaded."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        keep_freed_memory()

    @contextmanager
    def resumable(self, name: str) -> Iterator[None]:
        """Ctrl-C leaves a study that can be gone on with, and says how."""
        try:
            yield
        except KeyboardInterrupt:
            command = report.command("resume", name, self.storage)
            self.console.print(f"stopped; nothing is lost. Go on with: {command}", soft_wrap=True)
            raise


def version() -> str:
    """Of DistilNAS, as installed."""
    from importlib.metadata import version as installed

    return installed("distilnas")
