"""What a study's value is (an accuracy in ours, anything in another program's), and which of two
trials is better."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self, TypeVar


class Signed(Protocol):
    """A number, or a column of them."""

    def __neg__(self) -> Self: ...


Worth = TypeVar("Worth", bound=Signed)
Size = TypeVar("Size")
Number = TypeVar("Number")


class Goal(NamedTuple):
    """A study's (first) objective: its name, how it is printed, and whether less is better."""

    ours: bool = True  # validation accuracy, 0 to 1
    minimised: bool = False
    objectives: int = 1

    @classmethod
    def of(cls, directions: Sequence[str], *, ours: bool) -> "Goal":
        """From Optuna's directions, as the database or Python writes them."""
        first = directions[0] if directions else ""
        return cls(ours, first.upper() == "MINIMIZE", len(directions))

    @property
    def name(self) -> str:
        """For the head of a column."""
        return "accuracy" if self.ours else "value"

    @property
    def title(self) -> str:
        """For an axis."""
        return "validation accuracy" if self.ours else "value"

    @property
    def digits(self) -> str:
        """The d3 format with which pages write it exactly."""
        return ".2%" if self.ours else ".5~g"

    @property
    def one(self) -> str:
        return "an accuracy" if self.ours else "a value"

    @property
    def several(self) -> str:
        """A note for a study with several objectives; "" for one."""
        return f"the first of {self.objectives} objectives" if self.objectives > 1 else ""

    def exactly(self, value: float) -> str:
        """As `digits`, formatted by Python."""
        return f"{value:.2%}" if self.ours else f"{value:.5g}"

    def words(self, value: float) -> str:
        return f"{value:.1%}" if self.ours else f"{value:.4g}"

    def said(self, words: str) -> str:
        """A text that speaks of accuracies, with this goal's name instead."""
        name = self.name
        return words.replace("Accuracy", name.capitalize()).replace("accuracy", name)

    def worth(self, values: Worth) -> Worth:
        """A value, or a column of them, with the sign that makes more better."""
        return -values if self.minimised else values


ACCURACY = Goal()


def order_key(worth: Worth, size: Size, number: Number) -> tuple[Worth, Size, Number]:
    """Sorts the best first: of equal worth the smaller file, of equal files the lower number.

    Takes numbers, or columns of them.
    """
    return -worth, size, number
