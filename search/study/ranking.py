"""Which student is the best: by accuracy, by size, and over further seeds; and how sure that is."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

import pandas as pd
import sqlalchemy as sa

from search.database import table as tables
from search.database.goal import ACCURACY, Goal, order_key
from search.database.row import Row
from search.study.plan import is_plan
from search.study.spec import OWN_TEACHER

FURTHER_SEEDS = (1, 2, 3)  # added to the recipe's seed
# How a student ended, beside the ends that `trainers.engine.result` names.
FAILED = "error"  # its training failed, which says nothing of the student
UNSTORABLE = "unstorable"  # trained, but its file cannot hold its weights
CONFIDENCE = 0.95  # of the interval of an accuracy


class Finalist(NamedTuple):
    """One student over several seeds."""

    number: int  # of its trial
    words: str
    accuracies: tuple[float, ...]  # of the files, one a further seed; the lucky first is left out
    seeds: tuple[int, ...]
    failed: tuple[int, ...] = ()  # seeds whose training failed: they say nothing of the student
    bytes: float = math.inf  # of its file

    @property
    def mean(self) -> float:
        return fmean(self.accuracies)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else math.nan


def attribute(number: int, seed: int) -> str:
    """The study's user attribute that keeps a trial's result over one further seed."""
    return f"finalist:{number}:{seed}"


def ranked(
    attributes: Mapping[str, Any], students: Iterable[tuple[int, str, float]]
) -> list[Finalist]:
    """Trials whose further seeds have all ended, best mean first.

    Args:
        attributes: of the study.
        students: number, words and bytes of each trial.

    A seed that diverged or cannot be stored counts as accuracy 0. One whose
    training failed (memory, the device, the process) is left out, and a trial where all failed
    with it.
    """
    found = []
    for number, text, size in students:
        rows = {seed: attributes.get(attribute(number, seed)) for seed in FURTHER_SEEDS}
        ended = {seed: Row.of(row) for seed, row in rows.items() if row is not None}
        kept = {seed: row for seed, row in ended.items() if row.ended != FAILED}
        if len(ended) == len(FURTHER_SEEDS) and kept:
            accuracies = tuple(row.file_accuracy or 0.0 for row in kept.values())
            failed = tuple(seed for seed in ended if seed not in kept)
            known = size if size == size else math.inf  # NaN: of an earlier version
            found.append(Finalist(int(number), text, accuracies, tuple(kept), failed, known))
    return sorted(found, key=lambda one: order_key(one.mean, one.bytes, one.number))


def seed_key(number: int, seed: int) -> str:
    """The folder of a trial's training over a further seed, within the study's."""
    return f"trial{number:04d}/seed{seed}"


def best_seed(finalist: Finalist) -> int:
    """The most accurate of a finalist's seeds: its file is the study's."""
    pairs = zip(finalist.accuracies, finalist.seeds, strict=True)
    return max(pairs, key=lambda pair: pair[0])[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """A study's best student, and its file."""

    number: int  # of its trial
    value: float  # validation accuracy of the file, 0 to 1; in another program's study any value
    bytes: int | None  # of the file; None: not known
    macs: int | None  # for one image; None: not known
    images: int | None = None  # that the accuracy was counted on; None: not known
    arm: str | None = None  # of an ablation
    teacher: float | None = None  # validation accuracy of its teacher, 0 to 1; None: not known
    seed: int | None = None  # the further seed that the file is of; None: the trial's own file
    mean: float | None = None  # accuracy over the further seeds, 0 to 1; None: it was no finalist
    seeds: int = 0  # further seeds in that mean

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the accuracy, as `wilson`; None where the number of images is not known."""
        return None if not self.images else wilson(self.value, self.images)

    @property
    def place(self) -> str:
        """The folder of its file, within the study's."""
        return f"trial{self.number:04d}" if self.seed is None else seed_key(self.number, self.seed)

    @property
    def order(self) -> tuple[float, float, int]:
        """Sorts the best first; finalists of equal studies by their means."""
        worth = self.value if self.mean is None else self.mean
        return order_key(worth, math.inf if self.bytes is None else self.bytes, self.number)


def wilson(share: float, count: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval of a proportion: what other images of the same kind could have shown.

    Unlike p ± 1.96 s it never leaves [0, 1], and is not empty where all images are right. It knows
    nothing of the choice: the best of many equal students is a lucky one.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    Journal of the American Statistical Association 22 (1927).

    Args:
        share: of the images that are right, 0 to 1.
        count: images.
    """
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    shrunk = 1 + z * z / count
    centre = (share + z * z / (2 * count)) / shrunk
    half = z / shrunk * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def best_student(
    engine: sa.Engine,
    name: str,
    trials: pd.DataFrame,
    attributes: Mapping[str, Any],
    goal: Goal = ACCURACY,
    limit: int | None = None,
) -> Best | None:
    """The student that a study ends with, of those whose file takes at most `limit` bytes.

    Where some of them were trained over further seeds, that is the one with the best mean, and its
    best seed's file: the same that a search leaves as `best.safetensors`. Otherwise it is the most
    accurate; of equals, the smaller file, then the earlier trial.

    Args:
        trials: of the study, columns as `search.database.table.trials`.
        attributes: of the study.
        goal: of the study.
        limit: None: any size.

    Returns:
        None if there is none.
    """
    fitting = trials if limit is None else trials[pd.to_numeric(trials["bytes"]) <= limit]
    leaders = tables.best(fitting, len(fitting), goal)
    if leaders.empty:
        return None
    finalists = [one for one in ranked(attributes, tables.students(leaders)) if one.mean > 0]
    chosen = int(finalists[0].number if finalists else leaders["number"].iloc[0])
    row = leaders[leaders["number"] == chosen].iloc[0]
    spec, arm = tables.spec_of(attributes), row.get("params_arm")
    found = Best(
        number=chosen,
        value=float(row["value"]),
        bytes=_whole(row["bytes"]),
        macs=_whole(row["macs"]),
        images=_images(engine, name, chosen, spec),
        arm=arm if isinstance(arm, str) else None,
        teacher=_teacher(attributes, arm),
    )
    return _with_seeds(found, finalists[0], attributes) if finalists else found


def smallest(trials: pd.DataFrame) -> pd.Series | None:
    """The row of the student with the smallest file; None if no student has one."""
    known = tables.best(trials[trials["bytes"].notna()], len(trials))
    return None if known.empty else known.sort_values("bytes", kind="stable").iloc[0]


def _with_seeds(found: Best, finalist: Finalist, attributes: Mapping[str, Any]) -> Best:
    seed = best_seed(finalist)
    row = Row.of(attributes[attribute(finalist.number, seed)])
    return replace(
        found,
        value=row.file_accuracy or 0.0,
        images=found.images if row.confusion is None else _counted(row.confusion),
        seed=seed,
        mean=finalist.mean,
        seeds=len(finalist.seeds),
    )


def _images(engine: sa.Engine, name: str, number: int, spec: Mapping[str, Any]) -> int | None:
    """Validation images: an ablation states them, a search's rows count them by class."""
    if not spec:
        return None
    stated = spec.get("validation") if is_plan(spec) else None
    confusion = tables.trial_attribute(engine, name, number, "confusion")
    counted = _counted(confusion) if isinstance(confusion, list) else None
    return stated if isinstance(stated, int) else counted


def _counted(confusion: list[list[int]]) -> int | None:
    return sum(map(sum, confusion)) or None


def _teacher(attributes: Mapping[str, Any], arm: object) -> float | None:
    """The validation accuracy of the teacher of a search, or of an ablation's arm."""
    spec = tables.spec_of(attributes)
    known, name = attributes.get("described"), OWN_TEACHER
    if is_plan(spec):
        known = spec.get("described")
        name = next((str(a["teacher"]) for a in spec["arms"] if a["name"] == arm), OWN_TEACHER)
    facts = known.get(name) if isinstance(known, Mapping) else None
    accuracy = facts.get("accuracy") if isinstance(facts, Mapping) else None
    return float(accuracy) if isinstance(accuracy, int | float) else None


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)
