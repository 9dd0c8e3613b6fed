"""One student to train: what an executor is given."""

from typing import NamedTuple

from space.architecture import Architecture
from trainers.recipe import Recipe


class Job(NamedTuple):
    """A student to train and to store: all that may differ within a study; picklable."""

    architecture: Architecture
    recipe: Recipe
    format: str  # of the file that is scored
    teacher: str | None  # its name; None learns from the labels alone
    key: str  # of its checkpoint, and in the end of its files, within the study's folder
    draft: str = ""  # where its files are written; the place itself where none is named

    @property
    def written_to(self) -> str:
        return self.draft or self.key
