"""torchdistill's training box, where it is installed: `pip install --no-deps torchdistill`.

Its distillation box, loss, optimiser and scheduler registries, driven as its own examples do.
What it has no part for is the plain loop's, so that the difference is the box itself: the kept
loaders, their scaling to [0, 1], the average of the weights, validation, the choices measured.
"""

from importlib.metadata import version
from typing import Any

import optuna
import torch
from torch import nn

from benchmarks.plain_data import scaled
from benchmarks.plain_loop import (
    Plain,
    Report,
    accuracy,
    ask_and_tell,
    autocast,
    averaged,
    rate_factor,
    teacher_of,
)
from benchmarks.task import Task
from trainers.engine.modes import LAYOUTS
from trainers.model import set_layout

try:
    from torchdistill.core.distillation import DistillationBox, get_distillation_box
    from torchdistill.losses import mid_level as _losses  # registers KDLoss
    from torchdistill.optim.registry import register_optimizer

    MISSING = ""
    VERSION = version("torchdistill")
except Exception as error:  # an optional peer: whatever hinders it is told in the table
    MISSING = f"torchdistill cannot be imported ({type(error).__name__}: {error})"
    VERSION = ""
else:
    assert _losses.KDLoss


def box_config(task: Task) -> dict[str, Any]:
    """What its users write as YAML."""
    recipe = task.recipe
    logits = {f"{who}_module_path": "." for who in ("student", "teacher")}
    outputs = {f"{who}_module_io": "output" for who in ("student", "teacher")}
    # alpha cross-entropy + (1 - alpha) T^2 KL: our loss.
    loss = logits | outputs | {"temperature": recipe.temperature, "alpha": 1 - task.share}
    optimizer = {"lr": recipe.lr, "momentum": recipe.momentum, "decay": recipe.weight_decay}
    return {
        "num_epochs": recipe.epochs,
        # By default it would call the networks with the labels, too.
        "teacher": {"requires_grad": False, "forward_proc": "forward_batch_only"},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "sgd_sparing_norms", "kwargs": optimizer},
        "scheduler": {
            "key": "LambdaLR",
            "kwargs": {"lr_lambda": rate_factor(task)},
            "scheduling_step": 1,  # after every batch
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {
                "sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": loss}, "weight": 1}}
            },
        },
    }


def _sgd(
    parameters: list[nn.Parameter], lr: float, momentum: float, decay: float
) -> torch.optim.SGD:
    """Weight decay spares biases and norms: its `module_wise_configs` cannot say so."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=True)


class Box:
    """Trials of torchdistill, with the loaders and the choices of the plain loop."""

    def __init__(self, plain: Plain) -> None:
        register_optimizer(key="sgd_sparing_norms")(_sgd)
        self.plain, self.task = plain, plain.task
        self.study = optuna.create_study(direction="maximize")

    def warm_up(self) -> None:
        """A few batches that are not timed."""
        with self.plain.settings():
            box, _ = self.begun(0)
            self.epoch(box, None, self.plain.loaders.sample, 0)

    def trial(self, seed: int) -> float:
        """One trial of a study of its own: final validation accuracy."""
        return ask_and_tell(self.study, lambda report: self.train(seed, report))

    def begun(self, seed: int) -> tuple["DistillationBox", nn.Module]:
        task, choices = self.task, self.plain.choices
        torch.manual_seed(seed)
        layout = LAYOUTS[choices.layout]
        student = set_layout(task.student(seed).to(task.device), layout)
        box = get_distillation_box(
            teacher_of(task, choices),
            student,
            {},  # data sets: it would make new loaders, and their processes, for every trial
            box_config(task),
            task.device,
            None,
            False,
            1.0,
        )
        return box, student

    def train(self, seed: int, report: Report) -> float:
        task, choices, loaders = self.task, self.plain.choices, self.plain.loaders
        last = 0.0
        with self.plain.settings():
            box, student = self.begun(seed)
            average = averaged(student, task.recipe.ema) if task.recipe.ema else None
            for epoch in range(box.num_epochs):
                self.epoch(box, average, loaders.train, epoch)
                shipped = student if average is None else average.module
                last = accuracy(shipped, task, choices, loaders.validation)
                report(last, epoch + 1)
        return last

    def epoch(self, box: "DistillationBox", average: Any, loader: Any, epoch: int) -> None:
        box.pre_epoch_process(epoch=epoch)
        for images_NCHW, labels_N in loader:
            views_NCHW = scaled(images_NCHW, self.task.device)
            labels_N = labels_N.to(self.task.device, non_blocking=True)
            with autocast(self.task, self.plain.choices):
                loss = box.forward_process(views_NCHW, labels_N)
            box.post_forward_process(loss=loss)
            if average is not None:
                average.update_parameters(box.student_model)
        box.post_epoch_process()
