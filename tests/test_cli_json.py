"""`--json`, of every command: one document on standard output, and nothing else there."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from brought import scripted
from commands import environment, inside, refused
from dashboard_server import free_port
from members import quick_train
from PIL import Image
from test_dashboards_server import ask

from dashboards.cli import cli
from trainers.engine.result import TrialResult

HERE = ("--cache", "cache", "--device", "cpu")
SEARCH = ("--trials", "2", "--epochs", "2", "--teacher", "none", *HERE)
STUDENT = "runs/s/best.safetensors"
PLAN = """
data = "digits"
budget = "5KB"
epochs = 2
seeds = 2
[baseline]
architecture = "digits-student"
teacher = "none"
[factors]
se = [0, 4]
"""
# Commands, what they are given, and a part of what they answer.
ANSWERS: list[tuple[str, tuple[str, ...], Any]] = [
    ("search", (*SEARCH, "--name", "new"), {"study": "new"}),
    ("search", (*SEARCH, "--dry-run"), {"recipe": ...}),
    ("search", (*SEARCH, "--name", "made", "--prepare"), {"study": "made"}),
    ("resume", ("s", "--trials", "1", *HERE), {"study": "s"}),
    ("resume", ("arms", *HERE), {"study": "arms"}),
    ("worker", ("waiting", *HERE), {"study": "waiting", "finalists": 0, "ended": True}),
    ("doctor", ("s",), {"study": "s", "findings": []}),
    ("studies", (), [{"name": "s"}, ...]),
    ("show", ("s",), {"study": "s"}),
    ("show", ("s", "0"), {"number": 0}),
    ("best", ("s",), {"study": "s", "images": 359}),
    ("export", ("s", "--out", "x.safetensors"), {"file": "x.safetensors"}),
    ("test", (STUDENT, "--data", "digits", *HERE), {"file": STUDENT, "images": 359}),
    ("predict", (STUDENT, "a.png", "--device", "cpu"), [{"image": "a.png"}]),
    ("size", (STUDENT,), {"params": ...}),
    ("space", ("pyramid", "--size", "32"), {"choices": {"halvings": [3, 2, 1]}}),
    ("ablate run", ("plan.toml", *HERE, "--name", "more"), {"study": "more", "seeds": 2}),
    ("ablate run", ("plan.toml", *HERE, "--dry-run"), {"seeds": 2}),
    ("ablate show", ("arms",), {"study": "arms", "seeds": 2}),
    ("teacher train", ("--epochs", "1", *HERE), {"file": "teacher.pt", "split": "validation"}),
    (
        "teacher finetune",
        ("--epochs", "1", "--network", "teacher-small", "--pretrained", "t.pt", *HERE),
        {"file": "teacher.pt", "split": "validation"},
    ),
    (
        "teacher describe",
        ("a.ts", "--classes-of", "digits", "--input-size", "8", "--mean", "0.5", "--std", "0.5"),
        {"file": "a.json", "network": "torchscript", "classes": 10},
    ),
    ("teacher test", ("t.pt", *HERE), {"file": "t.pt", "split": "test"}),
    ("report", ("s",), {"file": "report.html", "studies": ["s"]}),
]
WRONG = [
    ("search", ("--budget", "300"), "unit"),
    ("resume", ("nowhere",), "nowhere"),
    ("worker", ("nowhere",), "nowhere"),
    ("doctor", ("nowhere",), "nowhere"),
    ("studies", ("--storage", "nowhere.db"), "nowhere.db"),
    ("show", ("nowhere",), "nowhere"),
    ("best", ("nowhere",), "nowhere"),
    ("export", ("nowhere", "--out", "x"), "nowhere"),
    ("space", ("nowhere",), "pyramid"),
    ("test", ("nowhere.safetensors", "--data", "digits"), "nowhere.safetensors"),
    ("predict", ("nowhere.safetensors", "a.png"), "nowhere.safetensors"),
    ("size", ("nothing",), "nothing"),
    ("ablate run", ("nowhere.toml",), "nowhere.toml"),
    ("ablate show", ("nowhere",), "nowhere"),
    ("teacher train", ("--network", "resnet17"), "resnet17"),
    ("teacher finetune", ("--pretrained", "nowhere.pt"), "nowhere.pt"),
    ("teacher describe", ("nowhere.pt", "--classes", "a,b"), "nowhere.pt"),
    ("teacher test", ("nowhere.pt",), "nowhere.pt must be a file"),
    ("dashboard", ("--port", "0"), "--port"),
    ("report", ("nowhere",), "nowhere"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """With a search, one that waits for workers, an ablation, a teacher, a picture."""
    place = tmp_path_factory.mktemp("json")
    (place / "plan.toml").write_text(PLAN)
    Image.new("L", (20, 20), 128).save(place / "a.png")
    scripted(place / "a.ts")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.training.objective.train", quick_train)
        for arguments in (
            ("search", *SEARCH, "--name", "s"),
            ("search", *SEARCH, "--name", "waiting", "--prepare"),
            ("ablate", "plan.toml", *HERE, "--name", "arms"),
            ("teacher", "train", "--epochs", "1", *HERE, "--out", "t.pt"),
        ):
            answer = inside(place, *arguments)
            assert answer.status == 0, answer.err
        yield place


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


def holds(document: Any, part: Any) -> bool:
    """Whether a document has at least this part of it; `...` is anything."""
    if isinstance(part, dict):
        return all(key in document and holds(document[key], value) for key, value in part.items())
    if isinstance(part, list):
        pairs = zip(document, part, strict=... not in part)
        return all(holds(inner, value) for inner, value in pairs)
    return part is ... or bool(document == part)


def test_every_command_has_it_and_is_tried_here() -> None:
    known = dict(commands(cli))
    for name, command in known.items():
        flags = [flag for option in command.params for flag in option.opts]
        assert "--json" in flags, name
    assert known.keys() == {name for name, *_ in ANSWERS} | {"dashboard"}
    assert known.keys() == {name for name, *_ in WRONG}


@pytest.mark.parametrize(("command", "arguments", "part"), ANSWERS)
def test_one_document_and_nothing_else(
    folder: Path, command: str, arguments: tuple[str, ...], part: Any
) -> None:
    answer = inside(folder, *command.split(), *arguments, "--json")
    assert answer.status == 0, answer.err
    assert holds(answer.json, part), answer.out


@pytest.mark.parametrize(("command", "arguments", "word"), WRONG)
def test_nothing_at_all_where_the_input_is_wrong(
    folder: Path, command: str, arguments: tuple[str, ...], word: str
) -> None:
    answer = inside(folder, *command.split(), *arguments, "--json")
    refused(answer, word)
    assert answer.out == ""


def interrupted(*rest: Any, **more: Any) -> TrialResult:
    os.kill(os.getpid(), signal.SIGTERM)  # heeded after the epoch
    return quick_train(*rest, **more)


def test_what_a_worker_did(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = ("--name", "shared", "--trials", "4", "--finalists", "1", "--prepare")
    assert inside(folder, "search", *SEARCH, *study).status == 0
    monkeypatch.setattr("search.training.objective.train", interrupted)
    answer = inside(folder, "worker", "shared", *HERE, "--json")
    assert answer.status == 128 + signal.SIGTERM
    assert answer.json == {"study": "shared", "trials": {}, "finalists": 0, "ended": False}
    monkeypatch.setattr("search.training.objective.train", quick_train)
    told = inside(folder, "worker", "shared", *HERE, "--json").json
    assert (told["finalists"], told["ended"]) == (3, True)
    assert told["trials"] == states(folder, "shared")
    told = inside(folder, "worker", "shared", *HERE, "--json").json
    assert told == {"study": "shared", "trials": {}, "finalists": 0, "ended": True}


def test_what_a_worker_did_for_an_ablation(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = states(folder, "arms").total()
    monkeypatch.setattr("search.training.objective.train", interrupted)
    assert inside(folder, "resume", "arms", "--seeds", "4", *HERE).status == 128 + signal.SIGTERM
    monkeypatch.setattr("search.training.objective.train", quick_train)
    told = inside(folder, "worker", "arms", *HERE, "--json").json
    assert told["ended"] is True
    assert sum(told["trials"].values()) == states(folder, "arms").total() - before == 4


def test_a_limit_is_no_end(folder: Path) -> None:
    study = ("--name", "limited", "--prepare", "--gpu-hours", "1e-9")
    assert inside(folder, "search", *SEARCH, *study).status == 0
    told = [inside(folder, "worker", "limited", *HERE, "--json").json for _ in range(3)][-1]
    assert told == {"study": "limited", "trials": {}, "finalists": 0, "ended": False}


def states(folder: Path, name: str) -> Counter[str]:
    trials = inside(folder, "show", name, "--json").json["trials"]
    return Counter(trial["state"] for trial in trials)


@pytest.mark.parametrize("flags", [(), ("--host", "0.0.0.0", "--allow-host", "lab.example")])
def test_the_dashboard_tells_its_address(folder: Path, flags: tuple[str, ...]) -> None:
    port = free_port()
    command = [sys.executable, "-m", "dashboards", "dashboard", "--json", "--port", str(port)]
    process = subprocess.Popen(
        [*command, *flags], cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())  # whole, and at once
        host = "lab.example" if flags else "127.0.0.1"
        query = f"?token={told['token']}" if flags else ""
        address = f"http://{host}:{port}/{query}"
        assert told == {"address": address, "token": told["token"], "storage": "studies.db"}
        assert (told["token"] is None) == (not flags)
        entered = ask(f"http://127.0.0.1:{port}", f"/{query}", Host=f"{host}:{port}")
        assert entered.status == (302 if flags else 200)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=20)[0] == ""
    finally:
        process.kill()
        process.communicate()
