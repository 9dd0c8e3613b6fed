"""One student to train: what an executor is given."""

from typing import NamedTuple

from space.architecture import Architecture
from space.fingerprint import fingerprint
from trainers.recipe import Recipe


class Job(NamedTuple):
    """A student to train and to store: all that may differ within a study; picklable."""

    architecture: Architecture
    recipe: Recipe
    format: str  # of the file that is scored
    teacher: str | None  # name of its teacher; None learns from the labels alone
    key: str  # folder of its checkpoint and its files, within the study's folder
    draft: str = ""  # folder that its files are written to first; empty: the same
    size: int | None = None  # pixels of its input, where they are not the study's
    labelled_only: bool = False  # whether it leaves out the study's photographs without labels

    @property
    def written_to(self) -> str:
        return self.draft or self.key

    @property
    def training(self) -> str:
        """Twelve hexadecimal digits, equal for trainings that end in the same network."""
        parts = [self.architecture.fingerprint, self.recipe.fingerprint, str(self.teacher)]
        parts += [] if self.size is None else [str(self.size)]
        parts += ["labelled only"] if self.labelled_only else []
        return fingerprint("/".join(parts))
