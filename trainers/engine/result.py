"""What training tells: an epoch, a result; and where it hears the teacher."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import nn

FINISHED = "finished"  # how a training ended that was neither pruned nor diverged


class Epoch(NamedTuple):
    """What is known when an epoch is over."""

    epoch: int  # epochs trained so far, from 1
    accuracy: float  # validation, of the averaged and recalibrated network
    loss: float  # mean training loss
    images_per_second: float


class TrialResult(NamedTuple):
    """What training a network gave."""

    history: tuple[Epoch, ...]
    ended: str  # finished | pruned | diverged
    reason: str  # in words; empty when finished
    seconds: float  # of training and evaluation, interruptions left out
    device: str
    micro_batch: int  # images at once; smaller than the recipe's batch where memory ran out
    mode: str = ""  # how steps were computed, e.g. "channels_last, bf16, graphs"
    fallback: str = ""  # why steps were not captured as graphs, where they should have been

    @property
    def epochs(self) -> int:
        return len(self.history)

    @property
    def accuracy(self) -> float:
        """Validation accuracy after the last epoch; 0 where no epoch was finished."""
        return self.history[-1].accuracy if self.history else 0.0


class StopTraining(Exception):  # noqa: N818  (an order, not an error)
    """Raised by a report: training ends after this epoch, without a result."""

    def __init__(self, keep: bool) -> None:
        """Say whether a checkpoint is written, from which it can go on."""
        super().__init__(keep)
        self.keep = keep


class TeacherLogits(Protocol):
    """Where the engine gets the teacher's logits from: a bank, or a live teacher."""

    @property
    def key(self) -> str: ...

    def epoch_logits(self, epoch: int) -> torch.Tensor:
        """Logits of every training image's view in this epoch, float32, shape N x K."""
        ...


class Keeper(Protocol):
    """Keeps the network as it is after some epochs of its training."""

    @property
    def key(self) -> str:
        """What tells it from one that keeps others: part of what a checkpoint must agree on."""
        ...

    def has(self, history: Sequence[Epoch]) -> bool:
        """Whether all that it keeps of these epochs is there: a training may go on from them."""
        ...

    def keep(self, epoch: Epoch, network: nn.Module) -> None:
        """Keep the averaged, recalibrated network, if it is one of those; it is trained further."""
        ...


Report = Callable[[Epoch], bool]  # True: stop here, the trial is pruned; may raise Leave
