"""Random spaces of one's own: tables `[space]` that are let pass, for tests and benchmarks."""

import random
from collections.abc import Sequence

from space.architecture import ACTIVATIONS, BLOCK_SETTINGS, CHANNEL_PARTS
from space.choices import A_STAGE, FAMILIES, PLACINGS
from space.schema import Table

MOST = 4  # values of one list
BLOCKS = tuple(BLOCK_SETTINGS)
VALUES: dict[str, Sequence[object]] = {
    "stem_blocks": [block for block in BLOCKS if block not in CHANNEL_PARTS],
    "early": BLOCKS,
    "late": BLOCKS,
    "depths": range(1, 7),
    "widths": (0.25, 0.5, 0.71, 1, 1.41, 2.0, 3),
    "growths": (1, 1.2, 1.41, 1.68, 2.0, 2.5),
    "kernels": (1, 3, 5, 7, 9),
    "stage_kernels": (1, 3, 5, 7),
    "expansions": range(1, 9),
    "stage_expansions": range(1, 9),
    "groups": (2, 3, 4, 6, 8, 16),
    "repeats": range(1, 5),
    "shuffle": (False, True),
    "se": (0, 2, 4, 16),
    "residual": (False, True),
    "activations": ACTIVATIONS,
    "stage_activations": ACTIVATIONS,
    "placings": PLACINGS,
}


def random_table(rng: random.Random) -> Table:
    """A named space in which each list of choices stands, with even odds, for a random one."""
    table: dict[str, object] = {"base": rng.choice(sorted(FAMILIES))}
    for name, values in VALUES.items():
        if rng.random() < 0.5:
            least = 0 if name in A_STAGE else 1
            table[name] = rng.sample(values, rng.randint(least, min(MOST, len(values))))
    if rng.random() < 0.5:
        table["fewer_halvings"] = rng.random() < 0.5
    return table
