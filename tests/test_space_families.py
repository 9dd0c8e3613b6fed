"""Named spaces and reference architectures."""

import json
import random
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import plain_card, repaired_fully

from space import count
from space.errors import InputError
from space.file_format import StudentMetadata
from space.floor import check, floor_range, smallest
from space.pyramid import halvings, most_halvings, pyramid, strides
from space.solver import Budget, InfeasibleError, Meter, steps
from space.spaces import (
    FAMILIES,
    PLACINGS,
    REFERENCES,
    random_params,
    reference,
    search_space,
)

GOLDEN = Path(__file__).parent / "golden" / "complexity.json"
SIZES = (8, 28, 48, 64, 128, 224)
DIGITS = StudentMetadata(classes=tuple("0123456789"), size=8, mean=(0.3,), std=(0.4,))


def test_the_courses_student_has_its_parameters() -> None:
    assert count.parameters(reference("ntu-ml2020", classes=11)) == 256_779


def test_the_reports_student_fits_its_limit() -> None:
    architecture = reference("report-student", classes=11)
    stored = count.cost(architecture, plain_card(architecture, 128)).stored["fp16"]
    assert 0.95 * 300_000 <= stored < 300_000


def test_golden_complexity() -> None:
    """Exact counts of the references; regenerate the file only when a reference is to change."""
    found = {}
    for name in REFERENCES:
        architecture = reference(name, classes=11)
        cost = count.cost(architecture, plain_card(architecture, 128))._asdict()
        found[name] = cost | {"fingerprint": architecture.fingerprint}
    assert found == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("compressed_stem", [False, True])
def test_every_choice_makes_a_canonical_network(
    name: str, size: int, compressed_stem: bool
) -> None:
    space = search_space(name, size=size, compressed_stem=compressed_stem)
    channels = 1 if size == 8 else 3
    json.dumps(asdict(space))
    rng = random.Random(0)
    for parameter, values in space.choices.items():
        for value in values:
            params = random_params(space, rng) | {parameter: value}
            shape = space.shape(params, classes=10, channels=channels, size=size)
            shape.check()
            assert shape.canonical() == shape


@pytest.mark.parametrize("name", FAMILIES)
def test_every_parameter_has_an_effect(name: str) -> None:
    space, rng = search_space(name, size=64, compressed_stem=True), random.Random(0)
    for parameter, values in space.choices.items():
        prints = [
            {
                space.shape(
                    params | {parameter: value}, classes=10, channels=3, size=64
                ).fingerprint
                for value in values
            }
            for params in (random_params(space, rng) for _ in range(20))
        ]
        assert max(map(len, prints)) == len(values), parameter


@given(st.integers(1, 2_000))
def test_downsampling_keeps_four_pixels(size: int) -> None:
    places = strides(size)
    left = size
    for stride in places:
        left = -(-left // stride)
    assert 3 <= len(places) - 1 <= 5
    assert left >= min(size, 4)
    if size < 512:
        assert left <= 8


def test_one_downsampling_more_would_leave_too_little() -> None:
    assert strides(8) == (1, 2, 1, 1)
    assert strides(48) == (1, 2, 2, 2, 1)
    assert strides(64) == (2, 2, 2, 2, 1)
    assert strides(224) == (2, 2, 2, 2, 2, 1)


@given(st.integers(1, 500), st.sampled_from(PLACINGS), st.data())
def test_a_pyramid_halves_as_often_as_it_says(size: int, placing: str, data: st.DataObject) -> None:
    stages, counts = len(strides(size)) - 1, halvings(size)
    count = data.draw(st.sampled_from(counts))
    found = pyramid(count, placing, stages)
    assert (len(found), found.count(2)) == (stages + 1, count)
    assert counts[0] == most_halvings(size)
    assert all(-(-size // 2**fewer) <= 16 for fewer in counts[1:])


def test_later_halvings_leave_larger_maps() -> None:
    assert pyramid(2, "early", 4) == (1, 2, 2, 1, 1)
    assert pyramid(2, "even", 4) == (1, 1, 2, 1, 2)
    assert pyramid(2, "late", 4) == (1, 1, 1, 2, 2)
    assert pyramid(4, "early", 4) == (2, 2, 2, 2, 1)
    assert halvings(32) == (3, 2, 1)  # last maps of 4, 8 and 16 pixels
    assert halvings(8) == (1, 0)
    shape = search_space("pyramid", size=32)
    params = random_params(shape, random.Random(0)) | {"halvings": 2}
    built = {
        placing: shape.shape(params | {"placing": placing}, classes=10, channels=3, size=32)
        for placing in PLACINGS
    }
    work = [count.macs(network, 32) for network in built.values()]
    assert work == sorted(work)
    assert len({count.parameters(network) for network in built.values()}) == 1


def test_unknown_names_list_the_valid_ones() -> None:
    with pytest.raises(InputError, match="mobile, group, plain, mixed, pyramid, report"):
        search_space("mixd", size=64)
    names = "ntu-ml2020, report-student, digits-student, teacher-small"
    with pytest.raises(InputError, match=names):
        reference("ntu", classes=11)


def test_bad_parameters_are_named() -> None:
    space = search_space("mixed", size=8)
    params = random_params(space, random.Random(0))
    with pytest.raises(InputError, match="kernel must be one of"):
        space.shape(params | {"kernel": 4}, classes=10, channels=1, size=8)
    del params["kernel"]
    with pytest.raises(InputError, match="kernel must be one of"):
        space.shape(params, classes=10, channels=1, size=8)
    with pytest.raises(InputError, match="made for inputs of 8 pixels, but got 64"):
        space.shape(random_params(space, random.Random(0)), classes=10, channels=1, size=64)


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(FAMILIES)),
    st.sampled_from((1, 4, 8)),
    st.sampled_from(
        (Budget(1), Budget(1, "params"), Budget(2**62, "params", macs=1), Budget(2**62, ram=1))
    ),
    st.integers(0, 2**32).map(random.Random),
)
def test_no_shape_is_below_the_floor_or_above_the_ceiling(
    name: str, multiple: int, budget: Budget, rng: random.Random
) -> None:
    space = search_space(name, size=8)
    low, high = floor_range(space, budget, DIGITS, multiple)
    assert low == smallest(space, budget, DIGITS, multiple)
    for _ in range(20):
        shape = space.shape(random_params(space, rng), classes=10, channels=1, size=8)
        lattice, least = steps(shape, multiple), repaired_fully(shape)
        # Bytes to within the header's padding; parameters and MACs exactly.
        slack = 16 if budget.unit == "bytes" else 0
        assert Meter(least, budget, DIGITS).share(steps(least, multiple)) >= low.share - slack
        assert Meter(shape, budget, DIGITS).share(lattice) <= high.share + slack


def test_impossible_budget_names_the_smallest_size() -> None:
    space = search_space("mixed", size=8)
    with pytest.raises(InfeasibleError, match=r"^budget 500 B in int8 cannot be met: ") as error:
        check(space, Budget.parse("500B"), DIGITS)
    named = str(error.value).split("takes ")[1].split(" in int8")[0]
    assert "space 'mixed'" in str(error.value)
    check(space, Budget.parse(named), DIGITS)


def test_a_budget_near_the_floor_warns_with_the_way_out() -> None:
    space = search_space("mixed", size=8)
    warning = check(space, Budget.parse("10KB"), DIGITS)
    assert warning is not None
    assert "width multiple of 2" in warning
    assert check(space, Budget.parse("300KB"), DIGITS) is None


def test_mac_limit_that_cannot_be_met_is_named() -> None:
    space = search_space("mixed", size=8)
    with pytest.raises(InfeasibleError, match="MACs; raise the budget"):
        check(space, Budget.parse("300KB", macs=100), DIGITS)
