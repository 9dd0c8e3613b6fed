"""Stand-ins for training in a search's child processes: quick, and failing as a file says.

`monkeypatch.setattr("search.commands.search.ContextSpec", members.ContextSpec)` makes the child
processes train by `quick_train`; `behave(folder, {"trial0002": "die"})` says what happens there.
"""

import errno
import hashlib
import json
import os
import random
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.training import context, objective
from space.errors import InputError
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.result import Epoch, TrialResult
from trainers.recipe import Recipe

BEHAVIOUR = Path("behaviour.json")
LOG = Path("trainings.log")  # a line for every training that was begun


def quick_train(
    model: Any,
    recipe: Recipe,
    data: Any,
    tell: Any,
    *,
    device: Any,
    teacher: Any,
    checkpoint: Checkpoint,
) -> TrialResult:
    """The engine's outside in a millisecond: accuracies depend on the network and the epoch."""
    identity = {"recipe": recipe.fingerprint}
    kept = checkpoint.read(identity) or {"history": []}
    history, ended, reason = [Epoch(*epoch) for epoch in kept["history"]], "finished", ""
    for epoch in range(len(history) + 1, recipe.epochs + 1):
        text = f"{model.network.architecture.fingerprint}/{epoch}"
        chance = random.Random(hashlib.sha256(text.encode()).digest()).random()
        if chance < 0.05:
            ended, reason = "diverged", f"training loss was nan in epoch {epoch}"
            break
        history.append(Epoch(epoch, chance, 1.0, 1.0))
        if tell(history[-1]):
            ended, reason = "pruned", f"stopped early after epoch {epoch}"
            break
        checkpoint.write(identity, {"history": [tuple(epoch) for epoch in history]})
    return TrialResult(tuple(history), ended, reason, 0.0, "cpu", recipe.batch)


def behave(folder: Path, behaviour: Mapping[str, str]) -> None:
    """What befalls the trainings of this folder's searches, by the student's place."""
    (folder / BEHAVIOUR).write_text(json.dumps(behaviour))


def trainings(folder: Path) -> list[str]:
    return (folder / LOG).read_text().split()


def misled_train(*rest: Any, checkpoint: Checkpoint, **more: Any) -> TrialResult:
    place = checkpoint.path.parent
    with LOG.open("a") as log:
        log.write(f"{place.name}\n")
    behaviour = json.loads(BEHAVIOUR.read_text()) if BEHAVIOUR.exists() else {}
    befalls = behaviour.get(place.name, "")
    if befalls == "raise":
        raise RuntimeError("a convolution failed\nat length")
    if befalls == "input":
        raise InputError("the bank of teacher logits cannot be read; free some space")
    if befalls == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "checkpoint.pt")
    if befalls == "slow":
        time.sleep(1)
    begun = checkpoint.path.exists()
    if befalls == "die" or (befalls == "die once" and not begun):
        checkpoint.write({}, {})
        os.kill(os.getpid(), signal.SIGKILL)
    if befalls == "crash" or (befalls == "crash once" and not begun):
        checkpoint.write({}, {})
        os.kill(os.getpid(), signal.SIGSEGV)
    return quick_train(*rest, checkpoint=checkpoint, **more)


@dataclass(frozen=True, slots=True)
class ContextSpec(context.ContextSpec):
    """A process that makes its bench from this one trains by `misled_train`."""

    def context(self, *, progress: bool = True) -> context.TrainingContext:
        vars(objective)["train"] = misled_train
        return context.ContextSpec.context(self, progress=progress)
