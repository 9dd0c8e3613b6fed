"""Where a training keeps its checkpoint, and how often."""

from collections.abc import Mapping

from search.study.folder import CHECKPOINT, Folder
from trainers.engine.checkpoint import Checkpoint

CHECKPOINT_SECONDS = (
    5.0  # of training that a kill may cost; writing after every epoch would slow a GPU down
)
STORED_SECONDS = 30.0  # the same, where each checkpoint is uploaded


class StoredCheckpoint(Checkpoint):
    """A checkpoint that is also uploaded to the study's store, for the worker that takes over."""

    def __init__(self, folder: Folder, key: str) -> None:
        super().__init__(folder.path / key / CHECKPOINT, every=STORED_SECONDS)
        self.folder, self.name = folder, f"{key}/{CHECKPOINT}"

    def write(self, identity: Mapping[str, str], snapshot: Mapping[str, object]) -> None:
        super().write(identity, snapshot)
        self.folder.keep(self.name)

    def read(self, identity: Mapping[str, str]) -> dict[str, object] | None:
        self.folder.fetch(self.name)
        return super().read(identity)

    def remove(self) -> None:
        super().remove()
        assert self.folder.store is not None, "made for a store"
        self.folder.store.remove(self.name)


def checkpoint_at(folder: Folder, key: str) -> Checkpoint:
    """The checkpoint of the training with this key."""
    if folder.store is not None:
        return StoredCheckpoint(folder, key)
    return Checkpoint(folder.path / key / CHECKPOINT, every=CHECKPOINT_SECONDS)
