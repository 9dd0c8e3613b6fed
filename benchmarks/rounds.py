"""Arms measured in turns."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class Ran(NamedTuple):
    """One round of an arm."""

    seconds: float  # a trial
    accuracies: tuple[float, ...]  # validation, of each student
    note: str = ""  # what is known only after the run


class Arm(NamedTuple):
    name: str
    run: Callable[[int], Ran]  # the round's number, from 0
    note: str = ""


Measured = dict[str, list[Ran]]


def measure(arms: Sequence[Arm], rounds: int, measured: Measured, console: Console) -> None:
    """Run every arm once a round, each round beginning with another: slow drift hits all alike.

    Args:
        measured: filled round by round, so that Ctrl-C leaves what was measured.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=rounds * len(arms))
        for number in range(rounds):
            first = number % len(arms)
            for arm in (*arms[first:], *arms[:first]):
                bar.update(task, description=f"round {number + 1} of {rounds}: {arm.name}")
                measured.setdefault(arm.name, []).append(arm.run(number))
                bar.advance(task)
            told = ", ".join(f"{arm.name} {measured[arm.name][-1].seconds:.2f} s" for arm in arms)
            console.print(f"round {number + 1}: {told}")
