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
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from search.database.goal import order_key
from search.study.limits import duration
from search.training.listener import Outcome
from space.solver import format_bytes
from trainers.engine.result import Epoch, Report


class Display:
    """A `ProgressListener`: trials done, the best so far, a row a running student."""

    def __init__(
        self, console: Console, *, trials: int | None, done: int, best: bool = True
    ) -> None:
        """Show so many trials; None: a training that is no trial, a teacher's."""
        self.console, self.live = console, console.is_terminal
        self.trials, self.done = trials or 0, done
        self.names_best = best  # where arms are compared, the best single training says nothing
        self.started = time.monotonic()
        self.first = done
        self.best: tuple[float, int, int] | None = None  # accuracy, trial, bytes
        self.fell_back = False
        self.rows: dict[str, TaskID] = {}  # of running students, by label
        self.epochs: dict[str, int] = {}  # that each of them is trained for
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self.live,
        )
        self.overall = self.progress.add_task(
            "trials", total=trials, completed=done, note="", visible=trials is not None
        )

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
        """Tell of a student that may be the best so far, of this run or an earlier one."""
        known = [(accuracy, number, size), *([self.best] if self.best else [])]
        self.best = min(known, key=lambda one: order_key(one[0], one[2], one[1]))

    def began(self, label: str, words: str, epochs: int) -> None:
        """Tell of a training run that begins."""
        self.rows[label] = self.progress.add_task(label, total=epochs, note="")
        self.epochs[label] = epochs
        self.message(f"{label}: {words}", style="dim")

    def epoch_done(self, label: str, epoch: Epoch) -> None:
        note = f"accuracy {epoch.accuracy:.1%}"
        self.progress.update(self.rows[label], completed=epoch.epoch, note=note)
        epochs = self.epochs[label]
        quarter = max(1, epochs // 4)
        if not self.live and (epoch.epoch % quarter == 0 and epoch.epoch < epochs):
            self.message(f"  {label}: epoch {epoch.epoch}/{epochs}, {note}")

    def ended(self, label: str) -> None:
        self.progress.remove_task(self.rows.pop(label))

    def follower(self, label: str) -> Report:
        """`epoch_done` as a report of the engine's, which never ends the training."""

        def follow(epoch: Epoch) -> bool:
            self.epoch_done(label, epoch)
            return False

        return follow

    def trial_done(self, outcome: Outcome) -> None:
        self.done += outcome.counted
        row = outcome.row
        if outcome.value is not None and row.bytes is not None and not row.is_copy:
            self.known_best(outcome.value, outcome.number, row.bytes)
        self.message(f"{outcome.label} {_how(outcome)}")
        if row.fallback and not self.fell_back:
            self.fell_back = True  # said once; every row keeps its own
            self.message(f"steps run eagerly, not as CUDA graphs, which is slower: {row.fallback}")
        note = ""
        if self.best and self.names_best:
            accuracy, number, size = self.best
            note = f"best {accuracy:.1%} (trial {number}, {format_bytes(size)})"
        self.progress.update(self.overall, completed=self.done, note=note)
        if not self.live and outcome.counted:
            message = [f"{self.done}/{self.trials} trials", note, self._left()]
            self.message("; ".join(filter(None, message)))

    def ended_so_far(self, done: int) -> None:
        if done == self.done:
            return
        self.done = done  # with other workers' trials
        self.progress.update(self.overall, completed=done)
        if not self.live:
            self.message(f"{done}/{self.trials} trials")

    def _left(self) -> str:
        new = self.done - self.first
        if new <= 0 or self.done >= self.trials:
            return ""
        seconds = (time.monotonic() - self.started) / new * (self.trials - self.done)
        return f"about {duration(seconds)} left"

    def message(self, text: str, style: str = "") -> None:
        # Without markup: what PyTorch says of an error has brackets of its own.
        self.console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def _how(outcome: Outcome) -> str:
    row, share = outcome.row, outcome.row.budget_share
    if row.is_copy:
        return f"is the network of trial {row.duplicate_of}: not trained again"
    if outcome.state == TrialState.COMPLETE:
        filled = f" ({share:.1%} of the budget)" if share is not None else ""
        return f"complete: {outcome.value:.1%}, {format_bytes(row.bytes or 0)}{filled}"
    return f"{row.reason}" if outcome.state == TrialState.PRUNED else f"failed: {row.reason}"
