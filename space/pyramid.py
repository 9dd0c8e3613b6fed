"""Where a network halves its image: the strides of the stem and of every stage."""

from functools import lru_cache

from space.errors import InputError

SMALLEST_MAP = 4  # pixels; no downsampling goes below it
INPUT_SIZES = (SMALLEST_MAP, 1024)  # pixels, smallest and largest that are searched and trained
LARGEST_LAST_MAP = 16  # pixels; what fewer halvings leave for the last stage, at most
STEM_STRIDE_FROM = 4  # downsamplings; with fewer the stem keeps the image's resolution


def strides(size: int) -> tuple[int, ...]:
    """Strides of the stem and of every stage for size x size inputs.

    As many downsamplings as leave 4 x 4 pixels or more, as early as possible, in 3 to 5 stages.
    """
    if size < 1:
        raise InputError(f"input size must be at least 1 pixel, but got {size}")
    most = most_halvings(size)
    stages = 3 if most <= 2 else 4 if most <= 4 else 5
    return pyramid(most, "early", stages)


def most_halvings(size: int) -> int:
    """How often size x size inputs can be halved until 4 x 4 pixels, or a few more, are left."""
    return max(0, (size // SMALLEST_MAP).bit_length() - 1)


@lru_cache
def pyramid(count: int, placing: str, stages: int) -> tuple[int, ...]:
    """Strides of the stem and of every stage.

    Args:
        count: of halvings.
        placing: "early": as early as possible, from four halvings on in the stem, too; "even":
            spread over the stages, the last stage being halved; "late": in the last stages.
            The later, the larger are the maps, and the dearer the network in MACs; what is
            stored does not change.
    """
    if placing == "early":
        first = 0 if count >= STEM_STRIDE_FROM else 1
        halved = set(range(first, first + count))
    elif placing == "late" or count > stages:
        halved = set(range(stages + 1 - count, stages + 1))
    else:
        halved = {-(-stages * part // count) for part in range(1, count + 1)}
    return tuple(2 if place in halved else 1 for place in range(stages + 1))


def earliest(size: int, stages: int) -> tuple[int, ...]:
    """Strides where every place from the stem on halves, while 4 x 4 pixels or more are left."""
    count = min(most_halvings(size), stages + 1)
    return (2,) * count + (1,) * (stages + 1 - count)


def halvings(size: int) -> tuple[int, ...]:
    """Numbers of halvings that leave a last map of at most 16 pixels, the most first."""
    most = most_halvings(size)
    return tuple(
        count
        for count in range(most, -1, -1)
        if count == most or -(-size // 2**count) <= LARGEST_LAST_MAP
    )


def nearest(count: int, size: int) -> int:
    """The number of halvings among those of `halvings(size)` that is closest to `count`."""
    counts = halvings(size)
    return min(max(count, counts[-1]), counts[0])
