"""Augmentation policies: what may happen to an image, as pure data."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from space.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

PADDINGS = ("reflection", "border", "zeros")
UNCHANGED = {"cutmix": 0.0, "mix_probability": 1.0}  # later settings, as it was without them


@dataclass(frozen=True, slots=True, kw_only=True)
class Augment:
    """Ranges that an image's draws come from; the defaults change nothing."""

    scale_min: float = 1.0  # smallest area of the crop, share of the image; 1: no crop
    ratio_max: float = 1.0  # largest aspect of the crop, long side / short side, where it fits
    shift: float = 0.0  # largest shift of the crop, share of the image's side
    flip: float = 0.0  # probability of a horizontal flip
    rotation: float = 0.0  # largest rotation, degrees either way
    brightness: float = 0.0  # largest relative change, e.g. 0.3: a factor of 0.7 to 1.3
    contrast: float = 0.0  # the same, about the view's mean grey level
    saturation: float = 0.0  # the same, about each pixel's grey level
    mixup: float = 0.0  # alpha of the weight's distribution Beta(alpha, alpha); 0: off
    cutmix: float = 0.0  # the same, of the share of an image that a pasted box leaves
    mix_probability: float = 1.0  # that an image is mixed at all, by mixup or CutMix
    # What lies outside the image: mirrored, its edge drawn out, or black. Mirrored is right for
    # photographs: black corners would tell the draw, and a drawn-out edge looks like nothing real.
    padding: str = "reflection"

    def check(self) -> None:
        """Raise InputError for a setting outside its rule."""
        _in("scale_min", self.scale_min, 0.01, 1)
        _in("ratio_max", self.ratio_max, 1, 10)
        _in("shift", self.shift, 0, 0.5)
        _in("flip", self.flip, 0, 1)
        _in("rotation", self.rotation, 0, 180)
        _in("brightness", self.brightness, 0, 1)
        _in("contrast", self.contrast, 0, 1)
        _in("saturation", self.saturation, 0, 1)
        _in("mixup", self.mixup, 0, 100)
        _in("cutmix", self.cutmix, 0, 100)
        _in("mix_probability", self.mix_probability, 0, 1)
        if self.padding not in PADDINGS:
            raise InputError(
                f"augment: padding must be one of {', '.join(PADDINGS)}, but got {self.padding!r}"
            )

    def to_dict(self) -> dict[str, object]:
        """JSON data; equal policies give equal text (1 and 1.0 too).

        Every setting is written out, but for those that version 0.1 did not have, at the values
        that change nothing: its recipes keep their fingerprints, and its banks are found.
        """
        return written(self, UNCHANGED)

    @property
    def mixes(self) -> bool:
        """Whether a view may show two images."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def moves(self) -> bool:
        """Whether pixels change their places."""
        return self.scale_min < 1 or self.shift > 0 or self.flip > 0 or self.rotation > 0

    @property
    def colors(self) -> bool:
        """Whether pixels change their values."""
        return self.brightness > 0 or self.contrast > 0 or self.saturation > 0


POLICIES: dict[str, Augment] = {
    "none": Augment(),
    "light": Augment(
        scale_min=0.7, ratio_max=1.2, flip=0.5, brightness=0.1, contrast=0.1, saturation=0.1
    ),
    "standard": Augment(
        scale_min=0.4,
        ratio_max=4 / 3,
        flip=0.5,
        rotation=15,
        brightness=0.3,
        contrast=0.3,
        saturation=0.3,
    ),
    # A mirrored digit is not a digit, and the background is black.
    "digits": Augment(shift=0.1, rotation=10, padding="zeros"),
}


def names_of_floats(settings: "DataclassInstance") -> tuple[str, ...]:
    return tuple(f.name for f in fields(settings) if f.type is float)


def written(settings: "DataclassInstance", unchanged: Mapping[str, object]) -> dict[str, object]:
    """Settings as JSON data, 1 as 1.0 where it is a number with a point.

    Args:
        unchanged: later settings, which are left out at these values.
    """
    floats = {name: float(getattr(settings, name)) for name in names_of_floats(settings)}
    whole = asdict(settings) | floats
    return {name: value for name, value in whole.items() if unchanged.get(name) != value}


def _in(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InputError(f"augment: {name} must be from {low} to {high}, but got {value!r}")
