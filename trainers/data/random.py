"""Random numbers by counting: a number is a function of its key, with no state to save.

The bits come from lowbias32 (Chris Wellons, "Prospecting for Hash Functions", 2018,
https://nullprogram.com/blog/2018/07/31/; code in the public domain), a bijection of 32-bit words
whose mean deviation from a perfect avalanche is 0.17 %. It is computed with integer tensors, so
a CPU and a GPU give identical bits.

Shape suffixes: N images, L lanes (independent draws of one image).
"""

from typing import TypeVar

import torch

MASK = 0xFFFFFFFF
# lowbias32's second factor 0x846ca68b as a signed word: the same product in its low 32 bits, and
# none that leaves the 64-bit integers.
FACTORS = (0x7FEB352D, 0x846CA68B - (1 << 32))
GOLDEN = 0x9E3779B9  # 2^32 / the golden ratio; keeps keys of zeros away from mix(0) == 0
UNIT = 2.0**-24  # a float32 holds 24 bits exactly, so that 1.0 itself never comes out

Word = TypeVar("Word", int, torch.Tensor)


def mix(word: Word) -> Word:
    """lowbias32 of an integer, or of every element of an int64 tensor, in [0, 2^32)."""
    word = word ^ (word >> 16)
    word = (word * FACTORS[0]) & MASK
    word = word ^ (word >> 15)
    word = (word * FACTORS[1]) & MASK
    return word ^ (word >> 16)


def words(seed: int, epoch: int, index_N: torch.Tensor, lanes: range) -> torch.Tensor:
    """Random 32-bit words, int64 (N, L), on the device of `index_N` (int64, N).

    Each (seed, epoch, lane) has two keys, one before and one after the first round: with a
    single key two lanes would be shifted copies of each other.
    """
    keys = [[_key(seed, epoch, lane, part) for lane in lanes] for part in (0, 1)]
    first_L, second_L = torch.tensor(keys, dtype=torch.int64, device=index_N.device)
    word_NL: torch.Tensor = mix((index_N[:, None] + first_L) & MASK)
    second_NL: torch.Tensor = mix(word_NL ^ second_L)
    return second_NL


def uniforms(seed: int, epoch: int, index_N: torch.Tensor, lanes: range) -> torch.Tensor:
    """Uniform numbers in [0, 1), float32 (N, L), multiples of 2^-24."""
    return (words(seed, epoch, index_N, lanes) >> 8).to(torch.float32) * UNIT


def uniform(seed: int, epoch: int, index_N: torch.Tensor, lane: int) -> torch.Tensor:
    """Uniform numbers in [0, 1) of one lane, float32 (N,), multiples of 2^-24."""
    return uniforms(seed, epoch, index_N, range(lane, lane + 1))[:, 0]


def order(
    count: int, *, seed: int, epoch: int, lane: int = -1, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """A permutation of 0 ... count - 1, int64 (count,); the default lane is the epoch's order."""
    index_N = torch.arange(count, device=device)
    word_N = words(seed, epoch, index_N, range(lane, lane + 1))[:, 0]
    # The index in the low bits breaks ties, so that the result does not depend on how sort does.
    return torch.argsort((word_N << 31) | index_N)


def _key(seed: int, epoch: int, lane: int, part: int) -> int:
    key = 0
    for number in (seed, seed >> 32, epoch, lane, part):
        key = mix((key + (number & MASK) + GOLDEN) & MASK)
    return key
