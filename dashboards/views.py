"""What pictures are made from: a study and its filtered trials; an ablation; a trial.

The columns of a view's trials are those of `search.database.table` (number, state, value, started,
completed, words, params, macs, bytes, seconds, epochs, duplicate_of, budget_share, reason ...;
params_<name> only of ablations and single trials), and the architecture in five values
(`space.summary`):

    block     the type that most blocks have; "" where nothing is known
    groups    the largest number of groups; 1 without group convolutions
    se        stages with squeeze-and-excitation: "none", "some", "all"
    depth     blocks, all stages together
    width     channels of the widest stage
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from dashboards.filters import Filters
from search.database.goal import ACCURACY, Goal
from search.study.plan import AblationSpec
from search.study.spec import stated_sizes
from space.solver import Budget

if TYPE_CHECKING:
    import optuna

    from search.ablation.effects import Analysis  # importing statsmodels takes a second


class Mark(NamedTuple):
    """A size or an accuracy drawn beside the trials: of a reference or a teacher."""

    name: str
    size: int | None  # on the requested axis: bytes, params or macs
    accuracy: float | None


class Subject(NamedTuple):
    """What a study is about."""

    identity: int  # in the database
    name: str
    spec: Mapping[str, Any]  # as stored; {} where another program made the study
    attributes: Mapping[str, Any]  # all of the study's
    goal: Goal = ACCURACY

    @property
    def budget(self) -> Budget | None:
        """The budget of a search; None for other studies."""
        found = self.spec.get("budget")
        return Budget(**found) if isinstance(found, Mapping) else None

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.spec.get("classes", ()))

    @property
    def size(self) -> int | None:
        """Side of its images in pixels, of several sizes the largest; None if it is not known."""
        return self.spec.get("size")

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sides of a search's images in pixels, the smallest first; empty if not known."""
        return stated_sizes(self.spec) if self.size is not None else ()


class View(NamedTuple):
    """The trials of a study, whoever made it."""

    subject: Subject
    trials: pd.DataFrame  # that pass the filters, by number
    filters: Filters
    study: Callable[[list[int]], "optuna.Study"]  # trial numbers -> these trials, in memory
    curves: Callable[[list[int]], pd.DataFrame]  # trial numbers -> rows (number, epoch, accuracy)
    all: pd.DataFrame  # trials without the filters
    references: Callable[[str], list[Mark]]  # of "bytes", "params" or "macs"
    teachers: tuple[Mark, ...]  # with accuracies; size: parameters


class AblationView(NamedTuple):
    """The evidence of an ablation."""

    subject: Subject
    plan: AblationSpec
    trials: pd.DataFrame  # all columns of `search.database.table.trials`
    analysis: "Analysis"
    interactions: pd.DataFrame  # search.ablation.effects.interactions


class TrialView(NamedTuple):
    """One trial."""

    subject: Subject
    row: pd.Series  # all columns of `search.database.table.trials`
    curve: pd.DataFrame  # number, epoch, accuracy; also of a running trial
    confusion: list[list[int]] | None  # validation images, true class x predicted class
    formats: Mapping[str, float | None] | None = None  # storage format -> accuracy of a file in it
