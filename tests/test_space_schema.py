"""Tables read into dataclasses: what is converted, and one line for everything that is refused."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.errors import InputError
from space.schema import read


@dataclass(frozen=True, kw_only=True)
class Part:
    width: int
    share: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Own:
    """Reads itself, whatever the others do."""

    text: str

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> "Own":
        return cls(text=f"{len(data)} settings")


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    parts: tuple[Part, ...]
    flag: bool = False
    rate: float | None = None
    workers: int | str = 1
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    anything: Mapping[str, object] | None = None
    listed: list[object] | None = None
    own: Own = Own(text="")
    pairs: tuple[tuple[float, float], ...] = field(default=(), metadata={"words": "pairs"})


SMALLEST: dict[str, object] = {"name": "a", "parts": []}


def test_what_is_left_out_keeps_its_default() -> None:
    assert read(Whole, SMALLEST, "it") == Whole(name="a", parts=())


def test_over_another_one() -> None:
    before = Whole(name="a", parts=(Part(width=1),), rate=2.0)
    assert read(Whole, {"flag": True}, "it", over=before) == Whole(
        name="a", parts=(Part(width=1),), rate=2.0, flag=True
    )
    assert read(Whole, {"rate": None}, "it", over=before).rate is None


def test_numbers_and_lists_become_what_a_field_wants() -> None:
    found = read(
        Whole,
        {
            "name": "a",
            "parts": [{"width": 3, "share": 1}, Part(width=4)],
            "rate": 3,
            "workers": "auto",
            "labels": {"x": ["y", "z"], "none": []},
            "anything": {"deep": {"er": [1]}},
            "listed": (1, "a"),
            "own": {"a": 1, "b": 2},
            "pairs": [[0, 1], (0.5, 2)],
        },
        "it",
    )
    assert found == Whole(
        name="a",
        parts=(Part(width=3, share=1.0), Part(width=4)),
        rate=3.0,
        workers="auto",
        labels={"x": ("y", "z"), "none": ()},
        anything={"deep": {"er": [1]}},
        listed=[1, "a"],
        own=Own(text="2 settings"),
        pairs=((0.0, 1.0), (0.5, 2.0)),
    )
    assert [type(part.share) for part in found.parts] == [float, float]
    assert type(found.rate) is float


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "it must be a table of settings, but got None"),
        ([], "it must be a table of settings, but got []"),
        ({"parts": []}, "it: setting 'name' is missing"),
        ({"colour": 1}, "it: unknown setting 'colour'; known: name, parts, flag, rate"),
        ({1: 1}, "it: unknown setting 1; known: name"),
        ({"new\nline": 1}, r"it: unknown setting 'new\nline'"),
        ({"name": 3}, "it: name must be text, but got 3"),
        ({"name": None}, "it: name must be text, but got None"),
        ({"flag": 1}, "it: flag must be true or false, but got 1"),
        ({"flag": "true"}, "it: flag must be true or false, but got 'true'"),
        ({"rate": True}, "it: rate must be a number, but got True"),
        ({"rate": "1"}, "it: rate must be a number, but got '1'"),
        ({"rate": 10**400}, "it: rate must be finite, but got 1"),
        ({"workers": True}, "it: workers must be a whole number or text, but got True"),
        ({"workers": 1.0}, "it: workers must be a whole number or text, but got 1.0"),
        ({"parts": "ab"}, "it: parts must be a list, but got 'ab'"),
        ({"parts": {}}, "it: parts must be a list, but got {}"),
        ({"parts": [3]}, "it: parts, item 1 must be a table of settings, but got 3"),
        ({"parts": [{"width": 1}, {}]}, "it: parts, item 2: setting 'width' is missing"),
        ({"parts": [{"width": 1.0}]}, "it: parts, item 1: width must be a whole number"),
        ({"parts": [{"width": 1, "x": 1}]}, "it: parts, item 1: unknown setting 'x'"),
        ({"labels": {"x": "y"}}, "it: labels.x must be a list, but got 'y'"),
        ({"labels": {"x": [1]}}, "it: labels.x, item 1 must be text, but got 1"),
        ({"anything": []}, "it: anything must be a table of settings, but got []"),
        ({"listed": {}}, "it: listed must be a list, but got {}"),
        ({"pairs": [[0, 1], [2]]}, "it: pairs must be pairs, but got [[0, 1], [2]]"),
        ({"pairs": [[0, "1"]]}, "it: pairs must be pairs, but got [[0, '1']]"),
        ({"pairs": 1}, "it: pairs must be pairs, but got 1"),
    ],
)
def test_what_is_refused_is_one_clear_line(data: Any, message: str) -> None:
    whole = SMALLEST | data if isinstance(data, dict) and "parts" not in data else data
    with pytest.raises(InputError) as error:
        read(Whole, whole, "it")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_long_value_does_not_fill_the_screen() -> None:
    with pytest.raises(InputError) as error:
        read(Whole, SMALLEST | {"rate": "x" * 100_000}, "it")
    assert len(str(error.value)) < 200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "parts", "width", "share", "pairs", "own", "labels", "x"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused(data: object) -> None:
    try:
        found = read(Whole, data, "it")
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(found.name, str)
        assert all(type(part.width) is int for part in found.parts)


@given(st.builds(Part, width=st.integers(), share=st.floats(allow_nan=False)))
def test_there_and_back_through_json(part: Part) -> None:
    assert read(Part, json.loads(json.dumps(asdict(part))), "it") == part
