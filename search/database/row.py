"""A trial's row: all that is stored of one student, and how rows of earlier versions are read.

A row is written once, as the user attributes of its trial, when the trial ends. Its fields are
the columns of `search.database.table.trials`. The five values of `summary` become columns of
their own: block, groups, se, depth, width (`space.summary.Summary`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Self, get_args, get_type_hints

import pandas as pd

from space.architecture import Architecture
from space.schema import Table
from space.summary import UNKNOWN, Summary, summary_of_words

DUPLICATE_OF = "duplicate_of"
INFEASIBLE = "infeasible"  # how a trial ended that found no student within the budget
LARGEST = 2**63  # of a number; SQLite holds no larger ones

READ_ALONE = {"column": False}  # metadata of a field that is long, or of interest to few


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a trial says of its student. None: not known, or it does not apply."""

    # The student, exact before it is trained.
    architecture: Table | None = None  # `Architecture.to_dict`
    words: str | None = None  # the same in one line, for people
    summary: Table | None = None  # the same in five values
    fingerprint: str | None = None  # of the architecture
    size: int | None = None  # pixels of its input, in a study that has several sizes
    params: int | None = None
    macs: int | None = None
    activation_peak: int | None = None  # values
    bytes: int | None = None  # of the stored file
    format: str | None = None  # of that file; rows of earlier versions lack it
    budget_share: float | None = None  # 0 to 1; None at fixed widths
    repairs: list[str] | None = None  # of the solver
    searched: Table | None = None  # what was drawn of the recipe, by setting; the format too
    # What tells the training from others: of an ablation, and of a search that draws more than
    # the network.
    training: str | None = field(default=None, metadata=READ_ALONE)
    # What training gave.
    file_accuracy: float | None = None  # validation, 0 to 1, of the file as read back
    network_accuracy: float | None = None  # the same before storing
    accuracies: list[float] | None = None  # one value an epoch
    losses: list[float] | None = None
    epochs: int | None = None
    seconds: float | None = None
    device: str | None = None
    micro_batch: int | None = None
    mode: str | None = None  # how its steps were computed
    fallback: str | None = None  # why not as CUDA graphs
    ended: str | None = None  # finished, pruned, diverged, infeasible, unstorable, error
    reason: str | None = None  # the same for people
    file_sha256: str | None = field(default=None, metadata=READ_ALONE)
    format_accuracy: Table | None = field(default=None, metadata=READ_ALONE)  # format -> accuracy
    confusion: list[list[int]] | None = field(default=None, metadata=READ_ALONE)  # true, predicted
    # Of a student that was trained before.
    duplicate_of: int | None = None  # a search's: the earlier trial of the same network
    trained_as: int | None = None  # an ablation's: the trial whose network this one stores

    @classmethod
    def of(cls, attributes: Mapping[str, object]) -> Self:
        """The row that a trial's attributes hold. What is of another kind is left out.

        Another program's trials may hold anything by these names.
        """
        known = {name: attributes.get(name) for name in _KINDS}
        return cls(**{name: value for name, value in known.items() if is_kind(name, value)})  # type: ignore[arg-type]

    @property
    def attributes(self) -> dict[str, object]:
        """What is known, by name: the trial's user attributes."""
        named = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {name: value for name, value in named if value is not None}

    def overlaid(self, other: "Row") -> "Row":
        """This row with what the other one knows in place of its own."""
        return Row.of(self.attributes | other.attributes)

    @property
    def network(self) -> Architecture | None:
        return None if self.architecture is None else Architecture.from_dict(self.architecture)

    @property
    def is_copy(self) -> bool:
        """Whether an earlier trial of the search trained the same network."""
        return self.duplicate_of is not None

    @property
    def was_trained(self) -> bool:
        """Whether something was trained for it, so that it counts as one of the trials asked for.

        A trial of an ablation always counts: its arm has a result, whoever trained the network.
        """
        return was_trained(self.attributes)


def is_copy(attributes: Mapping[str, object]) -> bool:
    """`Row.is_copy` of a trial's attributes, for loops over many trials."""
    return attributes.get(DUPLICATE_OF) is not None


def was_trained(attributes: Mapping[str, object]) -> bool:
    """`Row.was_trained` of a trial's attributes, for loops over many trials."""
    return not is_copy(attributes) and attributes.get("ended") != INFEASIBLE


def originals(trials: pd.DataFrame) -> pd.DataFrame:
    """A table's trials without those whose network an earlier trial trained."""
    return trials[trials[DUPLICATE_OF].isna()]


def summaries(summary: Iterable[object], words: Iterable[object]) -> pd.DataFrame:
    """Columns as in `Summary`, one row a trial, from the columns of these names."""
    rows = [
        _summary(short) or (summary_of_words(text) if isinstance(text, str) else UNKNOWN)
        for short, text in zip(summary, words, strict=True)
    ]
    frame = pd.DataFrame(rows, columns=list(Summary._fields))
    return frame.astype({"groups": float, "depth": float, "width": float})


def _summary(stored: object) -> Summary | None:
    if not isinstance(stored, Mapping):
        return None
    values = [stored.get(name) for name in Summary._fields]
    kinds = [_is_text if isinstance(value, str) else _is_number for value in UNKNOWN]
    are_ours = all(is_one(value) for is_one, value in zip(kinds, values, strict=True))
    return Summary._make(values) if are_ours else None


def _is_number(value: object) -> bool:
    return _is_real(value) and abs(value) < LARGEST  # type: ignore[arg-type]


def _is_real(value: object) -> bool:
    return type(value) in (int, float)  # a truth value is none


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_list(test: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: isinstance(value, list) and all(map(test, value))


_TESTS: dict[object, Callable[[object], bool]] = {
    int: _is_number,
    float: _is_number,
    str: _is_text,
    Table: lambda value: isinstance(value, Mapping),
    list[str]: _is_list(_is_text),
    list[float]: _is_list(_is_real),
    list[list[int]]: _is_list(_is_list(_is_real)),
}
_KINDS = {name: _TESTS[get_args(kind)[0]] for name, kind in get_type_hints(Row).items()}
COLUMNS = tuple(part.name for part in fields(Row) if part.metadata.get("column", True))
SIZES = ("bytes", "params", "macs")  # columns: what a student costs
# What charts of all trials need: numbers and words; the rest is long, or asked for one by one.
OVERVIEW_COLUMNS = (
    *("words", "summary", *SIZES, "size", "budget_share", "network_accuracy"),
    *("seconds", "epochs", "reason", "duplicate_of"),
)


def is_kind(name: str, value: object) -> bool:
    """Whether a value is of the kind that a column of this name holds."""
    return _KINDS[name](value)
