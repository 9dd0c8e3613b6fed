"""How full and how fast the solver is: `python benchmarks/solver.py`.

A row is random shapes at one input size, budget and limit, for 11 classes, width multiple 4, int8:
1,000 shapes (--shapes) of a named space, or a fiftieth of them of each of 200 random spaces of
one's own. Milliseconds are of
processor time, medians of the rounds, of which each begins with empty caches.
"""

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import click
import torch

from benchmarks import results
from benchmarks.random_spaces import random_table
from space import cost_model, file_format
from space.file_format import StudentMetadata
from space.schema import Table
from space.solver import Budget, InfeasibleError, Solution, solve
from space.spaces import FAMILIES, random_params, search_space

BUDGETS = ("11400B", "20KB", "100KB", "300KB", "1MB")
SIZES = (32, 64)
LIMITS: tuple[dict[str, str], ...] = ({}, {"macs": "5M"}, {"ram": "32KB"})
OWN = 200  # spaces of one's own
CARD = StudentMetadata(
    classes=tuple(f"class {index}" for index in range(11)),
    size=64,
    mean=(0.5543, 0.4506, 0.3442),
    std=(0.2716, 0.2734, 0.2779),
)

Case = tuple[int, str, dict[str, str]]  # input size, budget, limits beside it
Subject = tuple[str, Sequence[str | Table], int]  # name, spaces, shapes of each


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


class Solved(NamedTuple):
    """What random shapes of one space came to."""

    solutions: list[Solution]
    milliseconds: list[float]  # of processor time, of each
    refused: int  # shapes that no repair makes small enough

    @property
    def median(self) -> float:
        """Share of the budget, or of the tighter limit beside it."""
        return quantile([one.share for one in self.solutions], 0.5) if self.solutions else 0.0


def solved(space: str | Table, size: int, budget: Budget, shapes: int) -> Solved:
    made, rng, card = search_space(space, size=size), random.Random(0), replace(CARD, size=size)
    found = Solved([], [], 0)
    for _ in range(shapes):
        shape = made.shape(random_params(made, rng), classes=11, channels=3, size=size)
        started = time.process_time()
        try:
            solution = solve(shape, budget, card)
        except InfeasibleError:
            found = found._replace(refused=found.refused + 1)
            continue
        found.milliseconds.append(1_000 * (time.process_time() - started))
        if budget.count(solution.architecture, card) > budget.limit:
            raise AssertionError(f"{solution.architecture.words} is over {budget}")
        found.solutions.append(solution)
    return found


def forget() -> None:
    """Empty the solver's caches: what came before must not make a row faster."""
    for part in (*vars(cost_model).values(), *vars(file_format).values()):
        if hasattr(part, "cache_clear"):
            part.cache_clear()


def row(name: str, spaces: Sequence[str | Table], shapes: int, case: Case) -> dict[str, Any]:
    """Figures of one round."""
    size, text, limits = case
    forget()
    each = [solved(space, size, Budget.parse(text, **limits), shapes) for space in spaces]
    shares = [solution.share for one in each for solution in one.solutions] or [0.0]
    milliseconds = [ms for one in each for ms in one.milliseconds] or [0.0]
    return {
        "space": name,
        "size": size,
        "budget": text,
        "limit": " ".join(f"{key} {value}" for key, value in limits.items()),
        "share_p1": quantile(shares, 0.01),
        "share_p50": quantile(shares, 0.5),
        "full": sum(share >= 0.99 for share in shares) / len(shares),  # of the shapes solved
        "worst_space_p50": min(one.median for one in each),
        "spaces_below": sum(one.median < 0.99 for one in each),
        "spaces": len(each),
        "ms_p50": quantile(milliseconds, 0.5),
        "ms_p99": quantile(milliseconds, 0.99),
        "repaired": sum(bool(s.repairs) for one in each for s in one.solutions),
        "refused": sum(one.refused for one in each),
        "shapes": shapes * len(each),
    }


def median_of(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One row of several rounds, which differ in their milliseconds only."""
    times = {name: statistics.median(one[name] for one in rounds) for name in ("ms_p50", "ms_p99")}
    return rounds[0] | times | {"rounds": len(rounds)}


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--shapes", type=click.IntRange(50), default=1_000, show_default=True)
@results.OUT
def main(rounds: int, shapes: int, out: Path) -> None:
    rng = random.Random(0)
    own = [random_table(rng) for _ in range(OWN)]
    subjects: list[Subject] = [(name, [name], shapes) for name in FAMILIES]
    subjects.append(("own", own, shapes // 50))
    cases = list(product(subjects, product(SIZES, BUDGETS, LIMITS)))
    found = [[row(*subject, case) for subject, case in cases] for _ in range(rounds)]
    rows = [median_of(one) for one in zip(*found, strict=True)]
    results.write_csv(results.csv_path(out, "solver", torch.device("cpu")), rows)
    shown = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in r.values()] for r in rows]
    results.console().print(results.table("The solver", list(rows[0]), shown))


if __name__ == "__main__":
    results.run(main)
