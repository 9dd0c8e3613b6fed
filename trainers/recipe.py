"""Recipe: every training hyperparameter, with its unit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from space.errors import InputError, require, require_one_of
from space.file_format import RECIPE_DIGITS
from space.fingerprint import fingerprint
from space.schema import Table, read
from trainers.policies import POLICIES, Augment, names_of_floats, written
from trainers.schedules import SCHEDULES, soft_share

LOSS_OWN = ("beta", "soft_warmup")  # settings that matter to some losses alone
UNCHANGED = {"beta": 8.0, "soft_warmup": 0.0, "views": 0}  # later settings, as it was without them
PRECISIONS = ("auto", "fp32", "bf16")
OPTIMIZERS = ("sgd", "adam", "adamw")
MIX, SWITCH = "mix", "switch"  # of the phases: soft share; when it becomes hard only, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """A soft loss as its authors run it: what a recipe gets that names the loss."""

    temperature: float
    share: float  # of the soft loss, the rest being cross-entropy's
    soft_warmup: float = 0.0  # as of a recipe
    beta: float = 8.0  # as of a recipe


# `trainers.losses` has the equations. Published weights a of cross-entropy and b of the soft loss
# are the share b / (a + b): their sum is a factor of the learning rate.
LOSS_SETTINGS: dict[str, LossSettings] = {
    # 0.1 and 0.9, T = 4: mdistiller's (the code of DKD's authors) for Hinton's KD
    "kd": LossSettings(temperature=4.0, share=0.9),
    # 0.1 and 9, T = 2 (arXiv:2403.01427, its authors' settings over KD)
    "kd-standardised": LossSettings(temperature=2.0, share=9 / 9.1),
    # 1 and 1, beta 2 for students as small as a ResNet20 and 8 for larger ones, T = 4, a warm-up of
    # 20 of 240 epochs (arXiv:2203.08679, mdistiller)
    "dkd": LossSettings(temperature=4.0, share=0.5, soft_warmup=20 / 240, beta=2.0),
    # 1 and 1, with beta = gamma = 2 inside the loss, T = 4 on CIFAR (arXiv:2205.10536)
    "dist": LossSettings(temperature=4.0, share=0.5),
    # 1 and 45, exponent 1 / T = 0.1 (arXiv:2402.11148, the example of its authors' code)
    "wttm": LossSettings(temperature=10.0, share=45 / 46),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a network is taught. Phases and warm-up are shares of training, so they scale."""

    epochs: int = 30
    batch: int = 64  # images
    optimizer: str = "sgd"
    lr: float = 0.1  # at the start, after the warm-up
    lr_end: float = 0.001
    schedule: str = "cosine"
    warmup: float = 0.05  # share of training
    momentum: float = 0.9  # of SGD, with Nesterov's correction
    weight_decay: float = 5e-4  # on weights of convolutions and linear layers only
    loss: str = "kd"  # the soft loss; a table that names it gets its published settings
    temperature: float = 4.0
    beta: float = 8.0  # of dkd: weight of the classes beside the label's
    soft_warmup: float = 0.0  # share of training over which the soft loss rises from 0
    # (from share of training, soft share)
    phases: tuple[tuple[float, float], ...] = field(
        default=((0.0, 0.5),), metadata={"words": "pairs of numbers [begin, soft share]"}
    )
    label_smoothing: float = 0.0
    ema: float = 0.0  # decay a step of the averaged weights; 0: off
    bn_batches: int = 8  # batches that batch norm is recalibrated on before each evaluation
    clip: float = 0.0  # largest gradient norm; 0: off
    augment: Augment = field(default_factory=lambda: POLICIES["standard"])
    precision: str = "auto"  # fp32, bf16, or the faster one where the hardware has both
    seed: int = 0  # of initial weights and of the order of images
    view_seed: int = 0  # of the views; trials that share it share the bank of teacher logits
    views: int = 0  # epochs of different views, taken in turn; 0: every epoch has its own

    def check(self) -> None:
        """Raise InputError for a setting outside its rule."""
        require_one_of("optimizer", self.optimizer, OPTIMIZERS)
        require_one_of("schedule", self.schedule, SCHEDULES)
        require_one_of("loss", self.loss, LOSS_SETTINGS)
        require_one_of("precision", self.precision, PRECISIONS)
        require("epochs", self.epochs, self.epochs >= 1, "at least 1")
        require("batch", self.batch, self.batch >= 2, "at least 2 images, for batch norm")
        for name in names_of_floats(self):
            require(name, getattr(self, name), math.isfinite(getattr(self, name)), "finite")
        require("lr", self.lr, self.lr > 0, "above 0")
        require("lr_end", self.lr_end, 0 <= self.lr_end <= self.lr, "from 0 to lr")
        if self.schedule == "step":
            require("lr_end", self.lr_end, self.lr_end > 0, "above 0, or a step never trains")
        require("warmup", self.warmup, 0 <= self.warmup < 1, "from 0 to below 1")
        require("momentum", self.momentum, 0 <= self.momentum < 1, "from 0 to below 1")
        require("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        require("temperature", self.temperature, self.temperature > 0, "above 0")
        require("beta", self.beta, self.beta >= 0, "at least 0")
        require("soft_warmup", self.soft_warmup, 0 <= self.soft_warmup < 1, "from 0 to below 1")
        require("views", self.views, self.views >= 0, "at least 0 epochs")
        require("label_smoothing", self.label_smoothing, 0 <= self.label_smoothing < 1, "in [0, 1)")
        require("ema", self.ema, 0 <= self.ema < 1, "from 0 to below 1")
        require("bn_batches", self.bn_batches, self.bn_batches >= 1, "at least 1")
        require("clip", self.clip, self.clip >= 0, "at least 0")
        begins = [begin for begin, _ in self.phases]
        rule = "pairs [begin, soft share], both from 0 to 1, the first at 0, ascending"
        valid = all(0 <= value <= 1 for phase in self.phases for value in phase)
        require(
            "phases", self.phases, begins[:1] == [0] and begins == sorted(begins) and valid, rule
        )
        self.augment.check()

    @property
    def needs_teacher(self) -> bool:
        return any(share > 0 for _, share in self.phases)

    def hears_teacher(self, epoch: int) -> bool:
        """Whether any step of an epoch, counted from 0, may have a soft share."""
        begin, end = epoch / self.epochs, (epoch + 1) / self.epochs
        later = [share for at, share in self.phases if begin < at < end]
        return soft_share(self.phases, begin) > 0 or any(share > 0 for share in later)

    @property
    def heard_views(self) -> list[int]:
        """The epochs of views that the teacher is asked about, each once."""
        heard = (epoch for epoch in range(self.epochs) if self.hears_teacher(epoch))
        return sorted({self.view_epoch(epoch) for epoch in heard})

    def view_epoch(self, epoch: int) -> int:
        """The epoch whose views are seen in an epoch, both counted from 0."""
        return epoch % self.views if self.views else epoch

    def to_dict(self) -> dict[str, object]:
        """JSON data; equal recipes give equal text (1 and 1.0 too).

        Every setting is written out, but for those that version 0.1 did not have, at the values
        that change nothing: its recipes keep their fingerprints.
        """
        return {
            **written(self, UNCHANGED),
            "phases": [[float(begin), float(share)] for begin, share in self.phases],
            "augment": self.augment.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: Table) -> "Recipe":
        """Read `to_dict`'s data back; settings that are missing keep their defaults."""
        return Recipe()._changed(data)

    def with_settings(self, settings: Table) -> "Recipe":
        """A copy with some settings changed.

        A loss brings the settings that its authors published (`LOSS_SETTINGS`), where others are
        not among these.

        Raises:
            InputError: unknown setting, another type, or a value outside its rule.
        """
        published = LOSS_SETTINGS.get(str(settings.get("loss")))
        if published is None:
            return self._changed(settings)
        brought = {name: getattr(published, name) for name in ("temperature", *LOSS_OWN)}
        recipe = self._changed({**brought, **settings})
        return recipe if "phases" in settings else recipe.with_phases(published.share, None)

    def _changed(self, settings: Table) -> "Recipe":
        """A copy with these settings changed, and no other."""
        changes = dict(settings)
        if "augment" in changes:
            changes["augment"] = _augment(changes["augment"], self.augment)
        recipe = read(Recipe, changes, "recipe", over=self)
        recipe.check()
        return recipe

    def with_phases(self, mix: object, switch: object) -> "Recipe":
        """A copy with another soft share, or another point from which on labels alone count.

        Args:
            mix: the soft share, 0 to 1, of all phases that have one; None leaves it.
            switch: share of training, above 0 up to 1; None leaves it.

        Raises:
            InputError: a value outside its rule, or no soft share before the switch.
        """
        recipe = self
        if mix is not None:
            require(MIX, mix, type(mix) in (int, float), "a number")
            phases = [[begin, mix if share else share] for begin, share in recipe.phases]
            recipe = recipe._changed({"phases": phases})
        if switch is not None:
            valid = isinstance(switch, float | int) and switch is not True and 0 < switch <= 1
            require(SWITCH, switch, valid, "above 0, up to 1")
            assert isinstance(switch, float | int), "as was required"
            begun = [(begin, share) for begin, share in recipe.phases if begin < switch]
            if not any(share for _, share in begun):
                raise InputError(
                    f"switch {switch:g} needs a soft share before it, but there is none"
                )
            while len(begun) > 1 and not begun[-1][1]:
                begun.pop()
            ended = [(float(switch), 0.0)] if switch < 1 else []
            recipe = recipe._changed({"phases": [*begun, *ended]})
        return recipe

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits, equal for equal recipes."""
        return fingerprint(self.to_dict(), digits=RECIPE_DIGITS)


MOSTLY_SOFT = ((0.0, LOSS_SETTINGS["kd"].share),)
SOFT_AND_HARD = ((0.0, 0.5),)
SOFT_ONLY = ((0.0, 1.0),)
HARD_ONLY = ((0.0, 0.0),)

RECIPES: dict[str, Recipe] = {
    # One-cycle SGD with averaged weights: what short searches use.
    "default": Recipe(ema=0.99, phases=MOSTLY_SOFT),
    # No labels, the same mixed views for teacher and student, a long time: Beyer et al., "Knowledge
    # distillation: A good teacher is patient and consistent", arXiv:2106.05237 (Food-101's T = 5).
    "patient": Recipe(
        epochs=300,
        ema=0.99,
        temperature=5.0,
        phases=SOFT_ONLY,
        clip=1.0,
        augment=replace(POLICIES["standard"], mixup=1.0),
    ),
    # The two recipes of the course report, its temperature being the course's 20.
    "report-sgd": Recipe(
        epochs=400,
        lr=0.1,
        lr_end=0.01,
        schedule="linear",
        warmup=0.0,
        weight_decay=0.0,
        temperature=20.0,
        phases=((0.0, 0.5), (0.625, 0.0)),  # soft + hard for epochs 1 to 250 of 400
    ),
    "report-adam": Recipe(
        epochs=100,
        optimizer="adam",
        lr=1e-3,
        lr_end=1e-3,
        schedule="constant",
        warmup=0.0,
        weight_decay=0.0,
        temperature=20.0,
        phases=SOFT_AND_HARD,
    ),
    "digits": Recipe(
        epochs=20, lr=0.2, ema=0.95, batch=64, augment=POLICIES["digits"], phases=SOFT_AND_HARD
    ),
    # Without label smoothing, which takes from a teacher's answers what a student learns from
    # (arXiv:1906.02629, arXiv:2206.14532).
    "teacher-scratch": Recipe(epochs=30, lr=0.03, phases=HARD_ONLY, ema=0.99),
    "teacher-finetune": Recipe(
        epochs=15, lr=0.01, lr_end=1e-5, weight_decay=1e-4, phases=HARD_ONLY
    ),
    "teacher-digits": Recipe(epochs=12, lr=0.1, phases=HARD_ONLY, augment=POLICIES["digits"]),
}


def recipe(name: str) -> Recipe:
    """A named recipe; InputError lists the valid names."""
    require_one_of("recipe", name, RECIPES)
    return RECIPES[name]


def _augment(value: object, before: Augment) -> Augment:
    """A policy's name, or settings over those of `before`."""
    if isinstance(value, Augment):
        return value
    if isinstance(value, str):
        require_one_of("augment", value, POLICIES)
        return POLICIES[value]
    rule = "a policy's name or a table of settings"
    require("augment", value, isinstance(value, Mapping), rule)
    return read(Augment, value, "augment", over=before)
