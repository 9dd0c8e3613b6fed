"""Names that are made from what the user typed."""

from pathlib import Path

import pytest
from commands import inside, refused
from folders import bitmaps
from hypothesis import given, settings
from hypothesis import strategies as st

from search.study.folder import NAME
from search.study.naming import plain_name
from search.study.settings import resolve

PHOTOS = [f"train/{name}/{number}.jpg" for name in "ab" for number in range(4)]
ODD = (
    *("Früchte", "my photos", "照片", "🍕", "a.b.c", "-x", "...a", "x" * 200, "Straße"),
    *("[red]", "%20", "a'b", 'a"b', "a;rm -rf", "$HOME", "\u202efdp", " ", "CON", "__", "Ä/ö"),
)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Früchte", "Fruchte"),
        ("my photos", "my-photos"),
        ("Straße", "Strasse"),
        ("Łódź", "Lodz"),
        ("Ærø", "AEro"),
        ("photos.v2_b", "photos.v2_b"),
        ("", "photos"),
        ("..", "photos"),
        ("-x-", "x"),
    ],
)
def test_readable_names(text: str, name: str) -> None:
    assert plain_name(text, "photos") == name


def test_what_cannot_be_written_is_told_apart() -> None:
    texts = ("照片", "图片", "🍕", "фото", "x" * 200, "x" * 201)
    assert len({plain_name(text, "photos") for text in texts}) == len(texts)
    assert plain_name("pizza 🍕", "photos").startswith("pizza-")


@settings(deadline=None)
@given(st.text() | st.sampled_from(ODD), st.sampled_from(["20KB", "256k params", "1.5 MiB"]))
def test_every_default_name_is_valid(text: str, budget: str) -> None:
    name = plain_name(text, "photos")
    assert NAME.fullmatch(name)
    assert len(name) <= 60
    assert plain_name(name, "photos") == name
    asked = resolve(None, {"data": f"/photos/{text}".replace("\0", ""), "budget": budget})
    assert NAME.fullmatch(f"{asked.default_name}-1000")


def test_the_names_of_earlier_versions() -> None:
    assert resolve(None, {}).default_name == "digits-20KB-int8"
    asked = resolve(None, {"data": "a/photos", "budget": "256k params", "format": "fp16"})
    assert asked.default_name == "photos-256kparams-fp16"


@pytest.mark.parametrize("odd", ["Früchte", "my photos", "🍕", "-x", "x" * 200, "[red]", "."])
def test_a_search_of_any_folder_has_a_name(tmp_path: Path, odd: str) -> None:
    folder = tmp_path / "in" / odd
    bitmaps(folder, PHOTOS)
    flags = ("--size", "8", "--teacher", "none", "--device", "cpu", "--cache", str(tmp_path / "c"))
    answer = inside(
        tmp_path, "search", f"--data={folder}", *flags, "--trials", "1", "--prepare", "--json"
    )
    assert answer.status == 0, answer.err
    name = answer.json["study"]
    assert NAME.fullmatch(name)
    again = inside(tmp_path, "search", f"--data={folder}", *flags, "--prepare", "--json")
    assert again.json["study"] == f"{name}-2"
    assert [study["name"] for study in inside(tmp_path, "studies", "--json").json] == [
        name,
        f"{name}-2",
    ]


@pytest.mark.parametrize("out", [".", "/", "..", "a" * 250, f"{'a' * 250}/b", "is-a-folder"])
def test_a_file_to_write_must_have_a_name(tmp_path: Path, out: str) -> None:
    (tmp_path / "is-a-folder").mkdir()
    commands = [
        ("search", "--teacher", "none"),
        ("resume", "s"),
        ("export", "s"),
        ("report",),
        ("teacher", "train"),
    ]
    for command in commands:
        refused(inside(tmp_path, *command, "--out", out), "--out must be a file", out)
    assert [path.name for path in tmp_path.iterdir()] == ["is-a-folder"]


@pytest.mark.parametrize("ending", [".json", ".checkpoint"])
def test_a_teacher_s_file_is_not_that_of_its_description(tmp_path: Path, ending: str) -> None:
    answer = inside(tmp_path, "teacher", "train", "--out", f"t{ending}")
    refused(answer, f"t{ending}", f"{ending} is the ending of what is written beside it")
    assert not list(tmp_path.iterdir())
