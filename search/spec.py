"""What a study is about: all that two runs of one study must agree on."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from space.budget import Budget
from space.errors import InputError
from space.families import Family, family
from space.storage import Card
from trainers.model import normalisation
from trainers.recipe import Recipe

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A study's settings, stored with it; a resume needs nothing else."""

    space: str
    compressed_stem: bool
    budget: Budget
    multiple: int  # of every width
    recipe: Recipe
    sampler: str
    pruner: str
    seed: int  # of the sampler
    source: str  # of the data: "digits" or a folder; may move
    data: str  # fingerprint
    classes: tuple[str, ...]
    channels: int
    size: int  # pixels
    teacher: str  # hash of its weights; empty without a teacher
    version: str  # of DistilNAS

    @property
    def family(self) -> Family:
        return family(self.space, size=self.size, compressed_stem=self.compressed_stem)

    @property
    def card(self) -> Card:
        """What every student's file says beside its weights."""
        mean, std = normalisation(self.channels)
        return Card(
            classes=self.classes,
            size=self.size,
            mean=mean,
            std=std,
            recipe=self.recipe.fingerprint,
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"schema": SCHEMA, "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Spec":
        """Read `to_dict`'s data back; InputError where another version wrote it."""
        given = dict(data)
        if given.pop("schema", None) != SCHEMA:
            raise InputError("this study was made by another version of DistilNAS; use that one")
        given["budget"] = Budget(**given["budget"])
        given["recipe"] = Recipe.from_dict(given["recipe"])
        given["classes"] = tuple(given["classes"])
        return cls(**given)

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of everything that results depend on."""
        text = json.dumps(dict(self.compared()), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def compared(self) -> Iterator[tuple[str, Any]]:
        """Settings that must stay the same within a study, flat: `recipe.epochs` and so on."""
        for name, value in _flat(json.loads(json.dumps(self.to_dict()))):
            if name not in ("source", "version"):
                yield name, value

    def differences(self, other: "Spec") -> list[str]:
        """`setting: this study has A, but got B` for each setting that differs."""
        mine, others = dict(self.compared()), dict(other.compared())
        return [
            f"{name}: the study has {mine.get(name)!r}, but got {others.get(name)!r}"
            for name in sorted(mine.keys() | others.keys())
            if mine.get(name) != others.get(name)
        ]


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
