import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from folders import SIZE, bitmaps, counts, quietly, refused
from PIL import Image

import trainers.data.cache
import trainers.files
from trainers.data.datasets import decode, load
from trainers.data.photographs import decode_unguarded
from trainers.files import write_atomically


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a decoded photograph."""
    seen: list[int] = []
    original = decode_unguarded

    def counted(source: BinaryIO, size: int, channels: int) -> np.ndarray:
        seen.append(size)
        return original(source, size, channels)

    monkeypatch.setattr(trainers.data.cache, "decode_unguarded", counted)
    return seen


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
    monkeypatch.setattr(trainers.data.cache, "_read", None)  # nor reads any photograph
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


TRAIN = tuple(f"train/{name}/{n}.jpg" for name in ("b", "ä", "Zoo") for n in range(4))
FLAT = tuple(f"training/{label}_{n}.jpeg" for label in (0, 1) for n in range(3))


@pytest.mark.parametrize(
    ("names", "fingerprint", "files"),
    [
        (TRAIN, "ad67e1dde80a", "3baabe7b48919c9541914c4f"),
        (
            (*TRAIN, *(f"val/{name}/{n}.PNG" for name in ("b", "ä") for n in range(2))),
            "240ce5a2f071",
            "3baabe7b48919c9541914c4f ee0a19fcc58e7deabf43e7c8",
        ),
        (
            (*FLAT, "validation/0_x.webp", "validation/1_1.webp"),
            "47fb671f30e7",
            "3770a264e08f8691b63e4b14 a7bbcd102efbdc01c605117c",
        ),
    ],
)
def test_folders_keep_the_fingerprints_and_the_cache_of_version_0_1(
    tmp_path: Path, cache: Path, names: tuple[str, ...], fingerprint: str, files: str
) -> None:
    """Figures of version 0.1.0."""
    data = quietly(bitmaps(tmp_path / "photos", names), cache, 8)
    assert data.fingerprint == fingerprint
    assert sorted(path.stem for path in cache.glob("*.npy")) == files.split()


def test_what_decodes_otherwise_now_is_decoded_again(
    flat_folder: Path, cache: Path, decodes: list[int]
) -> None:
    """Of photographs that decoded alike in version 0.1 its cache serves on."""
    plain = quietly(flat_folder, cache)
    levels = np.linspace(0, 4095, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(levels).save(flat_folder / "training" / "0_0.jpg", "PNG")
    changed = quietly(flat_folder, cache)
    assert changed.train.images_NCHW[0].max() > 200
    for path in cache.glob("listing-*.json"):  # as version 0.1 wrote them
        known = json.loads(path.read_text())
        decoder = known.pop("decoder")
        path.write_text(json.dumps(known))
        key = f"{known['content']} {SIZE} 3 1".encode()
        of_version_0_1 = cache / f"{hashlib.sha256(key).hexdigest()[:24]}.npy"
        assert of_version_0_1.exists() == (decoder == 1)
    count = len(decodes)
    assert quietly(flat_folder, cache).fingerprint == changed.fingerprint != plain.fingerprint
    assert len(decodes) == count


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
        patch.setattr(trainers.data.cache, "decode_unguarded", interrupted)
        with pytest.raises(type(trouble)):
            quietly(flat_folder, cache)
    assert [path.name for path in cache.iterdir() if "listing" not in path.name] == []
    assert counts(quietly(flat_folder, cache)) == ([5, 6], [2, 2])


def test_a_full_disk_is_one_line(
    flat_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("trainers.files.os.fsync", full)
    assert "No space left on device; free some space" in refused(flat_folder, cache)
    assert list(cache.iterdir()) == []


def test_a_cache_that_is_a_file(flat_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cache folder must" in refused(flat_folder, tmp_path / "file")


def test_a_file_that_changes_meanwhile(
    flat_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trainers.data.cache.decoded

    def slow(*args: Any, **options: Any) -> object:
        (flat_folder / "training" / "0_0.jpg").write_bytes(b"another")
        return original(*args, **options)

    monkeypatch.setattr("trainers.data.datasets.decoded", slow)
    assert "must not change while they are read" in refused(flat_folder, cache)


def test_two_processes_at_once(flat_folder: Path, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from trainers.data.datasets import load\n"
        "data = load(sys.argv[1], 12, cache=Path(sys.argv[2]))\n"
        "print(data.fingerprint, data.train.images_NCHW.sum().item())"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(flat_folder), str(cache)]
    root = Path(trainers.data.cache.__file__).parents[2]
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
