"""Architectures: round trip, canonical form, fingerprint, what cannot be built."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import architectures, stages

from space.architecture import BLOCK_SETTINGS, OPTIONAL_SETTINGS, Architecture, Stage
from space.errors import InputError
from space.layers import Layer, walk

SMALL = Architecture(stem=Stage(width=8), stages=(Stage(width=16),), classes=3)


@given(architectures())
def test_json_round_trip(architecture: Architecture) -> None:
    assert Architecture.from_json(architecture.to_json()) == architecture


@given(architectures())
def test_canonical_form_is_the_same_network(architecture: Architecture) -> None:
    canonical = architecture.canonical()
    assert _without_idle_shuffles(canonical) == _without_idle_shuffles(architecture)
    assert canonical.canonical() == canonical
    assert canonical.fingerprint == architecture.fingerprint
    canonical.check()


@given(architectures(), st.data())
def test_settings_without_effect_leave_the_fingerprint(
    architecture: Architecture, data: st.DataObject
) -> None:
    stage = architecture.stages[-1]
    unread = [name for name in OPTIONAL_SETTINGS if name not in BLOCK_SETTINGS[stage.block]]
    assume(unread)
    values: dict[str, Any] = {"residual": True, "expansion": 5, "groups": 7, "shuffle": True}
    name = data.draw(st.sampled_from(unread))
    other = replace(
        architecture,
        stages=(*architecture.stages[:-1], replace(stage, **{name: values[name]})),
    )
    assert other.fingerprint == architecture.fingerprint


@settings(max_examples=300)
@given(architectures(), stages(), st.sampled_from(("depth", "se", "residual", "shuffle", "kernel")))
def test_fingerprints_agree_exactly_where_networks_do(
    architecture: Architecture, donor: Stage, setting: str
) -> None:
    changed = replace(architecture.stages[-1], **{setting: getattr(donor, setting)})
    other = replace(architecture, stages=(*architecture.stages[:-1], changed))
    same_network = _without_idle_shuffles(other) == _without_idle_shuffles(architecture)
    assert (other.fingerprint == architecture.fingerprint) == same_network


def _without_idle_shuffles(architecture: Architecture) -> list[object]:
    return [
        layer
        for block in walk(architecture)
        for layer in (block.shortcut is None, *block.layers)
        if not isinstance(layer, Layer) or layer.op != "shuffle" or 1 < layer.groups < layer.outputs
    ]


def test_reductions_that_round_to_one_hidden_width_are_one_network() -> None:
    stage = Stage(width=16, se=4)
    one, two = (
        replace(SMALL, stages=(replace(stage, se=reduction),)).fingerprint for reduction in (4, 8)
    )
    assert one == two
    assert replace(SMALL, stages=(replace(stage, se=2),)).fingerprint != one


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": 9}, "schema must be 1"),
        ({"stages": []}, "number of stages must be 1 to 64"),
        ({"stages": None}, "stages must be a list"),
        ({"stem": None}, "stem must be a table of settings"),
        ({"colour": 1}, "unknown setting 'colour'"),
        ({"classes": 1}, "classes must be 2 to"),
        ({"classes": True}, "classes must be a whole number"),
        ({"stages": [{}]}, "setting 'width' is missing"),
        ({"stages": [{"width": 4, "depth": 10**9}]}, "depth must be 1 to 64"),
        ({"stages": [{"width": 4, "block": "magic"}]}, "one of conv, depthwise"),
        ({"stages": [{"width": 9, "block": "group", "groups": 2}]}, "groups must divide"),
    ],
)
def test_damage_is_one_clear_line(change: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        Architecture.from_dict(SMALL.to_dict() | change)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1", json.dumps({})])
def test_text_that_is_no_architecture(text: str) -> None:
    with pytest.raises(InputError):
        Architecture.from_json(text)
