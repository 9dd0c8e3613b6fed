"""Teachers that are stopped early: the network after some epochs of a longer schedule.

A teacher that is trained to its end may know its training images by heart, and teaches less than
it did before.
"""

from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from torch import nn

from space.errors import InputError
from trainers.engine.result import Epoch
from trainers.model import Model
from trainers.teachers import teacher
from trainers.teachers.description import TeacherInfo, read_info


def early_path(path: Path, epoch: int) -> Path:
    """`teacher-5.pt` beside `teacher.pt`: the file of the teacher as it was after an epoch."""
    return path.with_stem(f"{path.stem}-{epoch}")


class Early:
    """Writes a teacher as it is after some epochs: the engine's `Keeper`."""

    def __init__(self, path: Path, info: TeacherInfo, epochs: Collection[int], last: int) -> None:
        """Write files beside the whole teacher's.

        Args:
            path: of the whole teacher, which is trained for `last` epochs.
            info: of the whole teacher.
            epochs: after which it is written, from 1.
        """
        self.whole, self.info, self.last = path, info, last
        self.epochs = tuple(sorted(set(epochs)))

    @property
    def key(self) -> str:
        return ",".join(map(str, self.epochs))

    def has(self, history: Sequence[Epoch]) -> bool:
        return all(self._written(epoch) for epoch in history if epoch.epoch in self.epochs)

    def keep(self, epoch: Epoch, network: nn.Module) -> None:
        if epoch.epoch in self.epochs:
            assert isinstance(network, Model), "as a teacher is"
            teacher.save(early_path(self.whole, epoch.epoch), network, self._info(epoch))

    def remove(self) -> None:
        """Remove what was written of a training that came to nothing."""
        for epoch in self.epochs:
            path = early_path(self.whole, epoch)
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)

    def _info(self, epoch: Epoch) -> TeacherInfo:
        words = f"{self.info.trained}, stopped after {epoch.epoch} of {self.last} epochs"
        trained = words if epoch.epoch < self.last else self.info.trained
        return replace(self.info, accuracy=epoch.accuracy, trained=trained)

    def _written(self, epoch: Epoch) -> bool:
        path = early_path(self.whole, epoch.epoch)
        with suppress(InputError):
            return path.exists() and read_info(path) == self._info(epoch)
        return False
