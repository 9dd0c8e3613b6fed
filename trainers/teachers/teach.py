"""Training a teacher: the same engine as for students, without a teacher of its own."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from space.errors import InputError
from space.fingerprint import fingerprint
from trainers.data.datasets import Data
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.result import Epoch, Report
from trainers.engine.training import train
from trainers.recipe import Recipe
from trainers.teachers import teacher
from trainers.teachers.early import Early, early_path
from trainers.teachers.networks import identity
from trainers.teachers.teacher import Numbers, Teacher


def teach(
    network: str,
    data: Data,
    recipe: Recipe,
    path: Path,
    *,
    device: torch.device,
    size: int | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    weights: str | None = None,
    report: Report | None = None,
    keep: Collection[int] = (),
    until: int | None = None,
) -> Teacher:
    """Train a teacher and write it to `path` (and its description beside it).

    If it is interrupted, the next call goes on from `path.checkpoint`.

    Args:
        size: pixels of the teacher's input; by default what the network says, else the data's.
        mean: per channel, of inputs in [0, 1]; by default what the network says, else ImageNet's.
        std: likewise.
        weights: what to fine-tune: `imagenet`, `factory` or a file; None trains from scratch.
        keep: epochs, from 1, after which the teacher is written to `early_path` as well.
        until: one of these, after which the recipe's schedule is broken off. Then the teacher as it
            is after that epoch is the answer, and nothing is written to `path`.

    Raises:
        InputError: unknown network, weights that do not fit, or training that diverged.
    """
    stated: dict[str, Any] = {"size": size, "mean": mean, "std": std, "seed": recipe.seed}
    if weights is None:
        model, info = teacher.untrained(network, data, **stated)
        info = replace(info, trained=f"from scratch on {data.name}")
    else:
        model, info = teacher.pretrained(network, data, weights, **stated)
        info = replace(info, trained=f"{info.trained} on {data.name}")
    checkpoint = Checkpoint(path.with_suffix(".checkpoint"))
    early = Early(path, info, keep, recipe.epochs) if keep else None

    def told(epoch: Epoch) -> bool:
        pruned = report is not None and report(epoch)
        return pruned or epoch.epoch == until

    result = train(model, recipe, data, told, device=device, checkpoint=checkpoint, keeper=early)
    if result.ended == "diverged":
        checkpoint.remove()
        if early is not None:
            early.remove()
        raise InputError(f"the teacher diverged ({result.reason}); choose a lower learning rate")
    if until is not None and result.epochs == until < recipe.epochs:
        checkpoint.remove()
        return teacher.load(early_path(path, until))
    teacher.save(path, model.cpu(), replace(info, accuracy=result.accuracy))
    checkpoint.remove()
    return teacher.load(path)


def teacher_key(
    network: str,
    data: Data,
    recipe: Recipe,
    size: int | None = None,
    weights: str | None = None,
) -> str:
    """Twelve hexadecimal digits of all that a teacher depends on.

    Args:
        weights: what tells the pretrained weights from others; None: from scratch.
    """
    parts = [identity(network), data.fingerprint, recipe.fingerprint, size or data.size]
    parts += [] if weights is None else [weights]
    return fingerprint(parts)
