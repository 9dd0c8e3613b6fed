"""Changes of a shape by name: which stages they reach, what they refuse, what is solved next."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from strategies import BLOCKS, architectures, plain_card

from space.architecture import ACTIVATIONS, DOWNSAMPLES, MAX_WIDTH, Architecture, Head, Stage
from space.changes import SETTINGS, change, is_change, known, relative
from space.errors import InputError
from space.file_format import FORMATS
from space.schema import WORDS
from space.solver import Budget, InfeasibleError, solve

NEW: dict[str, Any] = {  # a value of every setting that is not the default
    "block": "depthwise",
    "depth": 3,
    "kernel": 5,
    "groups": 4,
    "shuffle": True,
    "expansion": 2,
    "se": 8,
    "residual": True,
    "activation": "silu",
    "downsample": "maxpool",
    "repeat": 2,
}
REACHED = {  # scope -> places that it means in networks of 1 to 5 stages; 0 is the stem
    "": [{1}, {1, 2}, {1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4, 5}],
    "early_": [{1}, {1}, {1, 2}, {1, 2}, {1, 2, 3}],
    "late_": [set(), {2}, {3}, {3, 4}, {4, 5}],
    "stem_": [{0}] * 5,
    "stage1_": [{1}] * 5,
}
GROUPS = st.integers(1, 16)


def values(setting: str) -> st.SearchStrategy[Any]:
    choices = {"block": BLOCKS, "activation": ACTIVATIONS, "downsample": DOWNSAMPLES}
    if setting in choices:
        return st.sampled_from(choices[setting])
    if setting == "kernel":
        return st.sampled_from([1, 3, 5, 7])
    return st.booleans() if isinstance(NEW[setting], bool) else st.integers(1, 9)


@st.composite
def named_changes(draw: st.DrawFn, shape: Architecture) -> tuple[str, str, Any]:
    """A scope of that shape, a setting, a value."""
    numbered = [f"stage{place}_" for place in range(1, len(shape.stages) + 1)]
    setting = draw(st.sampled_from(SETTINGS))
    scope = draw(st.sampled_from(["", "early_", "late_", "stem_", *numbered]))
    return scope, setting, draw(values(setting))


def plain(stages: int, head: int = 0) -> Architecture:
    made = tuple(Stage(width=8 * place) for place in range(1, stages + 1))
    return Architecture(stem=Stage(width=8), stages=made, classes=4, head=Head(width=head))


def parts(shape: Architecture) -> tuple[Stage, ...]:
    return (shape.stem, *shape.stages)


def refusal(shape: Architecture, name: str, value: Any) -> str:
    """The one line that `change` refuses with."""
    with pytest.raises(InputError) as error:
        change(shape, name, value)
    message = str(error.value)
    assert "\n" not in message
    return message


def grouped(shape: Architecture, counts: list[int]) -> Architecture:
    for place, count in enumerate(counts, 1):
        shape = change(shape, f"stage{place}_block", "group")
        shape = change(shape, f"stage{place}_groups", count)
    return shape


def test_every_setting_of_a_stage_is_tried_here() -> None:
    assert set(NEW) == set(SETTINGS)
    assert {"width", "stride"}.isdisjoint(SETTINGS)


@pytest.mark.parametrize("stages", range(1, 6))
@pytest.mark.parametrize("scope", REACHED)
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_change_reaches_the_stages_it_names_and_no_other(
    setting: str, scope: str, stages: int
) -> None:
    shape, value = plain(stages, head=20), NEW[setting]
    places = REACHED[scope][stages - 1]
    if (setting, scope) == ("activation", ""):
        places = places | {0}
    changed = change(shape, scope + setting, value)
    for place, (before, after) in enumerate(zip(parts(shape), parts(changed), strict=True)):
        assert after == (replace(before, **{setting: value}) if place in places else before)
    shared = setting == "activation" and not scope
    assert changed.head == replace(shape.head, activation="silu" if shared else "relu")
    assert is_change(scope + setting)


@pytest.mark.parametrize("stages", range(2, 6))
def test_early_and_late_are_the_whole(stages: int) -> None:
    shape = plain(stages)
    both = change(change(shape, "early_se", 8), "late_se", 8)
    assert both == change(shape, "se", 8)


def test_the_stem_is_its_block() -> None:
    assert change(plain(2), "stem", "depthwise") == change(plain(2), "stem_block", "depthwise")
    assert change(plain(2), "stem", "depthwise").stem.block == "depthwise"


@given(st.data())
def test_a_change_and_its_inverse_give_the_shape_back(data: st.DataObject) -> None:
    shape = data.draw(architectures())
    scope, setting, value = data.draw(named_changes(shape))
    uniform = change(shape, scope + setting, data.draw(values(setting)))
    back = change(change(uniform, scope + setting, value), scope + setting, value)
    assert back == change(shape, scope + setting, value)
    for place, stage in enumerate(parts(shape)):
        own = f"stage{place}_" if place else "stem_"
        back = change(back, own + setting, getattr(stage, setting))
    assert replace(back, head=shape.head) == shape


@given(st.data())
def test_a_change_leaves_widths_strides_and_classes(data: st.DataObject) -> None:
    shape = data.draw(architectures())
    scope, setting, value = data.draw(named_changes(shape))
    changed = change(shape, scope + setting, value)
    assert changed.widths == shape.widths
    assert [part.stride for part in parts(changed)] == [part.stride for part in parts(shape)]
    assert (changed.classes, changed.channels) == (shape.classes, shape.channels)


@pytest.mark.parametrize("number", ["0", "4", "99", "9" * 5_000])
def test_a_stage_that_is_not_there(number: str) -> None:
    message = refusal(plain(3), f"stage{number}_se", 8)
    assert message.endswith("the network has stages 1 to 3")


@pytest.mark.parametrize("number", ["01", "001", "\u0661"])
def test_a_stage_number_written_oddly_is_that_stage_or_refused(number: str) -> None:
    """It must not be a change that changes nothing."""
    try:
        changed = change(plain(3), f"stage{number}_se", 8)
    except InputError:
        return
    assert changed == change(plain(3), "stage1_se", 8)


@pytest.mark.parametrize("scope", ["", "early_", "stem_", "stage2_"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_another_type_is_refused(setting: str, scope: str) -> None:
    kind = type(NEW[setting])
    others: list[Any] = [True, 1, 1.0, "conv", None, [1], {"a": 1}]
    for value in (other for other in others if type(other) is not kind):
        message = refusal(plain(3), scope + setting, value)
        assert message.startswith(f"{scope}{setting} must be {WORDS[kind]}")


@pytest.mark.parametrize(
    "name",
    [
        *("colour", "width", "late_width", "stride", "early_stem", "late_", "", "stage_se"),
        *("stage1se", "stem_profile", "late_profile", "Stem", "se ", "early_late_se", "stage-1_se"),
    ],
)
def test_an_unknown_name_is_refused_and_the_known_are_listed(name: str) -> None:
    message = refusal(plain(3), name, 1)
    assert repr(name) in message
    for word in (*SETTINGS, "stem", "profile", "early_", "late_", "stem_", "stage1_"):
        assert word in message
    assert all(word in message for word in known())
    assert not is_change(name)


@given(st.integers(1, 60), st.integers(1, 4), st.integers(1, 5))
def test_a_growth_multiplies_the_width_from_stage_to_stage(
    steps: int, growth: int, stages: int
) -> None:
    stem, shape = 4 * steps, plain(stages, head=20)
    assume(stem * growth**stages <= MAX_WIDTH)
    shape = replace(shape, stem=replace(shape.stem, width=stem))
    grown = change(shape, "profile", growth)
    assert grown.widths == (*(stem * growth**place for place in range(stages + 1)), 20)
    assert change(shape, "profile", float(growth)) == grown
    assert grown.with_widths(shape.widths) == shape


@given(st.floats(0.1, 10), st.integers(1, 300), st.integers(1, 6))
def test_a_growth_gives_widths_that_grow(growth: float, stem: int, stages: int) -> None:
    assume(stem * growth**stages <= MAX_WIDTH / 2)
    shape = plain(stages)
    shape = replace(shape, stem=replace(shape.stem, width=stem))
    grown = change(shape, "profile", growth)
    grown.check()
    assert sorted(grown.widths, reverse=growth < 1) == list(grown.widths)


def test_a_profile_can_list_the_widths() -> None:
    for widths in ([16, 24, 32, 5], (1, 1, 1, MAX_WIDTH)):
        assert change(plain(3), "profile", widths).widths == tuple(widths)
    assert change(plain(1, head=20), "profile", [3, 4]).widths == (3, 4, 20)
    assert is_change("profile")


@pytest.mark.parametrize(
    "value",
    [
        *(True, None, "1.5", 0, 0.05, 11, -1, float("nan"), float("inf"), {"a": 1}),
        *([], [8, 8, 8], [8] * 5, [8, 8, 8, 0], [8, 8, 8, 8.0], [8, 8, 8, True]),
        [8, 8, 8, MAX_WIDTH + 1],
    ],
    ids=repr,
)
def test_a_profile_that_is_none(value: Any) -> None:
    message = refusal(plain(3), "profile", value)
    assert message.startswith("profile must be a growth from 0.1 to 10, or 4 widths")


def test_a_growth_beyond_the_widest_is_refused() -> None:
    assert "growth" in refusal(plain(64), "profile", 10)


@given(architectures(), st.data())
@example(plain(4), None)
def test_relative_widths_keep_their_ratio_and_suit_every_group_count(
    shape: Architecture, data: st.DataObject | None
) -> None:
    count = len(shape.stages)
    drawn = data.draw(st.lists(GROUPS, min_size=count, max_size=count)) if data else []
    changed = grouped(shape, drawn or [16, 15, 13, 11])
    ready = relative(changed)
    ready.check()
    assert ready.with_widths(shape.widths) == changed
    unit = ready.widths[0] / shape.widths[0]
    exact = all(width == unit * old for width, old in zip(ready.widths, shape.widths, strict=True))
    common = math.lcm(*(part.groups for part in parts(changed) if part.block == "group"))
    assert exact or common * max(shape.widths) > MAX_WIDTH  # then they must be rounded


@pytest.mark.parametrize("groups", range(1, 17))
def test_any_group_count_in_all_stages_can_be_solved(groups: int) -> None:
    shape, metadata = grouped(plain(4), [groups] * 4), plain_card(plain(4))
    found = solve(relative(shape), Budget(60_000), metadata)
    found.architecture.check()
    assert 0.9 * 60_000 <= found.cost <= 60_000


@settings(max_examples=200)
@given(
    architectures(),
    st.lists(GROUPS, min_size=4, max_size=4),
    st.integers(2_000, 400_000),
    st.sampled_from(list(FORMATS)),
    st.integers(1, 8),
)
@example(plain(5), [16, 15, 13, 11, 7], 10_000_000, "int8", 1)
@example(plain(3).with_widths((8, 64, 64, 64)), [15, 16, 11], 300_000, "int8", 1)
def test_what_was_changed_can_be_solved(
    shape: Architecture, groups: list[int], limit: int, format: str, multiple: int
) -> None:
    changed = grouped(shape, groups[: len(shape.stages)])
    budget, metadata = Budget(limit, format=format), plain_card(shape)
    try:
        found = solve(relative(changed), budget, metadata, multiple=multiple)
    except InfeasibleError:
        return
    found.architecture.check()
    assert budget.count(found.architecture, metadata) == found.cost <= limit


@pytest.mark.parametrize("groups", [0, -4, MAX_WIDTH + 1])
def test_a_group_count_that_no_network_has_is_refused_in_words(groups: int) -> None:
    """Whatever comes first: the change, its relative widths, or the solver."""
    shape = plain(3)
    with pytest.raises(InputError, match="groups"):
        solve(relative(grouped(shape, [groups] * 3)), Budget(60_000), plain_card(shape))


def test_what_no_network_has_is_left_to_the_check_of_the_shape() -> None:
    wrong = {"block": "nope", "kernel": 4, "depth": 0, "se": -1, "activation": "tanh"}
    for name, value in wrong.items():
        with pytest.raises(InputError, match=f"{name} must be"):
            change(plain(3), name, value).check()


def test_a_pyramid_says_what_halves_the_image() -> None:
    shape = plain(3)
    changed = change(shape, "pyramid", [0, 3])
    assert [stage.stride for stage in (changed.stem, *changed.stages)] == [2, 1, 1, 2]
    assert change(changed, "pyramid", []) == replace(
        changed,
        stem=replace(changed.stem, stride=1),
        stages=tuple(replace(stage, stride=1) for stage in changed.stages),
    )
    assert is_change("pyramid")


@pytest.mark.parametrize("value", [2, "late", [4], [-1], [1, 1], [1.0], [True], None, {"a": 1}])
def test_a_pyramid_that_is_none(value: Any) -> None:
    with pytest.raises(InputError, match="pyramid must be a list of what halves the image: 0 for"):
        change(plain(3), "pyramid", value)
