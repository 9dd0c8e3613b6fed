"""How full and how fast the solver is: `python benchmarks/solver.py`.

A row is 1,000 random shapes of a space at 64 pixels, 11 classes, width multiple 4, int8.
"""

import random
import time
from itertools import product

from space.budget import Budget, InfeasibleError, Solution, solve
from space.families import FAMILIES, family, random_params
from space.storage import Card

BUDGETS = ("20KB", "100KB", "300KB", "1MB")
SHAPES = 1_000
CARD = Card(
    classes=tuple(f"class {index}" for index in range(11)),
    size=64,
    mean=(0.5543, 0.4506, 0.3442),
    std=(0.2716, 0.2734, 0.2779),
)
HEADER = "space   budget  share p1   p50  >=0.99  ms p50   p99  cost evaluations p50 p99  repaired"


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def solved(name: str, budget: Budget) -> tuple[list[Solution], list[float]]:
    """Solutions and milliseconds of each."""
    space, rng = family(name, size=CARD.size), random.Random(0)
    solutions, milliseconds = [], []
    for _ in range(SHAPES):
        shape = space.shape(random_params(space, rng), classes=11, channels=3, size=CARD.size)
        started = time.perf_counter()
        try:
            solutions.append(solve(shape, budget, CARD))
        except InfeasibleError:
            continue
        milliseconds.append(1_000 * (time.perf_counter() - started))
    return solutions, milliseconds


def row(name: str, text: str) -> str:
    solutions, milliseconds = solved(name, Budget.parse(text))
    shares = [solution.share for solution in solutions]
    evaluations = [float(solution.evaluations) for solution in solutions]
    full = sum(share >= 0.99 for share in shares) / SHAPES
    return (
        f"{name:7} {text:>6}  {quantile(shares, 0.01):8.4f} {quantile(shares, 0.5):6.4f} "
        f"{full:7.3f} {quantile(milliseconds, 0.5):7.2f} {quantile(milliseconds, 0.99):5.2f} "
        f"{quantile(evaluations, 0.5):20.0f} {quantile(evaluations, 0.99):3.0f} "
        f"{sum(bool(solution.repairs) for solution in solutions):9}"
    )


def main() -> None:
    print(HEADER)
    for name, text in product(FAMILIES, BUDGETS):
        print(row(name, text), flush=True)


if __name__ == "__main__":
    main()
