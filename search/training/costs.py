"""What students of a search's space cost, before any is trained: MACs, RAM, seconds a trial."""

import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import cycle
from typing import NamedTuple

import torch

from search.study.spec import SearchSpec, StudySpec, solved
from space import spaces
from space.architecture import Architecture
from space.build import build
from space.count import activation_peak, macs
from space.floor import smallest
from space.solver import InfeasibleError, Solution
from trainers.data.datasets import Data
from trainers.engine.training import seconds_per_epoch
from trainers.model import Model
from trainers.recipe import Recipe

SAMPLED = 200  # shapes that represent a space
PROBE_SECONDS = 1.5  # of each student's training
DEAR = 10  # times the median's MACs: to be told of


class StudentCost(NamedTuple):
    """What one student costs."""

    student: Solution
    size: int  # pixels of its input
    macs: int  # for one image
    ram: int  # bytes of live activations in int8, at the peak, for one image


class TimedCost(NamedTuple):
    """What one student costs, its training included."""

    cost: StudentCost
    seconds_per_epoch: float  # validation included, teacher's logits taken as known
    seconds: float  # a trial that is not pruned


class SpaceCosts(NamedTuple):
    """Students at the ends and in the middle of a space, by MACs."""

    cheapest: TimedCost
    median: TimedCost
    dearest: TimedCost

    @property
    def spread(self) -> float:
        """MACs of the dearest student as a multiple of the median's."""
        return self.dearest.cost.macs / self.median.cost.macs


def sampled_students(spec: SearchSpec, seed: int) -> list[StudentCost]:
    """Students of random shapes of a study's space, those of fewest MACs first.

    In each storage format in turn. A shape that cannot be repaired within the limits is left out,
    as a search leaves it.
    """
    rng, space, found = random.Random(seed), spec.search_space, []
    for _, budget in zip(range(SAMPLED), cycle(spec.budgets), strict=False):
        params = spaces.random_params(space, rng)
        with suppress(InfeasibleError):
            found.append(counted(*solved(spec, params, budget)))
    if not found:  # so narrow a budget that no random shape keeps it
        least = smallest(space, spec.budget, spec.metadata, spec.multiple)
        found.append(counted(least, spec.sizes[0]))
    return sorted(found, key=lambda one: one.macs)


def counted(student: Solution, size: int) -> StudentCost:
    network = student.architecture
    return StudentCost(student, size, macs(network, size), activation_peak(network, size))


def middle(students: Sequence[StudentCost]) -> StudentCost:
    """The student of the median MACs."""
    return students[len(students) // 2]


def space_costs(
    students: Sequence[StudentCost], spec: SearchSpec, data: Data, device: torch.device
) -> SpaceCosts:
    """Time real training steps of three of the students, which are ordered by MACs."""
    three = (students[0], middle(students), students[-1])
    return SpaceCosts(*(timed(one, spec, data, device) for one in three))


def timed(cost: StudentCost, spec: SearchSpec, data: Data, device: torch.device) -> TimedCost:
    """Measure a student as the search would train it: batches, threads and precision."""
    network, size = cost.student.architecture, cost.size
    an_epoch = epoch_seconds(spec, network, spec.recipe, size, data, device)
    return TimedCost(cost, an_epoch, an_epoch * spec.recipe.epochs)


def epoch_seconds(
    spec: StudySpec,
    network: Architecture,
    recipe: Recipe,
    size: int | None,
    data: Data,
    device: torch.device,
    probe: float = PROBE_SECONDS,
) -> float:
    """Seconds of an epoch of a study's student, validation included, measured on the network.

    Args:
        size: pixels of its input; the study's by default.
        probe: seconds of training that it is measured by.
    """
    metadata = spec.metadata_for(recipe, size)
    student = build(network, seed=0)
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    return seconds_per_epoch(model, recipe, data.at(metadata.size), device, probe)
