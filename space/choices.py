"""What a space chooses from: the named spaces as data, and spaces of one's own, from a table."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import lcm

from space.architecture import ACTIVATIONS, BLOCK_SETTINGS, CHANNEL_PARTS, LARGEST
from space.errors import InputError, require, require_one_of, shown
from space.pyramid import INPUT_SIZES
from space.schema import Table, as_table, read

PLACINGS = ("early", "even", "late")  # of the halvings; from the fewest MACs to the most
MOST_VALUES = 16  # of one parameter: samplers learn little of more
LARGEST_RATIO = 100.0  # of widths and growths
LARGEST_GROUPS = 4096  # the least common multiple of a space's group counts
# Lists that, unless they are empty, stand in place of a choice for the whole network.
A_STAGE = ("stage_kernels", "stage_expansions", "stage_activations")
MAY_BE_EMPTY = (*A_STAGE, "sizes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The values that a space's parameters may have; the fields are those of `[space]` in TOML.

    Lists hold at least one value, each once; only those that begin with `stage_` may be empty, and
    then the choice is one for the whole network. A parameter with one value is not sampled. Of
    `expansions`, `groups` and `shuffle` only blocks that have them read anything.
    """

    description: str = ""
    stem_blocks: tuple[str, ...] = ("conv",)
    early: tuple[str, ...]  # blocks that stages of the first half may have
    late: tuple[str, ...]
    depths: tuple[int, ...] = (1, 2, 3)  # blocks of a stage
    widths: tuple[float, ...] = (0.5, 0.71, 1.0, 1.41, 2.0)  # of a stage, relative to the profile
    growths: tuple[float, ...] = (1.41, 1.68, 2.0)  # of the profile from stage to stage
    kernels: tuple[int, ...] = (3, 5)  # of the whole network
    stage_kernels: tuple[int, ...] = ()  # of each stage, in place of `kernels`
    expansions: tuple[int, ...] = (2, 3, 4, 6)  # of the whole network
    stage_expansions: tuple[int, ...] = ()  # of stem and stages each, in place of `expansions`
    groups: tuple[int, ...] = (2, 4, 8)
    shuffle: tuple[bool, ...] = (False, True)
    se: tuple[int, ...] = (0, 4, 16)  # reductions of squeeze-and-excitation; 0: none
    residual: tuple[bool, ...] = (False, True)
    repeats: tuple[int, ...] = (1,)  # applications of every block of a stage but the first
    activations: tuple[str, ...] = ("relu", "hardswish")  # of the whole network
    stage_activations: tuple[str, ...] = ()  # of stem and stages each, in place of `activations`
    # Whether the number of halvings is a choice: else as many as leave 4 x 4 pixels.
    fewer_halvings: bool = False
    placings: tuple[str, ...] = ("early",)  # of the halvings
    sizes: tuple[int, ...] = ()  # pixels of the input, if that is a choice; empty: the study's

    def check(self) -> None:
        """Raise InputError for a list that is empty, too long, or holds what cannot be."""
        for part in fields(self):
            values = getattr(self, part.name)
            if not isinstance(values, tuple) or (part.name in MAY_BE_EMPTY and not values):
                continue
            rule = f"a list of 1 to {MOST_VALUES} different values"
            valid = 1 <= len(values) <= MOST_VALUES and len(set(values)) == len(values)
            require(f"space: {part.name}", list(values), valid, rule)
        for name in ("stem_blocks", "early", "late"):
            for block in getattr(self, name):
                require_one_of(f"space: {name}", block, BLOCK_SETTINGS)
        for block in self.stem_blocks:
            rule = "a block that does not divide its channels, of which an image has too few"
            require("space: stem_blocks", block, block not in CHANNEL_PARTS, rule)
        named = dict.fromkeys(("activations", "stage_activations"), ACTIVATIONS)
        for name, known in (named | {"placings": PLACINGS}).items():
            for value in getattr(self, name):
                require_one_of(f"space: {name}", value, known)
        largest = {"depths": "depth", "kernels": "kernel", "expansions": "expansion"}
        of_stages = {"stage_kernels": "kernel", "stage_expansions": "expansion"}
        for name, setting in (largest | of_stages | {"repeats": "repeat"}).items():
            most = LARGEST[setting]
            for value in getattr(self, name):
                odd = value % 2 == 1 or setting != "kernel"
                rule = f"1 to {most}, and odd" if setting == "kernel" else f"1 to {most}"
                require(f"space: {name}", value, 1 <= value <= most and odd, rule)
        for name in ("widths", "growths"):
            for ratio in getattr(self, name):
                valid = 1 / LARGEST_RATIO <= ratio <= LARGEST_RATIO
                require(f"space: {name}", ratio, valid, f"0.01 to {LARGEST_RATIO:g}")
        for size in self.sizes:
            low, high = INPUT_SIZES
            require("space: sizes", size, low <= size <= high, f"{low} to {high} pixels")
        for value in self.se:
            require("space: se", value, 0 <= value <= LARGEST["groups"], "0 (none) or more")
        for value in self.groups:
            require("space: groups", value, value >= 2, "at least 2")
        if lcm(*self.groups) > LARGEST_GROUPS:
            raise InputError(
                f"space: groups must have a common multiple of at most {LARGEST_GROUPS:,}, for "
                f"widths to be multiples of them, but got {shown(list(self.groups))}"
            )

    def to_dict(self) -> dict[str, object]:
        """JSON data and a TOML table, whole."""
        given = {part.name: getattr(self, part.name) for part in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in given.items()}


OLDER_BLOCKS = ("conv", "depthwise", "inverted", "group", "residual")
EVERY_BLOCK = (*OLDER_BLOCKS, "fused", "ghost", "split")
FAMILIES: dict[str, Choices] = {
    "mobile": Choices(
        description="depthwise separable and inverted residual blocks",
        early=("depthwise", "inverted"),
        late=("depthwise", "inverted"),
    ),
    "group": Choices(
        description="group convolutions, with a channel shuffle", early=("group",), late=("group",)
    ),
    "plain": Choices(
        description="plain convolutions and residual blocks",
        early=("conv", "residual"),
        late=("conv", "residual"),
    ),
    "mixed": Choices(
        description="plain, depthwise, inverted, group and residual blocks",
        early=OLDER_BLOCKS,
        late=OLDER_BLOCKS,
    ),
    "pyramid": Choices(
        description="every block, with choices of where the image is halved",
        early=EVERY_BLOCK,
        late=EVERY_BLOCK,
        kernels=(3,),
        stage_kernels=(3, 5, 7),
        fewer_halvings=True,
        placings=PLACINGS,
    ),
    "report": Choices(
        description="depthwise early, group or depthwise late, always with shortcuts",
        early=("depthwise",),
        late=("group", "depthwise"),
        residual=(True,),
    ),
}
# From the cheapest to the dearest: samplers and the solver's floor rely on it.
ORDERED = (
    *("depths", "widths", "growths", "kernels", "stage_kernels", "expansions"),
    *("stage_expansions", "groups", "shuffle", "residual", "repeats", "sizes"),
)
BASE = "base"  # in a table: the named space whose choices hold where the table says nothing
SIZES = "sizes"


def choices(space: str | Table) -> Choices:
    """The choices of a named space, or of a table over one.

    Raises:
        InputError: an unknown name (the valid ones are listed), an unknown key, a value outside
            its rule.
    """
    if isinstance(space, str):
        require_one_of("space", space, FAMILIES)
        return FAMILIES[space]
    given = dict(as_table(space, "space"))
    base = given.pop(BASE, "mixed")
    require_one_of("space: base", base, FAMILIES)
    assert isinstance(base, str), "one of the names"
    found = read(Choices, given, "space", over=FAMILIES[base])
    found.check()
    ordered = {name: sorted(getattr(found, name)) for name in ORDERED}
    ordered["placings"] = sorted(found.placings, key=PLACINGS.index)
    return read(Choices, ordered, "space", over=found)


def to_toml(name: str, found: Choices) -> str:
    """The table `[space]` of TOML that states these choices.

    Args:
        name: of the space, for a comment.
    """
    lines = [f"# the space {name!r}: {found.description}", "[space]"]
    return "\n".join([*lines, *(f"{key} = {_toml(value)}" for key, value in _stated(found))])


def _stated(found: Choices) -> list[tuple[str, object]]:
    return [(key, value) for key, value in found.to_dict().items() if key != "description"]


def _toml(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f'"{value}"' if isinstance(value, str) else str(value)


def with_sizes(space: str | Table, sizes: Sequence[int]) -> Table:
    """The space with the input size as a choice among these."""
    table = {BASE: space} if isinstance(space, str) else space
    return {**table, SIZES: list(sizes)}


def name_of(space: str | Table) -> str:
    """What a space is called: `mixed`, or `own (mixed)` for a table over it.

    A table that states input sizes only leaves the named space its name.
    """
    if isinstance(space, str):
        return space
    base = str(space.get(BASE, "mixed"))
    return base if space.keys() - {BASE} == {SIZES} else f"own ({base})"
