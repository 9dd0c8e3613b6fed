import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import SIZE, counts, images_of, quietly, refused

from space.errors import InputError
from trainers.data.datasets import decode, load, load_test

# --- the digits


def test_digits_are_split_60_20_20_by_class(cache: Path) -> None:
    data = load("digits", cache=cache)
    test, classes = load_test("digits", cache=cache)
    assert data.train.images_NCHW.shape == (1079, 1, 8, 8)
    assert (len(data.validation), len(test)) == (359, 359)
    assert data.train.images_NCHW.dtype == torch.uint8
    assert data.train.labels_N.dtype == torch.int64
    assert int(data.train.images_NCHW.max()) == 255
    assert data.classes == classes == tuple("0123456789")
    for split in (data.train, data.validation, test):
        per_class = torch.bincount(split.labels_N).double() / len(split)
        assert per_class.sub(0.1).abs().max() < 0.01
    assert not cache.exists()


def test_no_seed_trains_on_a_test_digit(cache: Path) -> None:
    test, _ = load_test("digits", cache=cache)
    held_out = images_of(test.images_NCHW)
    everything = []
    for seed in (0, 1):
        data = load("digits", cache=cache, seed=seed)
        learned = images_of(data.train.images_NCHW) + images_of(data.validation.images_NCHW)
        everything.append(sorted(learned + held_out))
    assert everything[0] == everything[1]
    assert len(everything[0]) == 1797


def test_digits_resize(cache: Path) -> None:
    data = load("digits", 16, cache=cache)
    assert data.train.images_NCHW.shape[2:] == (16, 16)
    assert data.fingerprint != load("digits", cache=cache).fingerprint


# --- layouts


def test_flat_layout(flat_folder: Path, cache: Path) -> None:
    data = quietly(flat_folder, cache)
    assert (data.name, data.classes, data.channels, data.size) == ("flat", ("0", "1"), 3, SIZE)
    assert counts(data) == ([5, 6], [2, 2])
    test, classes = load_test(str(flat_folder), SIZE, cache=cache, progress=False)
    assert torch.bincount(test.labels_N).tolist() == [3, 3]
    assert classes == data.classes
    assert len(data.fingerprint) == 12
    assert data.skipped == ()


def test_images_and_labels_belong_together(flat_folder: Path, cache: Path) -> None:
    data = quietly(flat_folder, cache)
    names = sorted(path.name for path in (flat_folder / "training").iterdir())
    assert data.train.labels_N.tolist() == [int(name[0]) for name in names]
    for name, image_CHW in zip(names, data.train.images_NCHW, strict=True):
        expected = decode(flat_folder / "training" / name, SIZE, 3)
        assert np.array_equal(image_CHW.numpy(), expected)


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "val", "test"),
        ("Training", "VALID", "Evaluation"),
        ("train", "validation", "eval"),
    ],
)
def test_class_folders(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
    train: str,
    validation: str,
    test: str,
) -> None:
    root = make_folder(
        tmp_path / "pets",
        {
            f"{train}/dog/{{}}.JPG": 3,
            f"{train}/cat/{{}}.png": 2,
            f"{validation}/dog/{{}}.webp": 2,
            f"{test}/cat/{{}}.jpeg": 2,
        },
    )
    (root / train / ".DS_Store").write_bytes(b"")
    (root / train / "dog" / "._0.JPG").write_bytes(b"")
    (root / train / "dog" / "notes.txt").write_text("no photograph")
    data = quietly(root, cache)
    assert data.classes == ("cat", "dog")
    assert counts(data) == ([2, 3], [0, 2])
    assert load_test(str(root), SIZE, cache=cache, progress=False)[0].labels_N.tolist() == [0, 0]


def test_class_names_of_a_flat_folder(flat_folder: Path, cache: Path) -> None:
    unnamed = quietly(flat_folder, cache).fingerprint
    (flat_folder / "classes.txt").write_text("Bread\r\nDairy product\n\n")
    data = quietly(flat_folder, cache)
    assert data.classes == ("Bread", "Dairy product")
    assert data.fingerprint != unnamed


def test_a_missing_validation_split_is_cut_from_training(
    make_folder: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    root = make_folder(
        tmp_path / "cut", {"train/a/{}.jpg": 20, "train/b/{}.jpg": 10, "train/c/{}.jpg": 1}
    )
    data, again, other = (quietly(root, cache, seed=seed) for seed in (0, 0, 1))
    assert counts(data) == ([16, 8, 1], [4, 2])
    assert data.fingerprint == again.fingerprint != other.fingerprint
    assert torch.equal(data.validation.images_NCHW, again.validation.images_NCHW)
    assert not torch.equal(data.validation.images_NCHW, other.validation.images_NCHW)
    both = images_of(data.train.images_NCHW) + images_of(data.validation.images_NCHW)
    assert len(set(both)) == 31


def test_loading_leaves_the_test_split_alone(flat_folder: Path, cache: Path) -> None:
    before = quietly(flat_folder, cache).fingerprint
    for path in (flat_folder / "evaluation").iterdir():
        path.write_bytes(b"not an image")
    assert quietly(flat_folder, cache).fingerprint == before
    assert not list(cache.glob("*evaluation*"))
    assert len(list(cache.glob("*.npy"))) == 2


# --- errors of folders


def test_no_folder(tmp_path: Path, cache: Path) -> None:
    assert "nothing there" in refused(tmp_path / "missing", cache)
    (tmp_path / "file").write_text("")
    assert "a file" in refused(tmp_path / "file", cache)


def test_empty_folder(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no folders" in refused(tmp_path / "empty", cache)
    (tmp_path / "empty" / "train").mkdir()
    assert "is empty" in refused(tmp_path / "empty", cache)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"dog/{}.jpg": 2, "cat/{}.jpg": 2}, "must hold a training split (train/<class>"),
        ({"train/dog/{}.jpg": 2}, "at least 2 classes"),
        ({"training/0_{}.jpg": 2}, "at least 2 classes"),
        ({"training/0_{}.jpg": 2, "training/2_{}.jpg": 2}, "class 1 has no training"),
        ({"training/1_{}.jpg": 2, "training/2_{}.jpg": 2}, "class 0 has no training"),
        ({"training/0_{}.jpg": 2, "training/1_{}.jpg": 2, "training/x{}.jpg": 1}, "'x0.jpg'"),
        (
            {"training/0_{}.jpg": 2, "training/1_{}.jpg": 2, "validation/7_{}.jpg": 1},
            "label outside the range",
        ),
        (
            {"train/a/{}.jpg": 2, "train/b/{}.jpg": 2, "val/c/{}.jpg": 1},
            "is of class 'c', but training has a, b",
        ),
        ({"train/a/{}.jpg": 2, "train/b/{}.jpg": 2, "val/0_{}.jpg": 1}, "layout of the training"),
        ({"train/a/{}.jpg": 2, "train/0_{}.jpg": 2}, "holds both"),
        ({"train/a/{}.jpg": 2, "training/a/{}.jpg": 2}, "one train split"),
    ],
)
def test_layouts_that_are_refused(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
    layout: dict[str, int],
    words: str,
) -> None:
    assert words in refused(make_folder(tmp_path / "data", layout), cache)
    assert not cache.exists()


def test_an_empty_class_folder(
    make_folder: Callable[..., Path], tmp_path: Path, cache: Path
) -> None:
    root = make_folder(tmp_path / "data", {"train/a/{}.jpg": 2, "train/b/{}.jpg": 2})
    (root / "train" / "c").mkdir()
    assert f"{root / 'train' / 'c'} is empty" in refused(root, cache)


def test_classes_file_that_does_not_fit(flat_folder: Path, cache: Path) -> None:
    names = flat_folder / "classes.txt"
    names.write_text("a\nb\nc\n")
    assert "none of class 2 ('c')" in refused(flat_folder, cache)
    names.write_text("a\na\n")
    assert "twice" in refused(flat_folder, cache)
    names.write_bytes(b"\xff\xfe\n")
    assert "UTF-8" in refused(flat_folder, cache)


def test_no_test_split(make_folder: Callable[..., Path], tmp_path: Path, cache: Path) -> None:
    root = make_folder(tmp_path / "data", {"train/a/{}.jpg": 2, "train/b/{}.jpg": 2})
    quietly(root, cache)
    with pytest.raises(InputError, match="testing needs a test split"):
        load_test(str(root), SIZE, cache=cache)


@pytest.mark.parametrize("size", [-1, 0, 3, 5000])
def test_size_outside_the_range(cache: Path, size: int) -> None:
    with pytest.raises(InputError, match="size must be from 4 to 1024 pixels, but got"):
        load("digits", size, cache=cache)


# --- real photographs


def test_food_photographs(food: Path, cache: Path) -> None:
    data = load(str(food), 64, cache=cache, progress=False)
    assert data.train.images_NCHW.shape == (3000, 3, 64, 64)
    assert counts(data) == ([300] * 10, [75] * 10)
    assert data.skipped == ()
    start = time.perf_counter()
    again = load(str(food), 64, cache=cache, progress=False)
    assert time.perf_counter() - start < 1
    assert again.fingerprint == data.fingerprint
    test, _ = load_test(str(food), 64, cache=cache, progress=False)
    assert len(test) == 1250
    listings = [json.loads(path.read_text()) for path in cache.glob("listing-*.json")]
    assert len({listing["content"] for listing in listings}) == 3
