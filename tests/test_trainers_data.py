import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
import torch

import trainers.cache
import trainers.files
from space.errors import InputError
from trainers.data import Data, decode, load, load_test
from trainers.files import write_atomically

SIZE = 12


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a decoded photograph."""
    seen: list[int] = []
    original = trainers.cache.decode_unguarded

    def counted(source: BinaryIO, size: int, channels: int) -> np.ndarray:
        seen.append(size)
        return original(source, size, channels)

    monkeypatch.setattr(trainers.cache, "decode_unguarded", counted)
    return seen


def quietly(source: Path, cache: Path, size: int = SIZE, seed: int = 0) -> Data:
    return load(str(source), size, cache=cache, seed=seed, progress=False)


def refused(source: Path | str, cache: Path) -> str:
    """The one line that `load` refuses with."""
    with pytest.raises(InputError) as error:
        load(str(source), SIZE, cache=cache, progress=False)
    message = str(error.value)
    assert "\n" not in message
    return message


def counts(data: Data) -> tuple[list[int], list[int]]:
    return tuple(torch.bincount(s.labels_N).tolist() for s in (data.train, data.validation))


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


def images_of(images_NCHW: torch.Tensor) -> list[bytes]:
    return [image.tobytes() for image in images_NCHW.numpy()]


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


# --- the cache


def test_one_bad_file_in_a_hundred_is_skipped(
    make_folder: Callable[..., Path],
    tmp_path: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    counts_by_pattern = {"train/a/{:03}.jpg": 60, "train/b/{:03}.jpg": 60, "val/a/{:03}.jpg": 2}
    root = make_folder(tmp_path / "data", counts_by_pattern)
    first = root / "train" / "a" / "007.jpg"
    first.write_bytes(first.read_bytes()[:300])
    for _ in ("cold", "warm"):
        data = load(str(root), SIZE, cache=cache)
        assert data.skipped == ("train/a/007.jpg",)
        assert counts(data)[0] == [59, 60]
        assert len(data.train.images_NCHW) == 119
        message = "1 of 122 photographs cannot be read and are skipped: train/a/007.jpg\n"
        assert capsys.readouterr().err == message
    expected = decode(root / "train" / "a" / "008.jpg", SIZE, 3)
    assert np.array_equal(data.train.images_NCHW[7].numpy(), expected)

    second = root / "train" / "b" / "001.jpg"
    second.write_bytes(b"")
    message = refused(root, cache)
    assert "at most 1 % of 120 photographs may be unreadable" in message
    assert f"{second} and 1 before it cannot be read" in message
    assert not list(cache.glob(".*"))


def test_the_second_load_decodes_nothing(
    flat_folder: Path, cache: Path, decodes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quietly(flat_folder, cache)
    assert len(decodes) == 15
    monkeypatch.setattr(trainers.cache, "_read", None)  # nor reads any photograph
    second = quietly(flat_folder, cache)
    assert len(decodes) == 15
    assert torch.equal(first.train.images_NCHW, second.train.images_NCHW)
    assert first.fingerprint == second.fingerprint


def test_another_size_is_another_entry(flat_folder: Path, cache: Path, decodes: list[int]) -> None:
    small, large = (quietly(flat_folder, cache, size) for size in (8, 12))
    assert sorted(decodes) == [8] * 15 + [12] * 15
    assert small.fingerprint != large.fingerprint


def test_a_copy_shares_fingerprint_and_cache(
    flat_folder: Path, tmp_path: Path, cache: Path, decodes: list[int]
) -> None:
    first = quietly(flat_folder, cache)
    copy = shutil.copytree(flat_folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    second = quietly(copy, cache)
    assert len(decodes) == 15
    assert first.fingerprint == second.fingerprint
    assert second.name == "elsewhere"


def test_a_changed_file_is_noticed(flat_folder: Path, cache: Path) -> None:
    path = flat_folder / "training" / "0_0.jpg"
    before = quietly(flat_folder, cache)
    status = path.stat()
    path.write_bytes((flat_folder / "training" / "1_1.jpg").read_bytes())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    changed = quietly(flat_folder, cache)
    assert changed.fingerprint != before.fingerprint
    assert torch.equal(changed.train.images_NCHW[0], before.train.images_NCHW[6])


def test_a_renamed_file_is_noticed(flat_folder: Path, cache: Path) -> None:
    before = quietly(flat_folder, cache).fingerprint
    (flat_folder / "training" / "0_0.jpg").rename(flat_folder / "training" / "0_9.jpg")
    renamed = quietly(flat_folder, cache).fingerprint
    assert renamed != before
    (flat_folder / "training" / "0_9.jpg").rename(flat_folder / "training" / "1_9.jpg")
    assert quietly(flat_folder, cache).fingerprint not in (before, renamed)


def test_the_fingerprint_stays_what_it_was(cache: Path) -> None:
    """Studies refuse data with another fingerprint: a change of this one breaks their resuming."""
    assert load("digits", cache=cache).fingerprint == "dbcab5dcc7da"


@pytest.mark.parametrize("damage", ["truncated", "gone", "other", "listing", "no JSON"])
def test_a_damaged_cache_is_built_again(
    flat_folder: Path, cache: Path, decodes: list[int], damage: str
) -> None:
    before = quietly(flat_folder, cache)
    expected = before.train.images_NCHW.clone()
    del before
    for path in cache.iterdir():
        is_images, is_listing = path.suffix == ".npy", path.name.startswith("listing")
        if damage == "truncated" and is_images:
            path.write_bytes(path.read_bytes()[:-1])
        if damage == "gone" and is_images:
            path.unlink()
        if damage == "other" and is_images:
            path.write_bytes(bytes(path.stat().st_size))
        if damage == "listing" and is_listing:
            path.write_text("[]")
        if damage == "no JSON" and path.suffix == ".json":
            path.write_text("{")
    after = quietly(flat_folder, cache)
    assert torch.equal(after.train.images_NCHW, expected)
    assert len(decodes) == (15 if damage == "listing" else 30)


@pytest.mark.parametrize("trouble", [KeyboardInterrupt(), MemoryError()])
def test_an_interruption_leaves_no_half_cache(
    flat_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException
) -> None:
    def interrupted(source: BinaryIO, size: int, channels: int) -> np.ndarray:
        raise trouble

    with monkeypatch.context() as patch:
        patch.setattr(trainers.cache, "decode_unguarded", interrupted)
        with pytest.raises(type(trouble)):
            quietly(flat_folder, cache)
    assert [path.name for path in cache.iterdir() if "listing" not in path.name] == []
    assert counts(quietly(flat_folder, cache)) == ([5, 6], [2, 2])


def test_a_full_disk_is_one_line(
    flat_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(trainers.files.os, "fsync", full)
    assert "No space left on device; free some space" in refused(flat_folder, cache)
    assert list(cache.iterdir()) == []


def test_a_cache_that_is_a_file(flat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cache folder must" in refused(flat_folder, tmp_path / "file")


def test_a_file_that_changes_meanwhile(
    flat_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainers.cache.decoded

    def slow(*args: object, **options: object) -> object:
        (flat_folder / "training" / "0_0.jpg").write_bytes(b"another")
        return original(*args, **options)

    monkeypatch.setattr("trainers.data.decoded", slow)
    assert "must not change while they are read" in refused(flat_folder, cache)


def test_two_processes_at_once(flat_folder: Path, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainers.data import load\n"
        "data = load(sys.argv[1], 12, cache=Path(sys.argv[2]))\n"
        "print(data.fingerprint, data.train.images_NCHW.sum().item())"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(flat_folder), str(cache)]
    root = Path(trainers.cache.__file__).parents[1]
    processes = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    first, second = (process.communicate(timeout=60)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    data = quietly(flat_folder, cache)
    expected = f"{data.fingerprint} {data.train.images_NCHW.sum().item()}\n"
    assert first == second == expected
    assert not list(cache.glob(".*"))


# --- files


def test_a_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state"
    write_atomically(path, lambda file: file.write(b"old") and None)

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the n")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    write_atomically(path, lambda file: file.write(b"new") and None)
    assert path.read_bytes() == b"new"


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
