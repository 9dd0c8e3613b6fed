"""Digests that are stored: files, folders and rows of today carry them, so they must not change."""

from pathlib import Path

import tiny
import torch
from folders import bitmaps, quietly
from torch import nn

from search.study.naming import plain_name
from search.study.plan import AblationSpec, Arm
from search.study.spec import SearchSpec
from search.training.job import Job
from space.fingerprint import file_fingerprint, fingerprint
from space.solver import Budget
from space.spaces import REFERENCES, reference
from trainers.data.datasets import load
from trainers.model import weights_hash
from trainers.recipe import RECIPES
from trainers.teachers.bank import bank_key
from trainers.teachers.teach import teacher_key
from trainers.teachers.teacher import Teacher

SHARED = {
    "source": "digits",
    "data": "0123456789ab",
    "classes": ("ä", "b"),
    "channels": 1,
    "size": 8,
    "version": "0.1.0",
}
SEARCH = SearchSpec(
    space="mixed",
    compressed_stem=False,
    budget=Budget.parse("20KB", "int8", "2M"),
    multiple=4,
    recipe=RECIPES["digits"],
    sampler="tpe",
    pruner="halving",
    seed=0,
    teacher="a" * 12,
    **SHARED,  # type: ignore[arg-type]
)
ARM = Arm(
    name="größer",
    levels={"se": "4"},
    architecture=tiny.ARCHITECTURE,
    recipe=tiny.SOFT,
    format="fp16",
    teacher="scratch",
    budget_share=0.5,
)
ABLATION = AblationSpec(
    question="?",
    design="one-factor",
    size_matched=True,
    budget="20 KB in int8",
    shared_views=True,
    factors={"se": ("0", "4")},
    arms=(ARM,),
    baseline=ARM.name,
    validation=359,
    taught={"scratch": "b" * 12},
    described={"scratch": {"accuracy": 0.5}},
    published={"source": "them", "accuracy": {ARM.name: 0.5}},
    **SHARED,  # type: ignore[arg-type]
)


LONG_NAME = "果物, and a name that is longer than any folder may be called, by far"
GOLDEN = {
    "ntu-ml2020": "71abbfb93204",
    "report-student": "e96ffafda89f",
    "digits-student": "fd3dd3dcf817",
    "teacher-small": "81a0f598b97b",
    "default": "5c2a2717641d",
    "patient": "6e49611f05cd",
    "report-sgd": "fd5360478dde",
    "report-adam": "cf288bc0430a",
    "digits": "78c28c559a59",
    "teacher-scratch": "3297f2b41d29",
    "teacher-finetune": "c6dc29fb70d1",
    "teacher-digits": "1ce11e8d9494",
    "search": "954bf4cd8a1f",
    "ablation": "87ae5a969857",
    "training": "6719e4901b1f",
    "teacher": "b1daf02cc837",
    "tuned": "494ba1765b26",
    "weights": "b9002f4e729b",
    "bank": "cf9c916dd53b3a58",
    "handwritten": "dbcab5dcc7da",
    "photographs": "a8fc834eeff5",
    "files": "67abd9e57527485458b14ad8.npy fc1d19a37b8b8e60ab3af40b.npy",
    "name": "and-a-name-that-is-longer-than-any-folder-may-be-call-add75d",
}


def found(cache: Path, photos: Path) -> dict[str, str]:
    its = tiny.teacher()
    data, job = tiny.data(), Job(ARM.architecture, ARM.recipe, ARM.format, ARM.teacher, "trial0000")
    return {
        **{name: reference(name, classes=11).fingerprint for name in REFERENCES},
        **{name: RECIPES[name].fingerprint for name in RECIPES},
        "search": SEARCH.hash,
        "ablation": ABLATION.hash,
        "training": job.training,
        "teacher": teacher_key("resnet18", data, tiny.RECIPE),
        "tuned": teacher_key("resnet18", data, tiny.RECIPE, 16, "imagenet"),
        "weights": weights_hash(weights()),
        "bank": bank_key(Teacher(its.model, its.info, "c" * 12), data, tiny.SOFT, "fp32"),
        "handwritten": load("digits", cache=cache).fingerprint,
        "photographs": quietly(photos, cache).fingerprint,
        "files": " ".join(sorted(path.name for path in cache.glob("*.npy"))),
        "name": plain_name(LONG_NAME, ""),
    }


def weights() -> nn.Module:
    """Weights that no generator draws, among them a counter without dimensions."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.arange(weight.numel()).view(weight.shape) / 8)
    return network


def test_they_are_what_they_were(tmp_path: Path) -> None:
    names = [f"{split}/{kind}/{n}.bmp" for split in ("train", "val") for kind in "ab" for n in "12"]
    photos = bitmaps(tmp_path / "photos", names)
    assert found(tmp_path / "cache", photos) == GOLDEN


def test_parts_are_taken_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one two")
    assert fingerprint("one", b" ", memoryview(b"two")) == fingerprint("one two")
    assert fingerprint("one two", digits=64) == file_fingerprint(path)
    assert fingerprint({"a": 1, "b": (2, None)}) == fingerprint('{"a": 1, "b": [2, null]}')
    assert fingerprint({"b": 1, "a": 2}) == fingerprint({"a": 2, "b": 1}) != fingerprint({"a": 2})
