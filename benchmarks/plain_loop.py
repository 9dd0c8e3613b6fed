"""The loop that a careful user writes: a folder data set, a DataLoader, a live teacher, Optuna.

It is written to be fast: as many persistent loader processes as cores, draft decoding, uint8
across the processes, a fused optimiser, no synchronisation within an epoch, loaders that are
kept from trial to trial. Which transforms (on PIL images or on tensors), threads, memory layout
and precision it uses is measured on the spot (`Plain.tune`). It does not decode once, keep the
teacher's answers or train students side by side: that is what is compared.

Shape suffixes: N images, C channels, H x W pixels, K classes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import optuna
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel

from benchmarks.plain_data import Loader, Loaders, make_loaders, scaled
from benchmarks.task import Task, threads
from trainers.engine.modes import LAYOUTS, has_bfloat16
from trainers.engine.steps import make_optimizer
from trainers.model import set_layout
from trainers.schedules import learning_rate

TUNING_PASSES = 3  # the least of them counts
GAIN = 1.03  # what another choice must be faster by

Report = Callable[[float, int], None]  # accuracy, epoch from 1


class Choices(NamedTuple):
    """What a user would try out on the machine."""

    transforms: str = "pil"  # or "tensor"
    threads: int = 1
    layout: str = "contiguous"
    bf16: bool = False

    @property
    def words(self) -> str:
        precision = "bf16" if self.bf16 else "fp32"
        return f"v2 on {self.transforms}, {self.threads} threads, {self.layout}, {precision}"


def kd_loss(
    logits_NK: torch.Tensor,
    teacher_NK: torch.Tensor,
    labels_N: torch.Tensor,
    temperature: float,
    share: float,
) -> torch.Tensor:
    """(1 - share) cross-entropy + share T^2 KL, means over the batch."""
    soft = F.kl_div(
        F.log_softmax(logits_NK.float() / temperature, 1),
        F.log_softmax(teacher_NK.float() / temperature, 1),
        reduction="batchmean",
        log_target=True,
    )
    hard = F.cross_entropy(logits_NK.float(), labels_N)
    return (1 - share) * hard + share * temperature**2 * soft


def rate_factor(task: Task) -> Callable[[int], float]:
    """For LambdaLR: the same warm-up and cosine as ours, step by step."""
    recipe = task.recipe

    def factor(step: int) -> float:
        rate = learning_rate(
            recipe.schedule,
            min(1.0, step / task.steps),
            start=recipe.lr,
            end=recipe.lr_end,
            warmup=recipe.warmup,
        )
        return rate / recipe.lr

    return factor


def averaged(model: nn.Module, decay: float) -> AveragedModel:
    """EMA of weights and batch norm statistics, its decay warmed up as ours is."""

    def update(averages: Any, currents: Any, _: Any) -> None:
        done = int(average.n_averaged)  # on the CPU: nothing waits for the GPU
        if averages[0].is_floating_point():
            weight = 1 - min(decay, (1 + done) / (10 + done))
            torch._foreach_lerp_(averages, currents, weight)
        else:  # batch norm's counters
            torch._foreach_copy_(averages, currents)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average


def autocast(task: Task, choices: Choices) -> torch.autocast:
    return torch.autocast(task.device.type, torch.bfloat16, enabled=choices.bf16)


@torch.no_grad()
def accuracy(model: nn.Module, task: Task, choices: Choices, loader: Loader) -> float:
    """On the validation photographs, decoded anew: a folder data set has nowhere to keep them."""
    model.eval()
    right = torch.zeros((), dtype=torch.int64, device=task.device)
    for images_NCHW, labels_N in loader:
        with autocast(task, choices):
            logits_NK = model(scaled(images_NCHW, task.device))
        right += (logits_NK.argmax(1) == labels_N.to(task.device, non_blocking=True)).sum()
    return right.item() / len(task.validation.paths)


@contextmanager
def fast_convolutions() -> Iterator[None]:
    """What a careful user sets on a GPU for batches of one shape; our engine goes without."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class Plain:
    """The loop, the choices that were measured for it, and the loaders that it keeps."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.choices = Choices(threads=task.cores)
        self.kept: dict[str, Loaders] = {}
        self.study = optuna.create_study(direction="maximize")  # in memory

    @property
    def loaders(self) -> Loaders:
        kind = self.choices.transforms
        if kind not in self.kept:
            self.kept[kind] = make_loaders(self.task, kind)
        return self.kept[kind]

    @contextmanager
    def settings(self) -> Iterator[None]:
        with threads(self.choices.threads), fast_convolutions():
            yield

    def tune(self, tell: Callable[[str], None]) -> None:
        """Keep every choice that is faster here, one after the other."""
        task = self.task
        changes: list[dict[str, Any]] = [{"transforms": "tensor"}]
        if task.device.type == "cpu":
            # The loader's processes want cores too.
            changes += [{"threads": n} for n in {max(1, task.cores // 2)} - {task.cores}]
        changes.append({"layout": "channels_last"})
        if has_bfloat16(task.device):
            changes.append({"bf16": True})
        least = self.seconds_an_image()
        tell(f"plain: {1e3 * least:.2f} ms an image with {self.choices.words}")
        for change in changes:
            before = self.choices
            self.choices = before._replace(**change)
            taken = self.seconds_an_image()
            tell(f"plain: {1e3 * taken:.2f} ms an image with {self.choices.words}")
            if taken * GAIN < least:
                least = taken
            else:
                self.choices = before
        for kind in self.kept.keys() - {self.choices.transforms}:
            del self.kept[kind]  # ends its processes

    def seconds_an_image(self) -> float:
        """Of a few batches with the present choices; the first passes make room, and warm up."""
        taken = []
        with self.settings():
            run = Training(self.task, self.choices, seed=0)
            for _ in range(TUNING_PASSES):
                began = time.perf_counter()
                run.epoch(self.loaders.sample)
                taken.append(time.perf_counter() - began)
        images: Any = self.loaders.sample.dataset
        return float(min(taken) / len(images))

    def warm_up(self) -> None:
        """An epoch that is not timed, as ours has: it also starts the loaders' processes."""
        with self.settings():
            run = Training(self.task, self.choices, seed=0)
            run.epoch(self.loaders.train)
            accuracy(run.shipped, self.task, self.choices, self.loaders.validation)

    def trial(self, seed: int) -> float:
        """One trial of the study: final validation accuracy."""
        return ask_and_tell(self.study, lambda report: self.train(seed, report))

    def train(self, seed: int, report: Report) -> float:
        last = math.nan
        with self.settings():
            run = Training(self.task, self.choices, seed)
            for epoch in range(self.task.recipe.epochs):
                run.epoch(self.loaders.train)
                last = accuracy(run.shipped, self.task, self.choices, self.loaders.validation)
                report(last, epoch + 1)
        return last


class Training:
    """One student, eager."""

    def __init__(self, task: Task, choices: Choices, seed: int) -> None:
        self.task, self.choices = task, choices
        torch.manual_seed(seed)  # the loader's order and views, too
        self.teacher = teacher_of(task, choices)
        layout = LAYOUTS[choices.layout]
        self.student = set_layout(task.student(seed).to(task.device), layout)
        self.optimizer = make_optimizer(self.student, task.recipe, task.recipe.lr)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate_factor(task))
        decay = task.recipe.ema
        self.average = averaged(self.student, decay) if decay else None

    @property
    def shipped(self) -> nn.Module:
        return self.student if self.average is None else self.average.module

    def epoch(self, loader: Loader) -> float:
        """Mean training loss of one pass."""
        task, recipe = self.task, self.task.recipe
        self.student.train()
        losses = []
        for images_NCHW, labels_N in loader:
            views_NCHW = scaled(images_NCHW, task.device)
            labels_N = labels_N.to(task.device, non_blocking=True)
            with autocast(task, self.choices):
                with torch.no_grad():
                    teacher_NK = self.teacher(views_NCHW)
                logits_NK = self.student(views_NCHW)
                loss = kd_loss(logits_NK, teacher_NK, labels_N, recipe.temperature, task.share)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.scheduler.step()
            if self.average is not None:
                self.average.update_parameters(self.student)
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()


def teacher_of(task: Task, choices: Choices) -> nn.Module:
    """On the device, in evaluation mode, in the layout of the student."""
    teacher = set_layout(task.teacher.model.to(task.device), LAYOUTS[choices.layout])
    return teacher.requires_grad_(False).eval()


def ask_and_tell(study: optuna.Study, train: Callable[[Report], float]) -> float:
    """A trial around a training; nothing is suggested, as the network is given, or pruned."""
    trial = study.ask()
    value = train(trial.report)
    study.tell(trial, value)
    return value
