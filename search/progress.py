"""How a search shows itself: a live display on a terminal, plain lines elsewhere.

Everything goes to standard error; standard output is for results.
"""

import time
from types import TracebackType

from optuna.trial import TrialState
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from search.objective import Outcome
from space.budget import Solution, format_bytes
from trainers.result import Epoch

STATE_WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


class Display:
    """A `search.objective.Watcher`: trials done, the best so far, the running trial's epoch."""

    def __init__(self, console: Console, *, trials: int, done: int, epochs: int) -> None:
        self.console, self.live = console, console.is_terminal
        self.trials, self.done, self.epochs = trials, done, epochs
        self.began = time.monotonic()
        self.first = done
        self.best: tuple[float, int, int] | None = None  # accuracy, trial, bytes
        self.label = ""
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self.overall = self.progress.add_task("trials", total=trials, completed=done, note="")
        self.running = self.progress.add_task("epochs", total=epochs, note="", visible=False)

    def __enter__(self) -> "Display":
        self.progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.progress.stop()

    def known_best(self, accuracy: float, number: int, size: int) -> None:
        """Tell of a best that was found before this run."""
        self.best = (accuracy, number, size)

    def trial_began(self, number: int, solution: Solution) -> None:
        self.begin(f"trial {number}", solution.architecture.words)

    def finalist_began(self, number: int, seed: int, words: str) -> None:
        self.begin(f"finalist {number}, seed {seed}", words)

    def epoch_done(self, epoch: Epoch) -> None:
        note = f"accuracy {epoch.accuracy:.1%}"
        self.progress.update(self.running, completed=epoch.epoch, note=note)
        quarter = max(1, self.epochs // 4)
        if not self.live and (epoch.epoch % quarter == 0 and epoch.epoch < self.epochs):
            self._line(f"  {self.label}: epoch {epoch.epoch}/{self.epochs}, {note}")

    def follow(self, epoch: Epoch) -> bool:
        """`epoch_done` as a report of the engine's, which never ends the training."""
        self.epoch_done(epoch)
        return False

    def trial_done(self, row: Outcome) -> None:
        self.done += row.counted
        attributes = row.attributes
        if row.value is not None and "duplicate_of" not in attributes:
            self.best = max(self.best or (0.0, 0, 0), (row.value, row.number, attributes["bytes"]))
        self._line(f"trial {row.number} {_how(row)}")
        note = ""
        if self.best:
            accuracy, number, size = self.best
            note = f"best {accuracy:.1%} (trial {number}, {format_bytes(size)})"
        self.progress.update(self.overall, completed=self.done, note=note)
        self.progress.update(self.running, visible=False)
        if not self.live and row.counted:
            self._line(f"{self.done}/{self.trials} trials; {note}{self._left()}")

    def begin(self, label: str, words: str) -> None:
        """Tell of a training run that begins."""
        self.label = label
        self.progress.update(
            self.running, description=label, completed=0, total=self.epochs, visible=True, note=""
        )
        self._line(f"[dim]{label}: {words}[/dim]")

    def _left(self) -> str:
        new = self.done - self.first
        if new <= 0 or self.done >= self.trials:
            return ""
        seconds = (time.monotonic() - self.began) / new * (self.trials - self.done)
        return f"; about {duration(seconds)} left"

    def _line(self, text: str) -> None:
        self.console.print(text, highlight=False, soft_wrap=True)


def _how(row: Outcome) -> str:
    attributes = row.attributes
    if "duplicate_of" in attributes:
        return f"is the network of trial {attributes['duplicate_of']}: not trained again"
    if row.state == TrialState.COMPLETE:
        size = format_bytes(attributes["bytes"])
        return f"complete: {row.value:.1%}, {size} ({attributes['budget_share']:.1%} of the budget)"
    return f"{STATE_WORDS[row.state]}: {attributes['reason']}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
