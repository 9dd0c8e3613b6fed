"""Plans of ablations, without training: arms by name, all of one tiny student."""

from collections.abc import Mapping
from dataclasses import fields
from itertools import product
from typing import Any

from tiny import ARCHITECTURE, CLASSES, RECIPE, SIZE

from search.study.plan import AblationSpec, Arm

IMAGES = 400  # of validation: a step is a quarter of a point


def plan_of(arms: Mapping[str, Mapping[str, str]], **settings: Any) -> AblationSpec:
    """A plan; the first arm is the baseline.

    Args:
        arms: name -> factor -> level.
        settings: fields of the plan that differ.
    """
    known: dict[str, Any] = {
        "source": "tried",
        "data": "0" * 12,
        "classes": CLASSES,
        "channels": 1,
        "size": SIZE,
        "version": "0",
        "question": "does it help?",
        "design": "arms",
        "size_matched": True,
        "budget": "20 KB",
        "shared_views": False,
        "unlabelled": "",
        "unlabelled_source": "",
        "factors": {},
        "arms": tuple(arm_of(name, levels) for name, levels in arms.items()),
        "baseline": next(iter(arms)),
        "validation": IMAGES,
        "taught": {},
        "described": {},
        "published": {},
    }
    assert {field.name for field in fields(AblationSpec)} == known.keys()
    return AblationSpec(**(known | settings))


def arm_of(name: str, levels: Mapping[str, str]) -> Arm:
    return Arm(
        name=name,
        levels=levels,
        architecture=ARCHITECTURE,
        recipe=RECIPE,
        format="int8",
        teacher=None,
        budget_share=1.0,
    )


def stated(*arms: str, **settings: Any) -> AblationSpec:
    return plan_of({arm: {} for arm in arms}, **settings)


def crossed(factors: Mapping[str, Any]) -> list[dict[str, str]]:
    """All combinations of the factors' levels."""
    return [dict(zip(factors, levels, strict=True)) for levels in product(*factors.values())]
