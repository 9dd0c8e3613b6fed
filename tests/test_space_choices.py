"""Spaces of one's own: stated by a table, refused in one line, searched, resumed."""

import math
import random
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from commands import inside, refused
from counting import measured
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import TABLES, plain_card, shapes_of_own_spaces

from space import count
from space.architecture import Architecture
from space.build import build
from space.changes import change
from space.choices import FAMILIES, PLACINGS, choices, name_of, to_toml, with_sizes
from space.errors import InputError
from space.file_format import FORMATS, StudentMetadata, stored_bytes
from space.floor import check, floor_range
from space.pyramid import halvings
from space.schema import Table
from space.solver import Budget, InfeasibleError, solve
from space.spaces import Params, random_params, search_space
from trainers import export


@pytest.mark.parametrize("name", FAMILIES)
def test_a_named_space_is_a_table_of_the_same_form(name: str) -> None:
    table = tomllib.loads(to_toml(name, FAMILIES[name]))["space"]
    assert "base" not in table
    stated, named = search_space(table, size=64), search_space(name, size=64)
    assert (stated.choices, stated.fixed) == (named.choices, named.fixed)


@pytest.mark.slow
@settings(max_examples=100)
@given(TABLES, st.sampled_from([8, 32, 96]), st.randoms(use_true_random=False))
def test_every_table_that_is_let_pass_makes_students(
    table: dict[str, object], size: int, rng: random.Random
) -> None:
    space = search_space(table, size=size)
    shape = space.shape(random_params(space, rng), classes=10, channels=3, size=size)
    budget, metadata = Budget.parse("100KB", macs="1G", ram="2MB"), plain_card(shape, size)
    low, high = floor_range(space, budget, metadata)
    assert low.share <= high.share
    try:
        found = solve(shape, budget, metadata)
    except InfeasibleError:
        assert high.share > 1
        return
    assert found.cost == budget.count(found.architecture, metadata) <= budget.limit


@pytest.mark.slow
@settings(max_examples=200)
@given(shapes_of_own_spaces(16), st.sampled_from(list(FORMATS)))
def test_students_of_own_spaces_take_what_is_counted(
    tmp_path_factory: pytest.TempPathFactory, shape: Architecture, format: str
) -> None:
    """The counter, torch and the file on the disk."""
    metadata = plain_card(shape, 16)
    found = solve(shape, Budget(60_000, format=format), metadata).architecture
    student = build(found, seed=0)
    assert count.parameters(found) == sum(p.numel() for p in student.parameters())
    path = tmp_path_factory.getbasetemp() / "own.safetensors"
    assert export.write(student, metadata, format, path) == stored_bytes(found, format, metadata)
    assert count.macs(found, 16) == measured(student, 3, 16)[0]


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"base": "none"}, "space: base must be one of mobile"),
        ({"blocks": ["conv"]}, "space: unknown setting 'blocks'; known: description, stem_blocks"),
        ({"early": ["convolution"]}, "space: early must be one of conv"),
        ({"early": []}, "space: early must be a list of 1 to 16 different values"),
        ({"depths": [1, 1]}, "space: depths must be a list of 1 to 16 different values"),
        ({"depths": list(range(1, 20))}, "space: depths must be a list of 1 to 16"),
        ({"depths": 2}, "space: depths must be a list"),
        ({"depths": ["2"]}, "space: depths, item 1 must be a whole number"),
        ({"sizes": [3, 8]}, "space: sizes must be 4 to 1024 pixels, but got 3"),
        ({"sizes": [8, 8]}, "space: sizes must be a list of 1 to 16 different values"),
        ({"kernels": [4]}, "space: kernels must be 1 to 31, and odd, but got 4"),
        ({"expansions": [0]}, "space: expansions must be 1 to 64"),
        ({"repeats": [17]}, "space: repeats must be 1 to 16, but got 17"),
        ({"widths": [0]}, "space: widths must be 0.01 to 100"),
        ({"groups": [1]}, "space: groups must be at least 2"),
        ({"groups": [64, 27, 25]}, "space: groups must have a common multiple of at most 4,096"),
        ({"se": [-1]}, "space: se must be 0 (none) or more"),
        ({"placings": ["middle"]}, "space: placings must be one of early, even, late"),
        ({"activations": ["tanh"]}, "space: activations must be one of relu"),
        ({"stage_activations": ["tanh"]}, "space: stage_activations must be one of relu"),
        ({"stage_expansions": [65]}, "space: stage_expansions must be 1 to 64, but got 65"),
        ({"stage_expansions": [2, 2]}, "space: stage_expansions must be a list of 1 to 16"),
    ],
)
def test_what_cannot_be_is_one_line(table: dict[str, object], told: str) -> None:
    with pytest.raises(InputError) as error:
        choices(table)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)


def test_expansion_and_activation_of_a_stage() -> None:
    own: Table = {
        "base": "mobile",
        "stage_expansions": [6, 2],
        "stage_activations": ["silu", "relu"],
    }
    space = search_space(own, size=32, compressed_stem=True)
    assert not {"expansion", "activation"} & {*space.choices, *space.fixed}
    params = random_params(space, random.Random(0)) | {"stem_block": "inverted"}
    for ending, value in (("_block", "inverted"), ("_expansion", 2), ("_activation", "relu")):
        params.update({name: value for name in params if name.endswith(ending)})
    given: Params = {"stem_expansion": 6, "stage2_activation": "silu", "stage3_expansion": 6}
    shape = space.shape({**params, **given}, classes=10, channels=3, size=32)
    built = [(stage.expansion, stage.activation) for stage in (shape.stem, *shape.stages)]
    assert built == [(6, "relu"), (2, "relu"), (2, "silu"), (6, "relu"), (2, "relu")]
    changed = change(shape, "stage2_activation", "hardswish")
    assert [stage.activation for stage in changed.stages].index("hardswish") == 1
    # From the cheapest to the dearest, whatever the table's order: what the floor relies on.
    assert space.choices["stage1_expansion"] == space.choices["stem_expansion"] == (2, 6)
    plain = search_space({**own, "base": "plain"}, size=32)
    assert not [name for name in plain.choices if name.endswith("expansion")]


def test_widths_that_grow_beyond_the_largest_stop_there() -> None:
    steep: Table = {"growths": [100.0], "widths": [100.0]}
    space = search_space(steep, size=64)
    shape = space.shape(random_params(space, random.Random(0)), classes=10, channels=3, size=64)
    found = solve(shape, Budget.parse("100KB"), plain_card(shape, 64))
    assert found.share > 0.9


def test_names() -> None:
    assert [name_of("mixed"), name_of({}), name_of({"base": "group"})] == [
        *("mixed", "own (mixed)", "own (group)")
    ]
    assert name_of(with_sizes("group", [8, 16])) == "group"
    assert name_of(with_sizes({"base": "group", "depths": [1]}, [8, 16])) == "own (group)"


@pytest.mark.parametrize("name", FAMILIES)
def test_one_input_size_changes_nothing(name: str) -> None:
    """A space that states the size that it is asked for is the named one."""
    alone, named = search_space(with_sizes(name, [48]), size=64), search_space(name, size=48)
    assert alone.choices == named.choices
    params = random_params(named, random.Random(name))
    assert alone.size_of(params) == named.size_of(params) == 48
    shapes = [space.shape(params, classes=10, channels=3, size=48) for space in (alone, named)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_space_of_several_sizes(name: str) -> None:
    """The largest size's stages, flat parameters, and halvings that each size allows."""
    sizes, rng = (12, 48, 96), random.Random(name)
    space, budget = search_space(with_sizes(name, sizes[::-1]), size=64), Budget.parse("60KB")
    largest = search_space(name, size=96)
    assert space.choices["size"] == space.sizes == sizes
    assert space.stages == largest.stages
    assert space.choices.keys() - {"halvings"} == largest.choices.keys() - {"halvings"} | {"size"}
    last_maps = {size: set[int]() for size in sizes}
    for _ in range(60):
        params = random_params(space, rng)
        size = int(params["size"])
        shape = space.shape(params, classes=10, channels=3, size=size)
        count = math.prod(stage.stride for stage in (shape.stem, *shape.stages))
        last_maps[size].add(-(-size // count))
        metadata = plain_card(shape, size)
        assert 0.97 <= solve(shape, budget, metadata).share <= 1
    for size, maps in last_maps.items():
        allowed = {-(-size // 2**count) for count in halvings(size)}
        assert maps == (allowed if name == "pyramid" else {min(allowed)})
    with pytest.raises(InputError, match="made for inputs of 12 pixels, but got 96"):
        space.shape(random_params(space, rng) | {"size": 12}, classes=10, channels=3, size=96)


def test_a_limit_holds_at_every_size() -> None:
    """The floor is taken over all sizes, and a size that cannot keep a limit is named."""
    space = search_space(with_sizes("plain", [8, 64]), size=64)
    card = StudentMetadata(classes=tuple("01"), size=64, mean=(0.5,) * 3, std=(0.5,) * 3)
    low, high = floor_range(space, Budget.parse("20KB", macs="50k"), card)
    small = search_space("plain", size=8)
    assert low.share < 1 < high.share
    with pytest.raises(InfeasibleError, match=r"'plain' at 64 pixels takes [\d,]+ MACs"):
        check(space, Budget.parse("20KB", macs="30k"), card)
    check(small, Budget.parse("20KB", macs="30k"), replace(card, size=8))


OWN = """\
teacher = "none"
trials = 3
epochs = 2

[space]
base = "plain"
depths = [1]
late = ["conv"]
stage_kernels = [3, 5]
placings = ["late"]
"""


def test_a_space_of_ones_own_is_searched_shown_and_resumed(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(OWN)
    flags = ("--name", "s", "--cache", "cache", "--device", "cpu")
    assert inside(tmp_path, "search", "--config", "own.toml", *flags).status == 0
    more = inside(tmp_path, "resume", "s", "--trials", "1", "--cache", "cache", "--device", "cpu")
    assert more.status == 0, more.err
    document = inside(tmp_path, "show", "s", "--json").json
    assert document["spec"]["own_space"]["stage_kernels"] == [3, 5]
    assert "space own (plain)" in inside(tmp_path, "show", "s").out
    trained = [trial["architecture"] for trial in document["trials"]]
    assert len(trained) == 4
    for architecture in trained:
        stem, stages = architecture["stem"], architecture["stages"]
        assert all(stage.get("depth", 1) == 1 for stage in stages)
        assert {stage.get("kernel", 3) for stage in stages} <= {3, 5}
        assert [stage.get("stride", 1) for stage in (stem, *stages)] == [1, 1, 1, 2]
    refused(
        inside(tmp_path, "search", "--config", "own.toml", "--space", "mixed", *flags),
        "exists with other settings",
        "own_space",
    )
    (tmp_path / "own.toml").write_text(OWN.replace("depths = [1]", "depths = [0]"))
    refused(inside(tmp_path, "search", "--config", "own.toml", *flags), "space: depths must be 1")


def test_a_space_with_shared_depth_is_searched_and_shown(tmp_path: Path) -> None:
    given = OWN.replace("depths = [1]", "depths = [2]\nrepeats = [2, 3]")
    (tmp_path / "own.toml").write_text(given)
    flags = ("--name", "s", "--cache", "cache", "--device", "cpu", "--pruner", "none")
    assert inside(tmp_path, "search", "--config", "own.toml", *flags).status == 0
    trials = inside(tmp_path, "show", "s", "--json").json["trials"]
    found = {stage["repeat"] for t in trials for stage in t["architecture"]["stages"]}
    assert found == {2, 3}
    for trial in trials:
        file = tmp_path / "runs" / "s" / f"trial{trial['number']:04d}" / "student.safetensors"
        assert file.stat().st_size == trial["bytes"] <= 20_000
        counted = inside(tmp_path, "size", str(file), "--json").json
        assert counted["macs"] == trial["macs"]
        assert re.search(r" r[23]\b", trial["words"])
    assert ", 2 times" in (out := inside(tmp_path, "show", "s", "0").out) or ", 3 times" in out
    assert inside(tmp_path, "test", str(file), "--data", "digits", "--cache", "cache").status == 0


def test_a_space_is_printed(tmp_path: Path) -> None:
    table = inside(tmp_path, "space", "pyramid", "--toml")
    assert tomllib.loads(table.out)["space"]["placings"] == list(PLACINGS)
    known = inside(tmp_path, "space", "pyramid", "--size", "32", "--json").json
    assert known["choices"]["halvings"] == [3, 2, 1]
    assert "stage4_kernel" in inside(tmp_path, "space", "pyramid").out
    refused(inside(tmp_path, "space", "wide"), "space must be one of mobile, group")


def test_a_ram_limit_is_kept(tmp_path: Path) -> None:
    flags = ("--ram", "1KB", "--teacher", "none", "--trials", "4", "--epochs", "1")
    names = ("--name", "s", "--cache", "cache", "--device", "cpu", "--space", "pyramid")
    assert inside(tmp_path, "search", *flags, *names).status == 0
    trials = inside(tmp_path, "show", "s", "--json").json["trials"]
    assert all(trial["activation_peak"] <= 1_000 for trial in trials)
    assert "1.0 KB of RAM" in inside(tmp_path, "show", "s").out
    assert "of RAM for activations in int8" in inside(tmp_path, "show", "s", "0").out
    refused(inside(tmp_path, "search", *names[2:], "--ram", "99B"), "99 B of RAM cannot be met")
    refused(inside(tmp_path, "search", *names[2:], "--ram", "20M"), "RAM limit must be bytes")
