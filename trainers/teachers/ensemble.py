"""Several teachers asked as one."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

ENSEMBLE = "ensemble"  # what a description says in place of a network's name


def mean_probabilities(logits_MNK: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean of the members' probabilities at temperature 1: N x K."""
    log_MNK = logits_MNK.log_softmax(-1)
    return log_MNK.logsumexp(0) - torch.tensor(float(len(logits_MNK))).log()


def mean_logits(logits_MNK: torch.Tensor) -> torch.Tensor:
    """Mean of the members' logits, of which a confident member has the larger: N x K."""
    return logits_MNK.mean(0)


PROBABILITIES = "probabilities"
MIXES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    PROBABILITIES: mean_probabilities,
    "logits": mean_logits,
}


class Ensemble(nn.Module):
    """Images in [0, 1] -> one answer of all members, `Model`s, each with its own input."""

    def __init__(self, members: Sequence[nn.Module], mix: str) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.mix = mix

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits = [member(images_NCHW).float() for member in self.members]
        return MIXES[self.mix](torch.stack(logits))
