"""Searching folders of photographs, from the command line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import Answer, distilnas, inside, refused
from PIL import Image

SETTINGS = (
    *("--size", "8", "--trials", "1", "--epochs", "1", "--name", "p"),
    *("--device", "cpu", "--cache", "cache"),
)
NO_TEACHER = ("--teacher", "none")
COUNTS = {
    "training/0_{}.jpg": 12,
    "training/1_{}.jpg": 12,
    "validation/0_{}.jpg": 3,
    "validation/1_{}.jpg": 3,
    "evaluation/0_{}.jpg": 2,
    "evaluation/1_{}.jpg": 2,
}
Make = Callable[[Path, Mapping[str, int]], Path]


def search(folder: Path, *arguments: str) -> Answer:
    return inside(folder, "search", "--data", "photos", *SETTINGS, *arguments)


@pytest.fixture
def photos(tmp_path: Path, make_folder: Make) -> Path:
    return make_folder(tmp_path / "photos", COUNTS)


@pytest.fixture
def searched(tmp_path: Path, photos: Path) -> Path:
    """A folder with photographs and a study `p` of one trial."""
    answer = search(tmp_path, *NO_TEACHER)
    assert answer.status == 0, answer.err
    return tmp_path


def test_a_search_never_opens_the_test_split(tmp_path: Path, photos: Path) -> None:
    for path in (photos / "evaluation").iterdir():
        path.write_bytes(b"no photograph")
    answer = search(tmp_path, *NO_TEACHER)
    assert answer.status == 0, answer.err
    best = "runs/p/best.safetensors"
    refused(inside(tmp_path, "test", best, "--data", "photos", "--cache", "cache"), "evaluation")


@pytest.mark.parametrize("size", ["256", pytest.param("384", marks=pytest.mark.slow)])
def test_large_photographs_crash_no_dry_run(tmp_path: Path, photos: Path, size: str) -> None:
    asked = ("--data", "photos", "--size", size, "--trials", "1", "--epochs", "1")
    where = ("--cache", "cache", "--device", "cpu")
    answer = distilnas(tmp_path, "search", *asked, *NO_TEACHER, "--dry-run", *where)
    assert answer.status == 0, answer


@pytest.mark.slow
@pytest.mark.parametrize("space", ["plain", "mixed"])
def test_large_photographs_crash_no_search(tmp_path: Path, photos: Path, space: str) -> None:
    asked = ("--data", "photos", "--size", "128", "--trials", "6", "--epochs", "1")
    where = ("--cache", "cache", "--device", "cpu", "--space", space, "--pruner", "none")
    answer = distilnas(tmp_path, "search", *asked, *NO_TEACHER, *where, timeout=600)
    assert answer.status == 0, answer


def test_a_resume_refuses_other_photographs(
    searched: Path, make_photograph: Callable[..., Path]
) -> None:
    resume = ("resume", "p", "--trials", "1", "--cache", "cache", "--device", "cpu")
    make_photograph(searched / "photos/training/0_new.jpg", seed=99)
    refused(inside(searched, *resume), "made with other data", "photos")
    (searched / "photos/training/0_new.jpg").unlink()
    (searched / "photos").rename(searched / "moved")
    refused(inside(searched, *resume), "photos", "nothing there")
    assert inside(searched, *resume, "--data", "moved").status == 0


def test_a_resume_of_no_study_names_those_that_are_there(searched: Path) -> None:
    refused(inside(searched, "resume", "q", "--cache", "cache"), "'q'", "there are: p")


def test_one_truncated_photograph_of_few_stops_the_search(tmp_path: Path, photos: Path) -> None:
    path = photos / "training/0_3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    refused(search(tmp_path, *NO_TEACHER), "training/0_3.jpg")
    assert not (tmp_path / "studies.db").exists()


def test_one_truncated_photograph_of_many_is_skipped(tmp_path: Path, make_folder: Make) -> None:
    photos = make_folder(tmp_path / "photos", COUNTS | {"training/0_{}.jpg": 100})
    path = photos / "training/0_3.jpg"
    path.write_bytes(path.read_bytes()[:200])
    answer = search(tmp_path, *NO_TEACHER)
    assert answer.status == 0, answer.err
    assert "1 of 118 photographs cannot be read" in answer.err
    assert "0_3.jpg" in answer.err


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"train/a/{}.jpg": 4}, ("at least 2 classes", "holds 1")),
        ({"training/0_{}.jpg": 4}, ("at least 2 classes", "holds 1")),
        ({"photographs/{}.jpg": 4}, ("training split", "photographs")),
    ],
)
def test_folders_that_are_none(
    tmp_path: Path, make_folder: Make, counts: dict[str, int], words: tuple[str, ...]
) -> None:
    make_folder(tmp_path / "photos", counts)
    refused(search(tmp_path, *NO_TEACHER), *words)
    assert not (tmp_path / "studies.db").exists()


def test_predict_refuses_what_is_no_image(searched: Path) -> None:
    (searched / "text.jpg").write_text("no image")
    best = "runs/p/best.safetensors"
    refused(inside(searched, "predict", best, "text.jpg"), "text.jpg")
    refused(inside(searched, "predict", best, "nowhere.jpg"), "nowhere.jpg")
    refused(inside(searched, "predict", best, "photos"), "photos")


@pytest.mark.parametrize("damage", ["truncated", "tampered", "text", "empty"])
def test_damaged_students(searched: Path, damage: str) -> None:
    path = searched / "runs/p/best.safetensors"
    content = path.read_bytes()
    damaged = {
        "truncated": content[: len(content) // 2],
        "tampered": content.replace(b"classes", b"klasses"),
        "text": b"this is no student",
        "empty": b"",
    }[damage]
    path.write_bytes(damaged)
    data = ("--data", "photos", "--cache", "cache")
    refused(inside(searched, "test", str(path), *data), "best.safetensors")
    refused(inside(searched, "predict", str(path), "photos/training/0_0.jpg"), "best.safetensors")
    refused(inside(searched, "size", str(path)), "best.safetensors")
    assert inside(searched, "show", "p").status == 0


def test_a_student_is_tested_on_its_own_classes(searched: Path) -> None:
    best = "runs/p/best.safetensors"
    refused(inside(searched, "test", best, "--data", "digits", "--cache", "cache"), "2 classes")


def one_document(answer: Answer) -> Any:
    """Standard output is one JSON document, without NaN or infinity."""
    assert answer.status == 0, answer.err
    return json.loads(answer.out, parse_constant=lambda text: pytest.fail(text))


def test_every_command_answers_with_one_document(tmp_path: Path, photos: Path) -> None:
    place = ("--device", "cpu", "--cache", "cache")
    teach = ("--data", "photos", "--size", "8", "--epochs", "1", "--network", "teacher-small")

    def asked(*arguments: str) -> Any:
        return one_document(inside(tmp_path, *arguments, "--json"))

    taught = asked("teacher", "train", *teach, *place, "--out", "t.pt")
    assert taught["split"] == "validation"
    assert taught["images"] == 6
    tuned = asked("teacher", "finetune", *teach, *place, "--pretrained", "t.pt", "--out", "u.pt")
    assert tuned["file"] == "u.pt"
    tested = asked("teacher", "test", "u.pt", "--data", "photos", "--size", "8", *place)
    assert tested["split"] == "test"
    assert tested["images"] == 4
    flags = ("--data", "photos", *SETTINGS, "--teacher", "u.pt")
    planned = asked("search", *flags, "--dry-run")
    assert planned["settings"]["teacher"] == "u.pt"
    assert not (tmp_path / "studies.db").exists()
    answer = inside(tmp_path, "search", *flags, "--json", "--out", "out/best.safetensors")
    found = one_document(answer)
    assert "trial 0" in answer.err
    assert (tmp_path / "out/best.safetensors").stat().st_size == found["file"]["bytes"]
    assert asked("resume", "p", "--trials", "1", *place)["states"]["COMPLETE"] >= 2
    assert [study["name"] for study in asked("studies")] == ["p"]
    assert asked("show", "p")["study"] == "p"
    assert asked("show", "p", "0")["number"] == 0
    exported = asked("export", "p", "--trial", "0", "--format", "fp32", "--out", "e.safetensors")
    assert exported["bytes"] == (tmp_path / "e.safetensors").stat().st_size
    assert asked("test", "e.safetensors", "--data", "photos", *place)["images"] == 4
    (guess,) = asked("predict", "e.safetensors", "photos/training/0_0.jpg", "--device", "cpu")
    assert {entry["class"] for entry in guess["classes"]} == {"0", "1"}
    assert asked("size", "e.safetensors")["bytes"]["fp32"] == exported["bytes"]
    assert asked("size", "ntu-ml2020")["params"] == 256_779


def test_a_class_name_cannot_dress_the_output(tmp_path: Path, make_folder: Make) -> None:
    """Names come from folders; brackets in them are not rich's markup."""
    counts = {f"{split}/[red]x/{{}}.jpg": 6 for split in ("train", "val", "test")}
    counts |= {f"{split}/[y/{{}}.jpg": 6 for split in ("train", "val", "test")}
    make_folder(tmp_path / "photos", counts)
    answer = search(tmp_path, *NO_TEACHER)
    assert answer.status == 0, answer.err
    Image.new("RGB", (9, 9)).save(tmp_path / "[i].png")
    message = inside(tmp_path, "predict", "runs/p/best.safetensors", "[i].png", "--device", "cpu")
    assert message.status == 0, message.err
    assert "[i].png: " in message.out
    assert "[red]x" in message.out
    assert "[y " in message.out
