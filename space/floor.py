"""The floor of a space: its smallest students, and whether a budget is too small for them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from space.architecture import Architecture, Stage
from space.file_format import StudentMetadata
from space.pyramid import earliest
from space.smallest import extreme
from space.solver import Budget, Meter, Solution, smallest_stage
from space.spaces import SIZE, SearchSpace, Value

NO_LIMIT = 2**62  # bytes or parameters


def smallest(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> Solution:
    """The smallest student that the space can reach, counted as the budget counts.

    Its share exceeds 1 if not even that one keeps the budget. With limits beside the budget: of
    the smallest in each of them, what comes closest to all.
    """
    found = _extremes(search_space, budget, metadata, multiple, largest=False)
    return min(found, key=lambda student: student.share)


def floor_range(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> tuple[Solution, Solution]:
    """The smallest student of the space, and the largest that some shape needs unrepaired."""
    found = _extremes(search_space, budget, metadata, multiple, largest=True)
    largest = max(found, key=lambda student: student.share)
    return smallest(search_space, budget, metadata, multiple), largest


def check(
    search_space: SearchSpace, budget: Budget, metadata: StudentMetadata, multiple: int = 4
) -> str | None:
    """Whether the space suits the budget; to be asked before anything is trained.

    Returns:
        A warning with the way out where many shapes will have to be repaired, else None.

    Raises:
        InfeasibleError: no student of the space, or of one of its input sizes, keeps the budget;
            names the smallest.
    """
    low, high = floor_range(search_space, budget, metadata, multiple)
    for space, own in _at_each_size(search_space, metadata):
        for limit in _single_limits(budget):
            student = _extreme(space, limit, own, multiple, largest=False)
            if _counted(student, limit, own).share > 1:
                at_size = f" at {space.size} pixels" if len(search_space.sizes) > 1 else ""
                raise budget.refusal(student, own, f"space {space.name!r}{at_size}")
    if high.share <= 1:
        return None
    way_out = f"a width multiple of {multiple // 2}, " if multiple > 1 else ""
    return (
        f"budget {budget} is close to the floor of space {search_space.name!r}: "
        f"at its smallest widths a student takes {budget.amount(low.cost)} to "
        f"{budget.amount(high.cost)}, so some shapes "
        f"must be made shallower; choose {way_out}a smaller space or a larger budget"
    )


def _at_each_size(
    search_space: SearchSpace, metadata: StudentMetadata
) -> Iterator[tuple[SearchSpace, StudentMetadata]]:
    """The space at each of its input sizes alone, with the metadata of its students there."""
    others = {name: values for name, values in search_space.choices.items() if name != SIZE}
    for size in search_space.sizes:
        yield replace(search_space, choices=others, size=size), replace(metadata, size=size)


def _extremes(
    search_space: SearchSpace,
    budget: Budget,
    metadata: StudentMetadata,
    multiple: int,
    *,
    largest: bool,
) -> Iterator[Solution]:
    """The smallest or the largest student of every input size in the budget and in each limit."""
    for space, own in _at_each_size(search_space, metadata):
        for part in _single_limits(budget):
            yield _counted(_extreme(space, part, own, multiple, largest=largest), budget, own)


def _single_limits(budget: Budget) -> tuple[Budget, ...]:
    """The budget and each limit beside it, one at a time."""
    alone = replace(budget, macs=None, ram=None)
    unlimited = replace(alone, limit=NO_LIMIT)
    found = [alone]
    if budget.macs is not None:
        found.append(replace(unlimited, macs=budget.macs))
    if budget.ram is not None:
        found.append(replace(unlimited, ram=budget.ram))
    return tuple(found)


def _counted(student: Architecture, budget: Budget, metadata: StudentMetadata) -> Solution:
    cost = budget.count(student, metadata)
    widths = student.widths if student.head.width else (*student.widths, 0)
    return Solution(student, cost, Meter(student, budget, metadata).share(widths), (), 1)


def _extreme(
    search_space: SearchSpace,
    budget: Budget,
    metadata: StudentMetadata,
    multiple: int,
    *,
    largest: bool,
) -> Architecture:
    """The space's smallest repaired, or largest unrepaired, student at smallest widths.

    Values that hold for the whole network are ordered from the cheapest to the dearest.
    """
    pick, limited = -1 if largest else 0, budget.macs is not None or budget.ram is not None
    choices = search_space.choices.items()
    whole = {name: vs[pick] for name, vs in choices if not name.startswith(("stem_", "stage"))}
    if not limited and "halvings" in whole:
        # Pixels are not stored, but each halving is, in the header.
        whole["halvings"] = search_space.choices["halvings"][-1 - pick]
    places: list[list[Stage]] = []
    for place in range(search_space.stages + 1):
        prefix = f"stage{place}_" if place else "stem_"
        placed = {name: vs for name, vs in choices if name.startswith(prefix)}
        combinations = (
            dict(zip(placed, values, strict=True))
            for values in product(*(_that_matter(n, vs, pick) for n, vs in placed.items()))
        )
        stages = (search_space.stage(whole | combination, place) for combination in combinations)
        if not largest:
            stages = (smallest_stage(stage) for stage in stages)
        if limited and not largest:  # repair halves the image as early as can be
            stride = earliest(search_space.size, search_space.stages)[place]
            stages = (replace(stage, stride=stride) for stage in stages)
        places.append(list(dict.fromkeys(stage.canonical() for stage in stages)))
    return extreme(places, budget, metadata, multiple, largest=largest)


def _that_matter(name: str, values: tuple[Value, ...], pick: int) -> tuple[Value, ...]:
    """Values that an extreme may have, widths being at their smallest.

    Depths, kernels, expansions and repeats are ordered; of an activation only the name costs
    anything, in the header, and the default none.
    """
    if name.endswith("_activation"):
        values = tuple(sorted(values, key=lambda value: (value != "relu", len(str(value)))))
    elif not name.endswith(("_width", "_depth", "_kernel", "_expansion", "_repeat")):
        return values
    return values[pick:][:1]
