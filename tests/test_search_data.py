"""What the command line says of the data that people bring."""

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Answer, distilnas, inside, refused
from folders import bitmap, bitmaps

Make = Callable[[Path, Mapping[str, int]], Path]
FLAGS = (
    *("--data", "photos", "--size", "8", "--trials", "1", "--epochs", "1", "--name", "p"),
    *("--device", "cpu", "--cache", "cache"),
)
MAC = unicodedata.normalize("NFD", "Käse")


def numbered(splits: Iterable[str], classes: Iterable[str], count: int) -> list[str]:
    return [f"{split}/{name}/{n}.jpg" for split in splits for name in classes for n in range(count)]


def search(folder: Path, *arguments: str) -> Answer:
    return inside(folder, "search", *FLAGS, *arguments)


def planned(folder: Path) -> Any:
    answer = search(folder, "--teacher", "none", "--name", "q", "--dry-run", "--json")
    assert answer.status == 0, answer.err
    return answer.json["survey"]


@pytest.fixture
def messy(tmp_path: Path) -> Path:
    """30 photographs a class, of which version 0.1 would have read 5 of the first one's."""
    names = [f"a/{n}.jpg" for n in range(5)] + [f"a/{n}.bmp" for n in range(5, 15)]
    names += [f"a/more/{n}.TIF" for n in range(15, 25)] + [f"a/{n}" for n in range(25, 30)]
    names += [f"b/{n}.gif" for n in range(30)]
    names += [f"../val/{name}/{n}.png" for name in "ab" for n in range(60)]
    root = bitmaps(tmp_path / "photos" / "train", names).parent
    (root / "train" / "a" / "notes.txt").write_text("no photograph")
    (root / "train" / "b" / ".hidden.jpg").write_bytes(bitmap(0))
    return root


def test_all_photographs_are_read_and_the_rest_is_named(messy: Path) -> None:
    answer = search(messy.parent, "--teacher", "none")
    assert answer.status == 0, answer.err
    told = "2 of 182 files are left out: hidden (1): train/b/.hidden.jpg; not an image that is"
    assert told in answer.err
    assert "train/a/notes.txt" in answer.err
    seen = planned(messy.parent)
    assert seen["photographs"] == {"training": {"a": 30, "b": 30}, "validation": {"a": 60, "b": 60}}
    assert seen["left_out"] == [
        {"name": "train/a/notes.txt", "reason": "not an image that is read"},
        {"name": "train/b/.hidden.jpg", "reason": "hidden"},
    ]
    assert seen["unreadable"] == []
    assert seen["remarks"] == []


def test_a_dry_run_counts_photographs_by_class_and_split(tmp_path: Path, make_folder: Make) -> None:
    counts = {"train/Käse/{}.jpg": 40, "train/Salz/{}.jpg": 8, "test/Salz/{}.jpg": 3}
    make_folder(tmp_path / "photos", counts)
    (tmp_path / "photos" / "validaton").mkdir()
    seen = planned(tmp_path)
    assert seen["photographs"] == {
        "training": {"Käse": 32, "Salz": 6},
        "validation": {"Käse": 8, "Salz": 2},
        "test": {"Käse": 0, "Salz": 3},
    }
    assert seen["remarks"] == [
        "the classes are uneven: 32 photographs of 'Käse' to learn from, and 6 of 'Salz'",
        "few photographs to learn from: 6 of 'Salz'",
        "the validation split holds 10 photographs: one more or less of them right is 10.0% of "
        "the accuracy",
        "the test split holds 3 photographs: one more or less of them right is 33.3% of the "
        "accuracy",
        "the test split holds none of 'Käse'",
        "photos holds 'validaton', which is no split's name: nothing in it is read",
    ]
    answer = search(tmp_path, "--teacher", "none", "--dry-run")
    rows = [line.split() for line in answer.out.splitlines()]
    assert ["class", "training", "validation", "test"] in rows
    assert ["Salz", "6", "2", "3"] in rows
    assert ["all", "38", "10", "3"] in rows
    for remark in seen["remarks"]:
        assert f"warning: {remark}" in answer.out
    assert not (tmp_path / "studies.db").exists()


@pytest.mark.parametrize("flat", [False, True])
def test_a_dry_run_finds_the_same_photograph_in_two_splits(tmp_path: Path, flat: bool) -> None:
    pattern = "{split}/{label}_{n}.jpg" if flat else "{split}/{label}/{n}.jpg"

    def place(split: str, label: int, n: object) -> str:
        return pattern.format(split=split, label=label, n=n)

    splits = ("training", "validation", "test")
    names = [place(split, label, n) for split in splits for label in (0, 1) for n in range(4)]
    root = bitmaps(tmp_path / "photos", names)
    assert not [remark for remark in planned(tmp_path)["remarks"] if "also" in remark]
    copied = (root / place("training", 0, 1)).read_bytes()
    for split, label in (("validation", 0), ("test", 1), ("training", 1)):
        (root / place(split, label, "twin")).write_bytes(copied)
    first, twin = place("training", 0, 1), {s: place(s, 0, "twin") for s in splits}
    other = place("training", 1, "twin")
    assert planned(tmp_path)["remarks"][-4:] == [
        f"1 photograph of the validation split is also in the training split: "
        f"{twin['validation']} is {first}",
        f"1 photograph of the test split is also in the training split: "
        f"{place('test', 1, 'twin')} is {first}",
        f"1 photograph of the test split is also in the validation split: "
        f"{place('test', 1, 'twin')} is {twin['validation']}",
        f"1 photograph to learn from is in two classes: {first} and {other}",
    ]


def test_a_dry_run_finds_twins_that_the_cut_has_parted(tmp_path: Path) -> None:
    """Without a validation split a fifth of each class becomes one."""
    root = bitmaps(tmp_path / "photos", [f"train/{name}/{n}.jpg" for name in "ab" for n in "01234"])
    for path in (root / "train" / "a").iterdir():
        path.write_bytes(bitmap(77))
    (remark,) = [remark for remark in planned(tmp_path)["remarks"] if "also" in remark]
    assert remark.startswith("1 photograph of the validation split is also in the training split")


def test_the_dry_run_of_an_ablation_says_it_too(tmp_path: Path, make_folder: Make) -> None:
    make_folder(tmp_path / "photos", {"train/a/{}.jpg": 50, "train/b/{}.jpg": 10})
    (tmp_path / "d.toml").write_text(
        'data = "photos"\nbudget = "20KB"\nepochs = 1\nsize = 8\nteachers = {}\n'
        '[baseline]\narchitecture = "report-student"\nteacher = "none"\n[factors]\nse = [0, 8]\n'
    )
    flags = ("--device", "cpu", "--cache", "cache", "--dry-run")
    answer = inside(tmp_path, "ablate", "d.toml", *flags, "--json")
    assert answer.status == 0, answer.err
    assert answer.json["survey"]["photographs"]["training"] == {"a": 40, "b": 8}
    assert "the classes are uneven" in inside(tmp_path, "ablate", "d.toml", *flags).out


def test_a_dry_run_of_the_digits_counts_them(tmp_path: Path) -> None:
    answer = inside(
        tmp_path, "search", "--teacher", "none", "--device", "cpu", "--dry-run", "--json"
    )
    seen = answer.json["survey"]
    assert {split: sum(held.values()) for split, held in seen["photographs"].items()} == {
        "training": 1079,
        "validation": 359,
        "test": 359,
    }
    assert seen["remarks"] == []


# --- edges


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("train/a/0.jpg", "train/b/0.jpg"),
            ("every class of photos/train holds 1", "val/<class>"),
        ),
        (("training/0_0.jpg", "training/1_0.jpg"), ("every class of photos/training holds 1",)),
        (
            ("train/a/0.jpg", "train/a/1.jpg", "train/b/0.jpg", "train/c/notes.txt"),
            ("photos/train/c is empty (1 of 1 files is left out", "fill it or remove it"),
        ),
        (
            ("train/a/0.jpg", "train/b/0.jpg", "val/a/0.jpg", "val/c/0.jpg"),
            ("val/c/0.jpg is of class 'c'", "training has a, b"),
        ),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_edges_are_one_line(
    tmp_path: Path, names: tuple[str, ...], words: tuple[str, ...], dry: tuple[str, ...]
) -> None:
    root = bitmaps(tmp_path / "photos", names)
    for path in root.rglob("*.txt"):
        path.write_text("no photograph")
    refused(search(tmp_path, "--teacher", "none", *dry), *words)
    assert not (tmp_path / "studies.db").exists()


def test_one_class_of_one_photograph_is_trained_on(tmp_path: Path) -> None:
    bitmaps(tmp_path / "photos", ("train/a/0.jpg", "train/a/1.jpg", "train/b/0.jpg"))
    answer = search(tmp_path, "--teacher", "none")
    assert answer.status == 0, answer.err
    assert "the validation split holds none of 'b'" in planned(tmp_path)["remarks"]


def test_a_read_only_data_folder_is_only_read(messy: Path) -> None:
    before = {path: path.lstat().st_mtime_ns for path in messy.rglob("*")}
    for path in [messy, *messy.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert search(messy.parent, "--teacher", "none").status == 0
    finally:
        for path in [messy, *messy.rglob("*")]:
            path.chmod(0o755)
    assert {path: path.lstat().st_mtime_ns for path in messy.rglob("*")} == before


# --- names in two forms of Unicode


def test_a_mac_s_class_names_are_the_teacher_s_and_the_student_s(tmp_path: Path) -> None:
    names = numbered(("train", "val", "test"), ("Käse", "b"), 3)
    mac = [unicodedata.normalize("NFD", name) for name in names]
    bitmaps(tmp_path / "photos", mac)
    bitmaps(tmp_path / "here", names)
    place = ("--device", "cpu", "--cache", "cache")
    teach = ("--network", "teacher-small", "--size", "8", "--epochs", "1", "--out", "t.pt", *place)
    answer = inside(tmp_path, "teacher", "train", "--data", "here", *teach)
    assert answer.status == 0, answer.err
    description = (tmp_path / "t.json").read_text()
    (tmp_path / "t.json").write_text(description.replace("K\\u00e4se", "Ka\\u0308se"))
    answer = search(tmp_path, "--teacher", "t.pt")
    assert answer.status == 0, answer.err
    best = "runs/p/best.safetensors"
    for folder in ("photos", "here"):
        told = inside(tmp_path, "test", best, "--data", folder, "--cache", "cache", "--json")
        assert told.json["images"] == 6
        told = inside(tmp_path, "teacher", "test", "t.pt", "--data", folder, *place, "--json")
        assert told.json["images"] == 6
    resume = ("resume", "p", "--trials", "1", "--data", "here", *place)
    answer = inside(tmp_path, *resume)
    assert answer.status == 0, answer.err


def test_a_student_of_version_0_1_is_tested_by_its_own_order(tmp_path: Path) -> None:
    """Its classes were sorted as a Mac writes them, `ä` before `b`."""
    from trainers.data.datasets import load_test, relabelled

    names = numbered(("train", "test"), "äbc", 2)
    bitmaps(tmp_path / "photos", names)
    split, classes = load_test(str(tmp_path / "photos"), 8, cache=tmp_path / "cache")
    assert classes == ("b", "c", "ä")
    then = (unicodedata.normalize("NFD", "ä"), "b", "c")
    found = relabelled(split, classes, then)
    assert found is not None
    assert found.labels_N.tolist() == [1, 1, 2, 2, 0, 0]
    assert relabelled(split, classes, ("b", "c", "d")) is None
    assert relabelled(split, classes, ("b", "c")) is None


@pytest.mark.parametrize("network", ["teacher-small", "resnet18", "squeezenet1_0", "mobilenet_v2"])
def test_a_teacher_of_version_0_1_answers_in_the_data_s_order(tmp_path: Path, network: str) -> None:
    from search.training.teacher_cache import TeacherFiles
    from trainers.data.datasets import load
    from trainers.engine.evaluation import predict
    from trainers.teachers import teacher as teachers

    root = bitmaps(tmp_path / "photos", numbered(("train", "val"), "äbc", 2))
    data = load(str(root), 32, cache=tmp_path / "cache")
    then = (unicodedata.normalize("NFD", "ä"), "b", "c")
    model, info = teachers.untrained(network, data, size=32)
    teachers.save(tmp_path / "t.pt", model, replace(info, classes=then))
    file = tmp_path / "t.pt"
    before, after = teachers.load(file), TeacherFiles(paths=(file,)).read(data)
    assert after.info.classes == data.classes == ("b", "c", "ä")
    asked = (data.train.images_NCHW, torch.device("cpu"))
    told_NK, now_NK = (torch.cat(list(predict(t.model, *asked))) for t in (before, after))
    assert torch.equal(now_NK, told_NK[:, [1, 2, 0]])
    assert before.hash != after.hash


def test_bytes_that_are_no_text_can_be_printed(tmp_path: Path) -> None:
    """Names of files come as bytes; standard output takes text."""
    root = bitmaps(tmp_path / "photos", numbered(("train", "val"), "ab", 2))
    twin = (root / "val" / "a" / "0.jpg").read_bytes()
    (root / "train" / "a" / "caf\udce9.jpg").write_bytes(twin)
    moved = root.rename(tmp_path / "photo\udce9s")
    flags = ("--data", str(moved), *FLAGS[2:], "--teacher", "none", "--dry-run")
    answer = distilnas(tmp_path, "search", *flags)
    assert answer.status == 0, answer.err
    assert "photo\\udce9s" in answer.out
    assert "val/a/0.jpg is train/a/caf\\udce9.jpg" in answer.out
