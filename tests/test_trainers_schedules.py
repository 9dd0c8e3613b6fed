"""Learning rates and loss mixes along a training run."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trainers.recipe import RECIPES
from trainers.schedules import SCHEDULES, learning_rate, soft_share

names = st.sampled_from(sorted(SCHEDULES))
shares = st.floats(0, 1)
# (start, end) with 0 < end <= start, as a recipe's rules have them.
rates = st.tuples(st.floats(1e-6, 10), st.floats(0.001, 1)).map(
    lambda pair: (pair[0], pair[0] * pair[1])
)


@pytest.mark.parametrize("name", SCHEDULES)
def test_begins_at_start_and_ends_at_end(name: str) -> None:
    def rate(progress: float) -> float:
        return learning_rate(name, progress, start=0.1, end=0.01, warmup=0.0)

    assert rate(0.0) == pytest.approx(0.1)
    assert rate(1.0) == pytest.approx(0.1 if name == "constant" else 0.01)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("constant", 0.1), ("linear", 0.055), ("cosine", 0.055), ("step", 0.1**1.5)],
)
def test_half_way(name: str, expected: float) -> None:
    assert learning_rate(name, 0.5, start=0.1, end=0.01, warmup=0) == pytest.approx(expected)


def test_a_quarter_of_the_way_cosine_has_fallen_less() -> None:
    rate = learning_rate("cosine", 0.25, start=1.0, end=0.0, warmup=0.0)
    assert rate == pytest.approx(0.5 + 0.5**1.5)


def test_step_has_three_equal_parts() -> None:
    rates = [
        learning_rate("step", step / 300, start=1.0, end=0.01, warmup=0.0) for step in range(300)
    ]
    assert [rates.count(value) for value in (1.0, 0.1, 0.01)] == [100, 100, 100]
    assert rates == sorted(rates, reverse=True)


@given(names, rates, st.floats(0, 0.9), shares, shares)
def test_rises_while_warming_up_then_never_again(
    name: str, rate: tuple[float, float], warmup: float, one: float, other: float
) -> None:
    start, end = rate
    early, late = sorted((one, other))
    first, second = (
        learning_rate(name, progress, start=start, end=end, warmup=warmup)
        for progress in (early, late)
    )
    tolerance = 1e-9 * start
    assert -tolerance <= first <= start + tolerance
    if late < warmup:
        assert first <= second + tolerance
    elif early >= warmup:
        assert first >= second - tolerance
        assert second >= end - tolerance


@given(names, rates, st.floats(0.01, 0.9), shares)
def test_warm_up_is_a_straight_line_from_zero_to_start(
    name: str, rate: tuple[float, float], warmup: float, share: float
) -> None:
    assume(share < 1)

    def at(progress: float) -> float:
        return learning_rate(name, progress, start=rate[0], end=rate[1], warmup=warmup)

    assert at(warmup * share) == pytest.approx(rate[0] * share, abs=1e-12)
    assert at(warmup) == pytest.approx(rate[0])


@given(names, rates, st.floats(0, 0.9), shares)
def test_warm_up_moves_the_whole_schedule_behind_it(
    name: str, rate: tuple[float, float], warmup: float, share: float
) -> None:
    assume(min(abs(share * 3 - part) for part in (1, 2)) > 1e-6)  # where "step" jumps
    start, end = rate
    progress = min(1.0, warmup + share * (1 - warmup))
    moved = learning_rate(name, progress, start=start, end=end, warmup=warmup)
    assert moved == pytest.approx(SCHEDULES[name](share, start, end), rel=1e-6)


# --- the loss mix


@given(
    st.lists(
        st.tuples(st.floats(0.01, 0.99), shares), max_size=4, unique_by=lambda phase: phase[0]
    ),
    shares,
    shares,
)
def test_a_phase_lasts_from_its_beginning_to_the_next(
    later: list[tuple[float, float]], first: float, progress: float
) -> None:
    phases = [(0.0, first), *sorted(later)]
    ends = [begin for begin, _ in phases[1:]] + [2.0]
    (expected,) = (
        share for (begin, share), end in zip(phases, ends, strict=True) if begin <= progress < end
    )
    assert soft_share(phases, progress) == expected


@given(steps_per_epoch=st.integers(1, 5_000))
def test_the_report_turns_to_hard_only_exactly_behind_epoch_250_of_400(
    steps_per_epoch: int,
) -> None:
    report = RECIPES["report-sgd"]
    total = report.epochs * steps_per_epoch
    switch = 250 * steps_per_epoch
    assert report.epochs == 400
    assert soft_share(report.phases, (switch - 1) / total) == 0.5
    assert soft_share(report.phases, switch / total) == 0.0
    assert soft_share(report.phases, (total - 1) / total) == 0.0


@given(epochs=st.integers(2, 500), data=st.data())
def test_any_epoch_can_be_a_switch(epochs: int, data: st.DataObject) -> None:
    epoch, steps = data.draw(st.integers(1, epochs - 1)), data.draw(st.integers(1, 500))
    phases = [(0.0, 1.0), (epoch / epochs, 0.0)]
    assert soft_share(phases, (epoch * steps - 1) / (epochs * steps)) == 1.0
    assert soft_share(phases, epoch * steps / (epochs * steps)) == 0.0
