"""Teachers that can only be asked, and several that are asked as one."""

import shutil
from pathlib import Path

import pytest
import torch
from brought import (
    DIGITS,
    PLACE,
    SEARCH,
    described,
    exported,
    network,
    resumed,
    scripted,
    searched,
)
from commands import inside, refused

from search.study.folder import Folder
from search.training.teacher_cache import fetch_teacher
from trainers.teachers import teacher as teachers


@pytest.mark.parametrize("kind", ["torchscript", "frozen", "onnx", "onnx of 4"])
def test_files_that_can_only_be_asked(tmp_path: Path, kind: str) -> None:
    if "onnx" in kind:
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnx")
        file = exported(tmp_path / "t.onnx", batch=4 if kind == "onnx of 4" else None)
    else:
        file = scripted(tmp_path / "t.pt", frozen=kind == "frozen")
    described(tmp_path, file.name)
    teacher = teachers.load(file)
    images_NCHW = torch.rand(7, 1, 8, 8)
    with torch.inference_mode():
        told_NK = teacher.model(images_NCHW)
        expected_NK = network()((images_NCHW - 0.5) / 0.5)
    torch.testing.assert_close(told_NK, expected_NK, rtol=1e-4, atol=1e-5)
    if kind in ("frozen", "onnx of 4"):
        return
    searched(tmp_path, "--teacher", file.name)
    assert (tmp_path / "runs" / "s" / "teacher.pt").read_bytes() == file.read_bytes()
    file.unlink()
    resumed(tmp_path, tmp_path / "elsewhere")
    assert inside(tmp_path, "doctor", "s").status == 0
    told = inside(tmp_path, "teacher", "test", "runs/s/teacher.pt", *PLACE, "--json").json
    assert told["images"] == 359


def test_classes_in_another_order_are_answered_in_the_data_s(tmp_path: Path) -> None:
    content = scripted(tmp_path / "a.pt").read_bytes()
    (tmp_path / "b.pt").write_bytes(content)
    (tmp_path / "names.txt").write_text("\n".join(reversed(DIGITS)) + "\n")
    described(tmp_path, "a.pt")
    described(tmp_path, "b.pt", "--classes", "names.txt")
    plain, turned = (teachers.load(tmp_path / name) for name in ("a.pt", "b.pt"))
    assert plain.hash == turned.hash
    in_order = teachers.for_classes(turned, DIGITS)
    assert in_order.hash != turned.hash
    with torch.inference_mode():
        images_NCHW = torch.rand(3, 1, 8, 8)
        told_NK, other_NK = plain.model(images_NCHW), in_order.model(images_NCHW)
    assert torch.equal(other_NK, told_NK.flip(1))
    searched(tmp_path, "--teacher", "b.pt")
    kept = teachers.load(tmp_path / "runs" / "s" / "teacher.pt")
    assert (kept.info.classes, kept.hash) == (DIGITS, in_order.hash)
    with torch.inference_mode():
        assert torch.equal(kept.model(images_NCHW), other_NK)


def test_what_a_file_must_be(tmp_path: Path) -> None:
    scripted(tmp_path / "t.pt")
    own = ("teacher", "describe", "t.pt")
    refused(inside(tmp_path, *own), "--classes-of DATA")
    refused(inside(tmp_path, *own, "--classes-of", "digits"), "--input-size PIXELS")
    grey = ("--input-size", "8", "--mean", "0.5", "--std", "0.5")
    refused(inside(tmp_path, *own, "--classes", "a,b", *grey), "(1, 2)", "(1, 10)")
    refused(inside(tmp_path, *own, "--classes", "a", *grey), "two or more")
    refused(inside(tmp_path, *own, "--classes", "a,a", *grey), "different names")
    colour = ("--classes-of", "digits", "--input-size", "8")
    refused(inside(tmp_path, *own, *colour), "cannot take images of 8 pixels")
    refused(inside(tmp_path, "teacher", "describe", "none.pt", *colour), "none.pt", "No such file")
    refused(inside(tmp_path, "search", "--teacher", "t.pt", *PLACE), "teacher describe FILE")
    (tmp_path / "t.json").write_text("[1]")
    refused(inside(tmp_path, *own, "--classes-of", "digits", *grey), "t.json", "another file")
    (tmp_path / "t.json").unlink()
    named = ",".join((*DIGITS[:-1], "nine"))
    described(tmp_path, "t.pt", "--classes", named)
    refused(inside(tmp_path, "search", *SEARCH, "--teacher", "t.pt"), "does not know '9'")
    tune = ("--network", "resnet18", "--pretrained", "t.pt", "--input-size", "32", *PLACE)
    refused(inside(tmp_path, "teacher", "finetune", *tune), "state_dict()", "teacher describe t.pt")


def test_damaged_files(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    flags = ("--classes-of", "digits", "--input-size", "8", "--mean", "0.5", "--std", "0.5")
    whole = exported(tmp_path / "t.onnx").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "d.onnx").write_bytes(content)
        refused(inside(tmp_path, "teacher", "describe", "d.onnx", *flags), "d.onnx", "ONNX file")
    tune = ("--network", "resnet18", "--pretrained", "d.onnx", "--input-size", "32", *PLACE)
    refused(inside(tmp_path, "teacher", "finetune", *tune), "asked but not fine-tuned")
    described(tmp_path, "t.onnx")
    (tmp_path / "t.onnx").write_bytes(whole[:100])
    refused(inside(tmp_path, "search", *SEARCH, "--teacher", "t.onnx"), "t.onnx", "ONNX file")
    archive = scripted(tmp_path / "t.pt").read_bytes()
    (tmp_path / "t.pt").write_bytes(archive[: len(archive) // 2])
    refused(inside(tmp_path, "teacher", "describe", "t.pt", *flags), "t.pt", "TorchScript")
    torch.save(network().state_dict(), tmp_path / "w.pt")
    refused(inside(tmp_path, "teacher", "describe", "w.pt", *flags), "w.pt", "TorchScript")


def test_another_file_in_a_study_is_refused(tmp_path: Path) -> None:
    described(tmp_path, scripted(tmp_path / "t.pt").name)
    searched(tmp_path, "--teacher", "t.pt")
    scripted(tmp_path / "runs" / "s" / "teacher.pt", seed=1)
    answer = inside(tmp_path, "resume", "s", "--trials", "1", *PLACE)
    refused(answer, "must be the study's teacher")


# --- several teachers


def test_several_teachers_are_asked_as_one(tmp_path: Path) -> None:
    """A file of ours that sees 12 pixels, and an archive of 8 whose classes are turned."""
    train = ("--network", "teacher-small", "--input-size", "12", "--epochs", "1", *PLACE)
    assert inside(tmp_path, "teacher", "train", *train, "--out", "a.pt").status == 0
    scripted(tmp_path / "b.pt")
    described(tmp_path, "b.pt", "--classes", ",".join(reversed(DIGITS)))
    searched(tmp_path, "--teacher", "a.pt", "--teacher", "b.pt")
    kept = tmp_path / "runs" / "s" / "teacher.pt"
    assert sorted(path.name for path in kept.iterdir()) == ["1.json", "1.pt", "2.json", "2.pt"]
    assert (kept / "2.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
    asked = teachers.load(kept)
    assert (asked.info.size, asked.info.asked_at, asked.sizes) == (12, 12, (8, 12))
    images_NCHW = torch.rand(5, 1, 12, 12)
    members = [teachers.load(tmp_path / name).model for name in ("a.pt", "b.pt")]
    with torch.inference_mode():
        first_NK, second_NK = (member(images_NCHW).softmax(1) for member in members)
        told_NK = asked.model(images_NCHW)
    torch.testing.assert_close(told_NK.exp(), (first_NK + second_NK.flip(1)) / 2)
    (tmp_path / "a.pt").unlink()
    (tmp_path / "b.pt").unlink()
    resumed(tmp_path, tmp_path / "elsewhere")
    assert inside(tmp_path, "doctor", "s").status == 0
    told = inside(tmp_path, "teacher", "test", str(kept), *PLACE, "--json").json
    assert told["network"] == "teacher-small + torchscript"
    (kept / "2.json").unlink()
    answer = inside(tmp_path, "doctor", "s", "--dry-run")
    assert (answer.status, "2.json" in answer.out) == (1, True)


def test_several_teachers_in_a_file_of_settings_and_in_a_store(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.pt", "b.pt")):
        described(tmp_path, scripted(tmp_path / name, seed=seed).name)
    (tmp_path / "s.toml").write_text('teacher = ["a.pt", "b.pt"]\nteacher_mix = "logits"\n')
    store = (tmp_path / "store").as_uri()
    answer = inside(tmp_path, "search", *SEARCH, "--config", "s.toml", "--artifacts", store)
    assert answer.status == 0, answer.err
    assert (tmp_path / "store" / "s" / "teacher.pt" / "2.pt").exists()
    own = Folder(str(tmp_path / "studies.db"), "s", f"{store}/s")
    shutil.rmtree(own.path)  # another machine has none of it
    asked = teachers.load(fetch_teacher(own, "teacher"))
    images_NCHW = torch.rand(5, 1, 8, 8)
    with torch.inference_mode():
        logits = [teachers.load(tmp_path / name).model(images_NCHW) for name in ("a.pt", "b.pt")]
        torch.testing.assert_close(asked.model(images_NCHW), (logits[0] + logits[1]) / 2)


def test_what_an_ensemble_depends_on(tmp_path: Path) -> None:
    """Its hash is part of the bank's key."""
    names = [scripted(tmp_path / f"{seed}.pt", seed=seed).name for seed in range(3)]
    for name in names:
        described(tmp_path, name)
    first, second, third = (teachers.load(tmp_path / name) for name in names)
    described(tmp_path, names[0], "--std", "0.25")
    otherwise = teachers.load(tmp_path / names[0])
    assert otherwise.hash == first.hash  # a key has the input of a single teacher beside its hash
    made = [
        teachers.together(members, mix).hash
        for members, mix in [
            ((first, second), "probabilities"),
            ((first, second), "logits"),
            ((first, third), "probabilities"),
            ((first, second, third), "probabilities"),
            ((otherwise, second), "probabilities"),
        ]
    ]
    assert len(set(made)) == len(made)


def test_what_several_teachers_must_be(tmp_path: Path) -> None:
    described(tmp_path, scripted(tmp_path / "a.pt").name)
    several = ("search", *SEARCH, "--teacher", "a.pt", "--teacher")
    refused(inside(tmp_path, *several, "resnet18"), "'resnet18'", "must be a file")
    refused(inside(tmp_path, *several, "a.pt", "--teacher-mix", "votes"), "probabilities, logits")
    scripted(tmp_path / "b.pt")
    described(tmp_path, "b.pt", "--classes", ",".join((*DIGITS[1:], "ten")))
    refused(inside(tmp_path, *several, "b.pt"), "does not know '0'", "teacher describe")
    (tmp_path / "s.toml").write_text("teacher = []\n")
    refused(inside(tmp_path, "search", "--config", "s.toml"), "teacher must be")


def test_an_ablation_may_have_several_teachers(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.pt", "b.pt")):
        described(tmp_path, scripted(tmp_path / name, seed=seed).name)
    plan = 'data = "digits"\nbudget = "5KB"\nepochs = 1\nseeds = 1\n[teachers.both]\n%s\n'
    arms = '[baseline]\narchitecture = "digits-student"\n[factors]\nteacher = ["both", "none"]\n'
    text = plan % 'file = ["a.pt", "b.pt"]\nmix = "logits"' + arms
    (tmp_path / "p.toml").write_text(text)
    answer = inside(tmp_path, "ablate", "run", "p.toml", "--name", "s", *PLACE)
    assert answer.status == 0, answer.err
    assert "torchscript + torchscript" in inside(tmp_path, "ablate", "show", "s").out
    (tmp_path / "p.toml").write_text(text.replace('"logits"', '"votes"'))
    refused(inside(tmp_path, "ablate", "run", "p.toml", *PLACE), "'both'", "mix must be one of")
