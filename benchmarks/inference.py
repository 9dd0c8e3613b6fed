"""How often an ablation's statistics are wrong: `python benchmarks/inference.py`.

Ablations are simulated: an accuracy is its arm's, plus what its seed gives to all arms, plus
chance, rounded to the step of the validation images; both deviations are `--sd`. A line is a
number of seeds, over `--repetitions` ablations:

- false alarms: ablations of equal arms in which any arm is called better or worse. At most 5 %.
- power: how often an arm that is better by what is stated as detectable (or by `--effect`) is
  called so, when it is the only comparison, and among `--arms`. 80 %; rounding to steps as coarse
  as `--sd` takes some of it.
- the intervals of one arm's difference that hold the true one: Student's t, and the bootstrap of
  scipy (percentile, BCa) and of `search.ablation.paired` (expanded percentiles). 95 %.

What to look for: the t interval is right at any number of seeds. No bootstrap of three values is;
the one that comes nearest is used.
"""

import gc
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from scipy import stats

from benchmarks import results
from search.ablation.paired import (
    BETTER,
    BOOTSTRAP_SEED,
    CONFIDENCE,
    NOT_SHOWN,
    RESAMPLES,
    Floats,
    Interval,
    bootstrap_interval,
    detectable,
    difference_of,
    judged,
)
from space.errors import require, require_range

EXACT = 1e-12  # differences of equal accuracies are 0 to some 1e-16


class World(NamedTuple):
    """What the simulated ablations have in common."""

    arms: int  # the baseline among them
    sd: float  # of chance, and of what a seed gives to all arms
    step: float  # of an accuracy

    def differences(
        self, rng: np.random.Generator, seeds: int, effects: Sequence[float]
    ) -> list[Floats]:
        """One ablation's differences to its baseline, one sample an effect."""
        level = 0.6 + self.step * rng.random()  # anywhere between two steps
        means = level + np.array([0.0, *effects])[:, None]
        shared, own = rng.normal(0, self.sd, seeds), rng.normal(0, self.sd, (len(means), seeds))
        accuracies = np.round((means + shared + own) / self.step) * self.step
        return list(accuracies[1:] - accuracies[0])


def verdict_share(
    world: World,
    rng: np.random.Generator,
    seeds: int,
    effects: Sequence[float],
    repetitions: int,
    wanted: Callable[[Sequence[str]], bool],
) -> float:
    """Share of ablations whose verdicts are as wanted."""
    studies = (world.differences(rng, seeds, effects) for _ in range(repetitions))
    return float(np.mean([wanted(list(judged(s, world.step)["verdict"])) for s in studies]))


def scipy_interval(values_N: Floats, method: Any) -> Interval:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal values have no BCa interval: it holds nothing
        low, high = stats.bootstrap(
            (values_N,),
            np.mean,
            n_resamples=RESAMPLES,
            confidence_level=CONFIDENCE,
            method=method,
            rng=BOOTSTRAP_SEED,
        ).confidence_interval
    return Interval(float(low), float(high))


def intervals(values_N: Floats, step: float) -> dict[str, Interval]:
    """By method."""
    student = difference_of(values_N, step)
    return {
        "t": Interval(student.difference_low, student.difference_high),
        "percentile": scipy_interval(values_N, "percentile"),
        "BCa": scipy_interval(values_N, "BCa"),
        "expanded": bootstrap_interval(values_N),
    }


def coverage(
    world: World, rng: np.random.Generator, seeds: int, repetitions: int
) -> dict[str, float]:
    """Share of intervals that hold the true difference of two equal arms, by method."""
    found: dict[str, list[bool]] = {}
    for _ in range(repetitions):
        (values_N,) = world.differences(rng, seeds, [0.0])
        for method, (low, high) in intervals(values_N, world.step).items():
            found.setdefault(method, []).append(low <= EXACT and high >= -EXACT)
    return {method: float(np.mean(holds)) for method, holds in found.items()}


def line(world: World, seeds: int, effect: float | None, repetitions: int) -> dict[str, object]:
    """A row of the CSV file: shares, 0 to 1."""
    rng, others = np.random.default_rng(seeds), world.arms - 1
    sd = math.hypot(math.sqrt(2) * world.sd, world.step / math.sqrt(6))  # of a difference
    alone = detectable(seeds, sd) if effect is None else effect
    among = detectable(seeds, sd, others) if effect is None else effect
    null = [0.0] * others

    def share(effects: Sequence[float], wanted: Callable[[Sequence[str]], bool]) -> float:
        return verdict_share(world, rng, seeds, effects, repetitions, wanted)

    return {
        "seeds": seeds,
        "arms": world.arms,
        "sd": world.sd,
        "validation": 1 / world.step,
        "repetitions": repetitions,
        "false_alarms": share(null, lambda verdicts: set(verdicts) != {NOT_SHOWN}),
        "effect_alone": alone,
        "power_alone": share([alone], lambda verdicts: verdicts[0] == BETTER),
        "effect_among": among,
        "power_among": share([among, *null[1:]], lambda verdicts: verdicts[0] == BETTER),
        **coverage(world, rng, seeds, repetitions),
    }


def cells(row: results.Row) -> Iterator[str]:
    for name, value in row.items():
        if name.startswith("effect"):
            yield f"{100 * float(str(value)):.1f}"
        elif isinstance(value, float) and name not in ("sd", "validation"):
            yield f"{value:.1%}"
        elif name == "seeds":
            yield str(value)


def report(rows: Sequence[results.Row], world: World) -> None:
    columns = ["seeds", "false alarms", "effect, points", "shown alone", "effect, points"]
    columns += [f"shown among {world.arms}", "t holds", "percentile", "BCa", "expanded"]
    title = f"{world.arms} arms, sd {world.sd:g}, {1 / world.step:.0f} validation images"
    drawn = results.table(title, columns, [tuple(cells(row)) for row in rows])
    results.console().print(drawn)


@click.command()
@click.option("--arms", default=4, show_default=True, help="The baseline among them.")
@click.option("--seeds", default="3,5,10", show_default=True, callback=results.numbers(2))
@click.option("--repetitions", default=4_000, show_default=True)
@click.option("--sd", default=0.01, show_default=True, help="Of an accuracy, between seeds.")
@click.option("--effect", type=float, help="Of the better arm.  [default: what is detectable]")
@click.option("--validation", default=359, show_default=True, help="Images; accuracies' step.")
@results.OUT
def main(seeds: tuple[int, ...], **flags: Any) -> None:
    """False alarms, power and coverage of an ablation's verdicts and intervals."""
    require_range("arms", flags["arms"], 2, 1_000)
    require_range("repetitions", flags["repetitions"], 1, 10**6)
    gc.freeze()  # statsmodels collects garbage at every correction: leave it little
    require("sd", flags["sd"], 0 < flags["sd"] < 1, "above 0 and below 1")
    require_range("validation", flags["validation"], 1, 10**9)
    world = World(flags["arms"], flags["sd"], 1 / flags["validation"])
    rows = [line(world, count, flags["effect"], flags["repetitions"]) for count in seeds]
    report(rows, world)
    path = results.csv_path(flags["out"], "inference", torch.device("cpu"))
    results.write_csv(path, rows)
    results.console().print(f"\n{path}")


if __name__ == "__main__":
    results.run(main)
