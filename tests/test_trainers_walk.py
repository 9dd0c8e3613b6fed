"""Which files of a data folder are read, and what is said of the others."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from folders import SIZE, bitmap, bitmaps, counts, quietly, refused
from PIL import Image
from torchvision.datasets import ImageFolder

from trainers.data.datasets import load, load_test
from trainers.data.layouts import read_layout
from trainers.data.walk import printable

MAC = unicodedata.normalize("NFD", "Käse")
ENDINGS = (
    *("bmp", "BMP", "tif", "TIFF", "gif", "webp", "jpe", "jfif", "JPG", "ppm", "pgm", "jp2"),
    *("tga", "ico", "pcx", "sgi", "dds", "apng", "mpo", "dib", "msp", "icns", "xbm"),
)


def named(folder: Path) -> list[str]:
    return [photograph.name for photograph in read_layout(folder).train.photographs]


def test_every_ending_that_pillow_reads(tmp_path: Path, cache: Path) -> None:
    for ending in ENDINGS:
        for name in ("a", "b"):
            path = tmp_path / "photos" / "train" / name / f"0.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            one_bit = ending in ("msp", "xbm")
            Image.new("1" if one_bit else "L" if ending == "pgm" else "RGB", (24, 20), 1).save(path)
    data = quietly(tmp_path / "photos", cache)
    assert sum(map(sum, counts(data))) == 2 * len(ENDINGS)
    assert data.skipped == ()


@pytest.mark.parametrize("name", ["0_0", "0_0.txt", "0_0.jpg~", "0_0.jpeg.part", "0_0.PNG.bak"])
def test_where_the_ending_lies_the_content_counts(flat_folder: Path, name: str) -> None:
    before = named(flat_folder)
    (flat_folder / "training" / "0_0.jpg").rename(flat_folder / "training" / name)
    assert named(flat_folder) == sorted({*before, name} - {"0_0.jpg"})


def test_folders_within_folders_and_links_as_imagefolder_reads_them(
    tmp_path: Path, make_folder: Callable[..., Path], cache: Path
) -> None:
    root = make_folder(
        tmp_path / "photos",
        {"train/a/{}.jpg": 2, "train/a/x/y/{}.bmp": 2, "train/b/{}.tif": 3, "train/b/x/{}.png": 1},
    )
    make_folder(tmp_path / "elsewhere", {"c/{}.jpg": 2, "{}.webp": 2})
    (root / "train" / "c").symlink_to(tmp_path / "elsewhere" / "c")
    (root / "train" / "a" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "train" / "b" / "one.jpg").symlink_to(tmp_path / "elsewhere" / "0.webp")
    theirs = ImageFolder(str(root / "train"))
    expected = [str(Path(path).relative_to(root / "train")) for path, _ in theirs.samples]
    assert named(root) == sorted(expected)
    assert len(expected) == 8 + 2 + 4 + 1
    layout = read_layout(root)
    assert list(layout.classes) == theirs.classes
    places = {str(Path(path).relative_to(root / "train")): label for path, label in theirs.samples}
    assert [places[name] for name in named(root)] == list(layout.train.labels)
    assert sum(map(sum, counts(quietly(root, cache)))) == len(expected)


def test_what_is_left_out_is_counted_and_named(
    tmp_path: Path,
    make_folder: Callable[..., Path],
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root = make_folder(
        tmp_path / "photos", {"train/a/{}.jpg": 12, "train/b/x/{}.jpg": 12, "test/b/{}.jpg": 2}
    )
    a = root / "train" / "a"
    (a / ".0.jpg").write_bytes(b"")
    (a / "notes\nof mine.txt").write_text("kind: no photograph\n")
    (a / "telephone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (a / "nothing").write_bytes(b"")
    (a / "gone.jpg").symlink_to("nowhere")
    (a / "itself").symlink_to("itself")
    (a / "up").symlink_to(root / "train")
    os.mkfifo(a / "pipe.jpg")
    make_folder(root / "train", {".thumbnails/{}.jpg": 2})
    os.close(os.open(os.fsencode(a) + b"/caf\xe9.txt", os.O_CREAT))
    (root / "test" / "b" / "labels.csv").write_text("0,1\n")
    load(str(root), SIZE, cache=cache)
    line = capsys.readouterr().err
    assert line == (
        "10 of 34 files are left out: "
        "a broken link (2): train/a/gone.jpg, train/a/itself; "
        "a link to a folder above it (1): train/a/up/; "
        "empty (2): train/a/caf\\udce9.txt, train/a/nothing; "
        "hidden (2): train/.thumbnails/, train/a/.0.jpg; "
        "not a file (1): train/a/pipe.jpg; "
        "not an image that is read (2): train/a/notes\\nof mine.txt, train/a/telephone.heic\n"
    )
    load_test(str(root), SIZE, cache=cache)
    assert capsys.readouterr().err.startswith("1 of 3 files is left out: not an image")
    quietly(root, cache)
    assert capsys.readouterr().err == ""


def test_a_class_of_no_photographs_says_what_it_holds(
    tmp_path: Path, make_folder: Callable[..., Path], cache: Path
) -> None:
    root = make_folder(tmp_path / "photos", {"train/a/{}.jpg": 3})
    (root / "train" / "b" / "x").mkdir(parents=True)
    (root / "train" / "b" / "x" / "notes.txt").write_text("no photograph")
    told = refused(root, cache)
    assert f"{root / 'train' / 'b'} is empty (1 of 1 files is left out: not an image" in told
    (root / "train" / "b" / "x" / "notes.txt").unlink()
    assert f"{root / 'train' / 'b'} is empty; fill it or remove it" in refused(root, cache)


def test_a_flat_split_may_hold_other_folders(flat_folder: Path, cache: Path) -> None:
    (flat_folder / "training" / "notes").mkdir()
    (flat_folder / "training" / "notes" / "a.txt").write_text("no photograph")
    assert counts(quietly(flat_folder, cache)) == ([5, 6], [2, 2])


# --- names in another form of Unicode


def test_class_names_of_a_mac_are_the_same(tmp_path: Path, cache: Path) -> None:
    """A Mac's zip file writes an umlaut as two signs, which also sort otherwise."""
    names = [f"{name}/{n}.jpg" for name in ("Kz", "Käse", "Salz") for n in range(3)]
    mixed = [f"train/{unicodedata.normalize('NFD', name)}" for name in names]
    mixed += [f"{split}/{name}" for split in ("val", "test") for name in names]
    data = quietly(bitmaps(tmp_path / "mixed", mixed), cache, 8)
    assert data.classes == ("Kz", "Salz", "Käse") or data.classes == ("Kz", "Käse", "Salz")
    assert list(data.classes) == sorted(data.classes)
    assert counts(data) == ([3, 3, 3], [3, 3, 3])
    assert load_test(str(tmp_path / "mixed"), 8, cache=cache)[1] == data.classes
    here = quietly(bitmaps(tmp_path / "here", [f"train/{name}" for name in names]), cache, 8)
    there = quietly(
        bitmaps(tmp_path / "there", [unicodedata.normalize("NFD", f"train/{n}") for n in names]),
        cache,
        8,
    )
    assert (here.fingerprint, here.classes) == (there.fingerprint, there.classes)
    assert np.array_equal(here.train.images_NCHW, there.train.images_NCHW)


def test_one_class_in_two_forms_is_one_class(tmp_path: Path, cache: Path) -> None:
    names = ("train/Käse/0.jpg", f"train/{MAC}/1.jpg", "train/b/0.jpg", "train/b/1.jpg")
    data = quietly(bitmaps(tmp_path / "photos", names), cache, 8)
    assert data.classes == ("Käse", "b")
    assert counts(data) == ([1, 1], [1, 1])


def test_a_classes_file_of_a_mac(flat_folder: Path, cache: Path) -> None:
    (flat_folder / "classes.txt").write_text(f"Brot\n{MAC}\n")
    assert quietly(flat_folder, cache).classes == ("Brot", "Käse")
    (flat_folder / "classes.txt").write_text(f"Käse\n{MAC}\n")
    assert "twice" in refused(flat_folder, cache)


def test_a_class_name_that_is_no_text(tmp_path: Path, cache: Path) -> None:
    root = bitmaps(tmp_path / "photos", ("train/a/0.jpg", "train/a/1.jpg"))
    os.mkdir(os.fsencode(root) + b"/train/caf\xe9")
    (root / "train" / os.fsdecode(b"caf\xe9") / "0.jpg").write_bytes(bitmap(3))
    assert "must be UTF-8 text" in refused(root, cache)


# --- data of version 0.1


@pytest.mark.parametrize(
    "more",
    [
        ("train/b/x/0.jpg",),  # deeper
        ("train/b/0.bmp", "train/Zoo/1.tif", "train/ä/noending"),  # of other endings
    ],
)
def test_a_study_of_version_0_1_finds_its_photographs(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    """Its listing left photographs out; today's reads them, for studies that begin today."""
    then = [f"train/{name}/{n}.jpg" for name in ("b", "ä", "Zoo") for n in range(4)]
    root = bitmaps(tmp_path / "photos", (*then, *more))
    now = load(str(root), 8, cache=cache)
    assert now.fingerprint != "ad67e1dde80a"
    assert len(now.train) + len(now.validation) == 12 + len(more)
    assert capsys.readouterr().err == ""
    data = load(str(root), 8, cache=cache, fingerprint="ad67e1dde80a")
    assert data.fingerprint == "ad67e1dde80a"
    assert len(data.train) + len(data.validation) == 12
    assert f"the 12 photographs that version 0.1 read of {root}" in capsys.readouterr().err
    assert load(str(root), 8, cache=cache, fingerprint="0" * 12).fingerprint == now.fingerprint


def test_a_study_of_version_0_1_of_a_mac_s_names(tmp_path: Path, cache: Path) -> None:
    """They were compared as they are on the disk, and so sorted otherwise."""
    names = [f"train/{name}/{n}.jpg" for name in ("b", "ä", "Zoo") for n in range(4)]
    names += [f"val/{name}/{n}.PNG" for name in ("b", "ä") for n in range(2)]
    root = bitmaps(tmp_path / "photos", [unicodedata.normalize("NFD", name) for name in names])
    data = load(str(root), 8, cache=cache, fingerprint="830e32963d4e", progress=False)
    assert data.fingerprint == "830e32963d4e"
    assert data.classes == ("Zoo", unicodedata.normalize("NFD", "ä"), "b")


def test_printable_names() -> None:
    assert printable("Käse 🧀 照片") == "Käse 🧀 照片"
    assert printable("a\nb\x1b[31m\udce9\u2028") == "a\\nb\\x1b[31m\\udce9\\u2028"
