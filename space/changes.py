"""Changes of a shape by name, `groups` or `late_block`: what an ablation varies.

A change acts on the shape, never on the widths that a budget was filled with: those are solved
again, or the change would be bought with bytes.
"""

import math
import re
from collections.abc import Callable
from dataclasses import fields, replace

from space.architecture import MAX_WIDTH, Architecture, Head, Stage, check_settings
from space.errors import InputError, require, shown
from space.schema import read, typed
from space.solver import steps

SETTINGS = tuple(f.name for f in fields(Stage) if f.name not in ("width", "stride"))
TYPES = {f.name: f.type for f in fields(Stage)}
SCOPES = ("", "early_", "late_", "stem_", "stage1_", "stage2_ ...")  # as messages show them
NAME = re.compile(r"(?:(early|late|stem|stage([0-9]+))_)?(.+)")
STEM, PROFILE = "stem", "profile"  # the stem's block; widths relative to each other
PYRAMID = "pyramid"  # which of stem and stages halve the image
SMALLEST_STEP = 4  # channels, that widths of a growth are rounded to


def is_change(name: str) -> bool:
    """Whether `change` knows the name, for some number of stages."""
    match = NAME.fullmatch(name)
    return name in (STEM, PROFILE, PYRAMID) or (match is not None and match[3] in SETTINGS)


def change(shape: Architecture, name: str, value: object) -> Architecture:
    """The shape with one setting changed in all stages, or where the name's scope says.

    `early_` are the stages of the first half, `late_` the others, `stage2_` is one of them,
    `stem_` the stem. Without a scope the stem keeps its own, but for the activation, which the
    whole network shares. `stem` is the stem's block; `profile` the growth of the widths from stage
    to stage, or the widths of stem and stages themselves. `pyramid` is the list of those that halve
    the image: 0 for the stem, 1 for the first stage.

    Raises:
        InputError: unknown name, no such stage, or a value of another type.
    """
    if name == PROFILE:
        return _with_profile(shape, value)
    if name == PYRAMID:
        return _with_pyramid(shape, value)
    match = NAME.fullmatch("stem_block" if name == STEM else name)
    if match is None or match[3] not in SETTINGS:
        raise InputError(f"unknown setting {shown(name)}; known: {', '.join(known())}")
    scope, setting = match[1] or "", match[3]
    typed(TYPES[setting], value, name)
    if scope.startswith("stage") and scope not in _numbered(shape):
        raise InputError(f"{shown(name)}: the network has stages 1 to {len(shape.stages)}")
    changed = _map(
        shape,
        lambda index, stage: (
            read(Stage, {setting: value}, name, over=stage)
            if _is_within(index, scope, setting, len(shape.stages))
            else stage
        ),
    )
    for index, stage in enumerate((changed.stem, *changed.stages)):
        check_settings(f"stage {index}" if index else "stem", stage)
    if setting == "activation" and not scope and changed.head != Head():
        head = read(Head, {setting: value}, name, over=changed.head)
        changed = replace(changed, head=head)
    return changed


def known() -> tuple[str, ...]:
    """Names for people: the settings once, then their scopes."""
    return (*SETTINGS, STEM, PROFILE, PYRAMID, "and with a scope " + ", ".join(SCOPES[1:]))


def relative(shape: Architecture) -> Architecture:
    """The shape at widths that its group counts divide, in the same ratio; for the solver.

    Exactly the same where the widths, times the least common multiple of all groups, are at most
    MAX_WIDTH; else as near as rounding comes.
    """
    own = [step for step in steps(shape, 1) if step]  # what each width must be a multiple of
    scale = min(math.lcm(*own), MAX_WIDTH / max(shape.widths))
    widths = zip(shape.widths, own, strict=True)
    return shape.with_widths(tuple(max(1, int(w * scale / step)) * step for w, step in widths))


def _numbered(shape: Architecture) -> list[str]:
    return [f"stage{index}" for index in range(1, len(shape.stages) + 1)]


def _is_within(index: int, scope: str, setting: str, stages: int) -> bool:
    """Whether a setting of that scope means the stage at that place; place 0: the stem."""
    if scope == "":
        return index > 0 or setting == "activation"
    half = (stages + 1) // 2
    return {
        "stem": index == 0,
        "early": 0 < index <= half,
        "late": index > half,
    }.get(scope, scope == f"stage{index}")


def _map(shape: Architecture, changed: Callable[[int, Stage], Stage]) -> Architecture:
    stages = tuple(changed(index, stage) for index, stage in enumerate(shape.stages, 1))
    return replace(shape, stem=changed(0, shape.stem), stages=stages)


def _with_pyramid(shape: Architecture, value: object) -> Architecture:
    count = len(shape.stages)
    halved = value if isinstance(value, list | tuple) else None
    valid = halved is not None and all(type(x) is int and 0 <= x <= count for x in halved)
    rule = f"a list of what halves the image: 0 for the stem, 1 to {count} for stages"
    require(PYRAMID, value, valid and len(set(halved or ())) == len(halved or ()), rule)
    return _map(shape, lambda i, stage: replace(stage, stride=2 if i in (halved or ()) else 1))


def _with_profile(shape: Architecture, value: object) -> Architecture:
    count = 1 + len(shape.stages)
    rule = f"a growth from 0.1 to 10, or {count} widths from 1 to {MAX_WIDTH:,}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        require(PROFILE, value, 0.1 <= value <= 10, rule)
        steps = shape.stem.width / SMALLEST_STEP
        widths = [SMALLEST_STEP * max(1, round(steps * value**k)) for k in range(count)]
        require(PROFILE, value, max(widths) <= MAX_WIDTH, rule)
    else:
        listed = value if isinstance(value, list | tuple) else ()
        widths = [w for w in listed if type(w) is int and 1 <= w <= MAX_WIDTH]
        require(PROFILE, value, len(widths) == len(listed) == count, rule)
    head = (shape.head.width,) if shape.head.width else ()
    return shape.with_widths((*widths, *head))
