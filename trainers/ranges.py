"""What of a recipe is searched: ranges of its numbers, and lists of its choices.

The storage format may be among them. Each trial of a search draws its own values, beside its
architecture. Names are those of an ablation's factors: `lr`, `mix`, `augment.flip`.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import combinations, product
from math import prod
from typing import Self

from space.errors import InputError, require, shown
from space.file_format import check_format
from space.schema import Table, as_table, read, typed
from trainers.policies import Augment
from trainers.recipe import MIX, SWITCH, Recipe

FORMAT, AUGMENT = "format", "augment"
MOST_VALUES = 16  # of a list: samplers learn little of more
KEPT = {  # settings of a recipe that are not searched, and why
    "epochs": "the pruner compares trials after the same epochs; choose them with --epochs",
    "seed": "the best of many seeds is luck; measure it with --finalists",
    "view_seed": "the teacher's logits would be computed for every value",
}
TAUGHT = ("loss", "temperature", "phases", MIX, SWITCH)  # settings that need a teacher

Value = int | float | str  # of a parameter, as a study stores it


def _numbers() -> dict[str, object]:
    """Settings that are numbers, with their types."""
    found: dict[str, object] = {f.name: f.type for f in fields(Recipe)}
    found |= {f"{AUGMENT}.{f.name}": f.type for f in fields(Augment)}
    found |= {MIX: float, SWITCH: float}
    return {name: kind for name, kind in found.items() if kind in (int, float)}


NUMBERS = _numbers()
KNOWN = (
    *(FORMAT, MIX, SWITCH),
    *(f.name for f in fields(Recipe) if f.name not in KEPT),
    *(f"{AUGMENT}.{f.name}" for f in fields(Augment)),
)


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both included."""

    low: int | float
    high: int | float
    log: bool = False  # as likely from 0.01 to 0.1 as from 0.1 to 1

    @property
    def ends(self) -> tuple[object, ...]:
        return self.low, self.high

    @property
    def stated(self) -> object:
        """As JSON and TOML have it."""
        return {"low": self.low, "high": self.high} | ({"log": True} if self.log else {})

    @property
    def words(self) -> str:
        return f"{self.low:g} to {self.high:g}" + (" (logarithmic)" if self.log else "")

    def meant(self, value: object) -> object:
        """The value that a trial's parameter stands for."""
        return value


@dataclass(frozen=True, slots=True)
class Choice:
    """Values, each once; tables and lists may be among them."""

    values: tuple[object, ...]

    @property
    def labels(self) -> tuple[Value, ...]:
        """The values as parameters: numbers and text, anything else as its JSON text."""
        return tuple(v if isinstance(v, int | float | str) else _json(v) for v in self.values)

    @property
    def ends(self) -> tuple[object, ...]:
        return self.values

    @property
    def stated(self) -> object:
        """As JSON and TOML have it."""
        return list(self.values)

    @property
    def words(self) -> str:
        *before, last = map(written, self.values)
        return f"{', '.join(before)} or {last}" if before else last

    def meant(self, value: object) -> object:
        """The value that a trial's parameter stands for."""
        return self.values[self.labels.index(value)]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Settings that are searched, by name; in the order of `KNOWN`, whatever was written first."""

    settings: Mapping[str, Range | Choice] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, data: Table) -> Self:
        """Read `[search]`: a range is a table `low`, `high`, `log`; a choice is a list.

        Settings of `augment` may stand in a table of their own.

        Raises:
            InputError: an unknown setting, one that is not searched, or no valid range or list.
        """
        given = dict(as_table(data, "search"))
        nested = given.get(AUGMENT)
        if isinstance(nested, Mapping):
            del given[AUGMENT]
            given |= {f"{AUGMENT}.{name}": value for name, value in nested.items()}
        for name in given:
            if name in KEPT:
                raise InputError(f"search: {name} cannot be searched: {KEPT[name]}")
            if name not in KNOWN:
                known = ", ".join(KNOWN)
                raise InputError(f"search: unknown setting {shown(name)}; known: {known}")
        return cls({name: _stated(name, given[name]) for name in KNOWN if name in given})

    def to_dict(self) -> dict[str, object]:
        """JSON data; `from_dict` reads it back."""
        return {name: wanted.stated for name, wanted in self.settings.items()}

    def __bool__(self) -> bool:
        return bool(self.settings)

    @property
    def fixed(self) -> dict[str, object]:
        """Settings with a list of one value, and that value."""
        alone = {name: wanted.ends for name, wanted in self.settings.items()}
        return {name: ends[0] for name, ends in alone.items() if len(ends) == 1}

    @property
    def varied(self) -> "Ranges":
        """The others: what trials draw."""
        return Ranges({n: w for n, w in self.settings.items() if n not in self.fixed})

    @property
    def formats(self) -> tuple[str, ...]:
        """Storage formats among which trials draw; () if none are stated."""
        wanted = self.settings.get(FORMAT)
        return tuple(map(str, wanted.ends)) if wanted else ()

    @property
    def parameters(self) -> dict[str, Range | Choice]:
        """The settings under the names that a study's parameters have, e.g. `recipe_lr`."""
        return {parameter(name): wanted for name, wanted in self.settings.items()}

    @property
    def words(self) -> str:
        """What is searched, in one line."""
        return "; ".join(f"{name} {wanted.words}" for name, wanted in self.settings.items())

    @property
    def views(self) -> int:
        """Augmentations among which trials draw; each has its own logits of the teacher."""
        return prod(len(w.ends) for n, w in self.settings.items() if n.partition(".")[0] == AUGMENT)

    def meant(self, params: Mapping[str, object]) -> dict[str, object]:
        """Setting -> its value, of a trial's parameters."""
        return {n: wanted.meant(params[parameter(n)]) for n, wanted in self.settings.items()}

    def needs_teacher(self, base: Recipe) -> bool:
        """Whether some trial listens to the teacher."""
        points = self._points(*(name for name in ("phases", MIX, SWITCH) if name in self.settings))
        return any(with_values(base, point).needs_teacher for point in points)

    def check(self, base: Recipe, *, taught: bool) -> None:
        """Raise InputError unless every trial has a recipe within its rules.

        Rules are about one setting or two, so all pairs of ends and choices are tried.

        Args:
            base: the recipe that the values are set over.
            taught: whether there may be a teacher.
        """
        pairs: list[tuple[str, ...]] = [*combinations(self.settings, 2)]
        for pair in pairs or [tuple(self.settings)]:
            for point in self._points(*pair):
                try:
                    with_values(base, point)
                except InputError as error:
                    words = values_words(point)
                    raise InputError(f"search: a trial may have {words}, but {error}") from None
        taught = taught and self.needs_teacher(base)
        for name, wanted in self.settings.items():
            if name in TAUGHT and not taught:
                raise InputError(f"search: {name} needs a teacher, but no trial listens to one")
            if isinstance(wanted, Range) and name.partition(".")[0] == AUGMENT and taught:
                raise InputError(
                    f"search: {name} must be a list, not a range: the teacher's logits are "
                    f"computed for every value, but got {wanted.words}"
                )

    def _points(self, *names: str) -> Iterator[dict[str, object]]:
        """Values of all settings: every combination of these ones' ends, the others' first."""
        first = {name: wanted.ends[0] for name, wanted in self.settings.items()}
        for ends in product(*(self.settings[name].ends for name in names)):
            yield first | dict(zip(names, ends, strict=True))


def searched_words(ranges: Table) -> str:
    """What trials of a study draw beside the architecture, from its stored spec, in one line."""
    return f"searched with the architecture: {Ranges.from_dict(ranges).words}"


def parameter(name: str) -> str:
    """The name of a setting's parameter in a study."""
    return name if name == FORMAT else f"recipe_{name.replace('.', '_')}"


def with_values(base: Recipe, values: Table) -> Recipe:
    """The recipe with a trial's values, `format` left aside.

    Raises:
        InputError: a value outside its rule.
    """
    inner = {n.partition(".")[2]: value for n, value in values.items() if "." in n}
    beside = (FORMAT, MIX, SWITCH)
    own = {n: value for n, value in values.items() if "." not in n and n not in beside}
    recipe = base.with_settings(own)
    if inner:
        recipe = recipe.with_settings({AUGMENT: inner})
    return recipe.with_phases(values.get(MIX), values.get(SWITCH))


def values_words(values: Table) -> str:
    """A trial's values, in one line."""
    return ", ".join(f"{name} {written(value)}" for name, value in values.items())


def suffix(values: Table) -> str:
    """The same, to stand after an architecture's words."""
    return f"; {values_words(values)}"


def written(value: object) -> str:
    """A value for people: numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return json.dumps(value, default=str)  # TOML has dates too, which no setting takes


def _stated(name: str, value: object) -> Range | Choice:
    where, kind = f"search: {name}", NUMBERS.get(name)
    if isinstance(value, list | tuple):
        wanted = Choice(tuple(value))
        valid = 1 <= len(value) <= MOST_VALUES and len(set(wanted.labels)) == len(value)
        require(where, value, valid, f"a list of 1 to {MOST_VALUES} different values")
        if name == FORMAT:
            for format in value:
                require(where, format, isinstance(format, str), "a list of storage formats")
                check_format(format)
        return wanted
    ranged = "a list of values" + (", or a table of low and high" if kind else "")
    require(where, value, isinstance(value, Mapping) and bool(kind), ranged)
    found = read(Range, value, where)
    numbers = (found.low, found.high)
    if kind is int:
        rule = "from one whole number to another"
        require(where, value, all(type(number) is int for number in numbers), rule)
    else:
        low, high = (float(typed(float, number, where)) for number in numbers)  # type: ignore[arg-type]
        found = Range(low, high, found.log)
    require(where, value, found.low < found.high, "a range whose low is below its high")
    require(where, value, found.low > 0 or not found.log, "a range above 0 where log = true")
    return found
