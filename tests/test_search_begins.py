"""How a search begins and ends: what is refused, where paths lead, what is proposed next."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import ROOT, Answer, distilnas, environment, inside, refused
from members import quick_train

QUICK = (
    *("--trials", "2", "--epochs", "2", "--teacher", "none", "--device", "cpu"),
    *("--cache", "cache", "--size", "16"),
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.training.objective.train", quick_train)


@pytest.fixture
def photos(tmp_path: Path, make_folder: Callable[..., Path]) -> Path:
    counts = {f"{split}/{name}/{{}}.jpg": 4 for split in ("train", "val", "test") for name in "ab"}
    return make_folder(tmp_path / "photos", counts)


REFUSED: dict[str, tuple[str, ...]] = {
    "teacher": ("--teacher", "foo"),
    "teacher's file": ("--teacher", "photos"),
    "a network that cannot see so little": ("--teacher", "alexnet"),
    "data": ("--data", "nowhere"),
    "database's folder": ("--storage", "nowhere/studies.db"),
    "database": ("--storage", "photos"),
    "database of another kind": ("--storage", "words.txt"),
    "address": ("--storage", "nosuch://host/db"),
    "server": ("--storage", "postgresql+psycopg://nobody@127.0.0.1:1/db"),
    "name": ("--name", "-x"),
    "name that is taken": ("--name", "taken"),
    "out is a folder": ("--out", "photos"),
    "out lies in a file": ("--out", "words.txt/best.safetensors"),
    "store": ("--artifacts", "s3://key:secret@bucket"),
    "device": ("--device", "tpu"),
    "workers": ("--workers", "0"),
    "limit": ("--timeout", "soon"),
    "budget": ("--budget", "300B"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_dry_run_refuses_what_the_run_would(tmp_path: Path, photos: Path, what: str) -> None:
    (tmp_path / "words.txt").write_text("no database, and no folder either\n")
    if what == "name that is taken":
        assert inside(tmp_path, "search", "--data", "photos", *QUICK, "--name", "taken").status == 0
    flags: tuple[str, ...] = ("--data", "photos", *QUICK, *REFUSED[what])
    if "network" in what:
        flags = (*flags, "--size", "16")
    answers = [
        inside(tmp_path, "search", *flags, *how) for how in (("--dry-run",), ("--prepare",), ())
    ]
    for answer in answers:
        refused(answer)
    assert len({answer.err.splitlines()[-1] for answer in answers}) == 1


ABLATION = """
epochs = 1
seeds = 1
budget = "5KB"
recipe = {{ base = "digits", phases = [[0, 1]] }}
[baseline]
architecture = "digits-student"
teacher = "one"
[teachers.one]
{teacher}
[factors]
se = [0, 4]
"""
ABLATION_REFUSED: dict[str, tuple[str, ...]] = {
    "name that is taken": ("epochs = 1", "--name", "taken"),
    "damaged teacher": ('file = "damaged.pt"',),
    "a network that cannot see so little": ('network = "alexnet"',),
    "database's folder": ("epochs = 1", "--storage", "nowhere/studies.db"),
    "store": ("epochs = 1", "--artifacts", "s3://key:secret@bucket"),
    "no cluster": ("epochs = 1", "--on", "ray"),
}


@pytest.mark.parametrize("what", ABLATION_REFUSED)
def test_a_dry_run_refuses_what_an_ablation_would(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    teacher, *flags = ABLATION_REFUSED[what]
    (tmp_path / "spec.toml").write_text(ABLATION.format(teacher=teacher))
    (tmp_path / "damaged.pt").write_bytes(b"PK no more")
    facts = {"network": "resnet18", "classes": [str(digit) for digit in range(10)]}
    metadata = {"channels": 3, "size": 8, "mean": [0.0] * 3, "std": [1.0] * 3, "accuracy": None}
    (tmp_path / "damaged.json").write_text(json.dumps(facts | metadata))
    if what == "name that is taken":
        digits = ("--trials", "1", "--epochs", "1", "--teacher", "none", "--device", "cpu")
        assert inside(tmp_path, "search", *digits, "--name", "taken").status == 0
    usual = ("--cache", "cache", "--device", "cpu")
    answers = [
        inside(tmp_path, "ablate", "spec.toml", *usual, *flags, *how)
        for how in (("--dry-run",), ())
    ]
    for answer in answers:
        refused(answer)
    assert len({answer.err.splitlines()[-1] for answer in answers}) == 1


def test_a_file_of_one_byte_stays_as_it_is(tmp_path: Path) -> None:
    """SQLite would take it for an empty database."""
    (tmp_path / "studies.db").write_bytes(b"x")
    refused(inside(tmp_path, "search", *QUICK), "studies.db must be an SQLite database")
    assert (tmp_path / "studies.db").read_bytes() == b"x"


def test_a_dry_run_writes_nothing(tmp_path: Path, photos: Path) -> None:
    answer = inside(tmp_path, "search", "--data", "photos", *QUICK, "--dry-run", "--out", "a/b")
    assert answer.status == 0, answer.err
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "cache"}


def test_paths_at_home(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    work = tmp_path / "work"
    work.mkdir()
    (work / "settings.toml").write_text('data = "~/photos"\nout = "~/out/best.safetensors"\n')
    flags = (*QUICK, "--storage=sqlite:///~/s.db", "--cache=~/cache")
    answer = inside(work, "search", "--config", "~/work/settings.toml", *flags)
    assert answer.status == 0, answer.err
    for name in ("s.db", "cache", "out/best.safetensors", "runs"):
        assert (tmp_path / name).exists()
    assert {path.name for path in work.iterdir()} == {"settings.toml"}
    for storage in ("sqlite:///~/s.db", "~/s.db"):
        assert inside(work, "studies", "--json", f"--storage={storage}").json[0]["complete"]
    monkeypatch.setenv("DISTILNAS_STORAGE", "~/s.db")
    assert inside(work, "studies", "--json").json[0]["complete"]
    file = "~/out/best.safetensors"
    assert inside(work, "test", file, "--data=~/photos", "--cache=~/cache").status == 0
    assert inside(work, "size", file).status == 0


def test_a_search_of_large_photographs_is_planned(tmp_path: Path, photos: Path) -> None:
    """It ended by SIGSEGV: see `tests/test_space_gradients.py`."""
    flags = ("--size", "256", "--trials", "1", "--epochs", "1", "--teacher", "none", "--dry-run")
    answer = distilnas(tmp_path, "search", "--data", "photos", "--cache", "cache", *flags)
    assert answer.status == 0, answer


@pytest.mark.parametrize(
    ("command", "first"),
    [
        (("search",), "search: loading PyTorch"),
        (("search", "--dry-run"), "dry run: loading PyTorch"),
        (("resume", "s"), "resume s: loading PyTorch"),
        (("worker", "s"), "worker for s: loading PyTorch"),
        (("ablate", "a.toml"), "ablation a.toml: loading PyTorch"),
        (("teacher", "train"), "teacher: loading PyTorch"),
        (("test", "f.safetensors", "--data", "digits"), "test of f.safetensors: loading PyTorch"),
    ],
)
def test_the_first_line_comes_before_pytorch(
    tmp_path: Path, command: tuple[str, ...], first: str
) -> None:
    """Which takes seconds to load; here it ends the process instead."""
    (tmp_path / "torch.py").write_text("raise SystemExit(7)")
    done = subprocess.run(
        [sys.executable, "-m", "search", *command],
        cwd=tmp_path,
        env=environment() | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (7, "", f"{first}\n")


def test_what_happens_is_said_in_its_order(tmp_path: Path) -> None:
    flags = ("--trials", "2", "--epochs", "2", "--teacher-epochs", "1", "--device", "cpu")
    answer = inside(tmp_path, "search", *flags, "--cache", "cache", "--json")
    assert answer.status == 0, answer.err
    message = [
        "search: loading PyTorch",
        "digits: 1,079 images to train on, 359 to validate on, 10 classes, 8 pixels",
        "teacher: teacher-small from scratch, 1 epoch; then 2 trials",
        "teacher: validation accuracy",
        "trial 0: ",
        "1/2 trials; ",
        "2/2 trials; ",
    ]
    lines = answer.err.splitlines()
    places = [next(i for i, line in enumerate(lines) if line.startswith(text)) for text in message]
    assert places == sorted(places)
    assert answer.json["study"] == "digits-20KB-int8"  # and nothing else on standard output
    assert "0/1" not in answer.err


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    answer = inside(tmp_path, "search", "--storage", "no where/studies.db")
    refused(answer, "no where is not", "mkdir -p 'no where'")


def hints(answer: Answer) -> list[str]:
    """The commands that are proposed at the end."""
    lines = answer.out.partition("go on with:")[2].splitlines()
    return [line.strip() for line in lines if line.strip().startswith("distilnas ")]


def test_what_is_proposed_works_as_it_is_typed(tmp_path: Path, photos: Path) -> None:
    """In a folder with a space, with a database and a cache that are not the default ones."""
    folder = tmp_path / "my work"
    folder.mkdir()
    there = ("--cache", str(tmp_path / "cache"))
    flags = (*QUICK, "--storage", "my studies.db", "--name", "s", *there)
    answer = inside(folder, "search", "--data", "../photos", *flags)
    assert answer.status == 0, answer.err
    proposed = hints(answer)
    assert len(proposed) == 3
    assert "resume s --trials 2 " in proposed[1]  # as many as were asked for
    for command in proposed:
        typed = shlex.split(command)[1:]
        assert inside(folder, *typed).status == 0, command


def test_after_the_photographs_moved(tmp_path: Path, photos: Path) -> None:
    assert inside(tmp_path, "search", "--data", "photos", *QUICK, "--name", "s").status == 0
    photos.rename(tmp_path / "moved")
    cache = ("--cache", "cache", "--device", "cpu")
    answer = inside(tmp_path, "resume", "s", "--trials", "1", "--data", "moved", *cache)
    assert answer.status == 0, answer.err
    _, resume, test = hints(answer)
    assert "--trials 1 --data moved" in resume
    assert "--data moved" in test
    for command in (resume, test):
        assert inside(tmp_path, *shlex.split(command)[1:]).status == 0, command
