"""Every command in README and docs is run as it is typed.

A page's commands run in its order, in one folder with made-up photographs. What would take long is
shortened by flags that follow the typed ones (the last one of two holds); the table RULES says how,
or why a command is not run. A command without a rule fails the test.
"""

import importlib
import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import torch
from brought import exported
from commands import ROOT, Answer, environment, inside
from members import quick_train
from torch import nn

from trainers.teachers import networks

PAGES = ["README.md", "CONTRIBUTING.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))]
PROGRAMS = ("distilnas", "make", "python", "pip", "sbatch", "createuser", "createdb", ".", "export")
LOOP = ("for ", "done")  # a shell's loop: its commands are told apart by hand
BENCHMARK = re.compile(r"python (benchmarks/\w+\.py)([^`)]*)")

DEVICE = "--device cpu --cache cache"
TRAINING = f"--trials 2 --epochs 1 --teacher-epochs 1 --finalists 1 --workers 1 {DEVICE}"
ARMS = f"--epochs 1 --seeds 1 --workers 1 {DEVICE}"


class Rule(NamedTuple):
    begins: str  # of the command; the first rule that fits holds
    more: str | None  # flags that follow; None: not run here
    why: str = ""  # of what is not run


RULES = (
    Rule("make demo", "", "the same as distilnas search"),
    Rule("make ", None, "what CI runs"),
    Rule(". .venv/bin/activate", None, "the tests run in an environment"),
    Rule("pip install", None, "an extra of pyproject.toml: see test_extras_exist"),
    Rule("sbatch ", None, "needs Slurm; its script is run by tests/test_examples.py"),
    Rule("createuser ", None, "an administrator's"),
    Rule("createdb ", None, "an administrator's"),
    Rule("python ", None, "a benchmark: see test_benchmarks_take_the_flags_that_pages_type"),
    Rule("distilnas search ... ", None, "an abbreviation; Ray is tested by test_search_ray.py"),
    Rule("distilnas ablate ablations/$name.toml", None, "a loop over the ready-made designs"),
    Rule("distilnas ablate ablations/teachers.toml --data data/food10", f"--dry-run {DEVICE}"),
    Rule("distilnas ablate show", ""),
    Rule("distilnas ablate", ARMS),
    *(
        Rule(
            f"distilnas teacher finetune --data {photos} --network teachers:",
            f"--input-size 64 --epochs 1 {DEVICE}",
        )
        for photos in ("photos/", "data/food10")
    ),
    Rule(
        "distilnas teacher finetune", f"--pretrained weights.pt --input-size 64 --epochs 1 {DEVICE}"
    ),
    Rule("distilnas teacher describe", ""),
    Rule("distilnas teacher test", DEVICE),
    Rule("distilnas resume convolutions", f"--seeds 2 --workers 1 {DEVICE}"),
    Rule("distilnas resume", f"--trials 1 --workers 1 {DEVICE}"),
    Rule("distilnas worker", DEVICE),
    Rule("distilnas test", DEVICE),
    Rule("distilnas predict", "--device cpu"),
    Rule("distilnas show", ""),
    Rule("distilnas best", ""),
    Rule("distilnas report", ""),
    Rule("distilnas dashboard", "--no-browser"),
    Rule("distilnas search", TRAINING),
)


def commands(page: str) -> Iterator[str]:
    """Commands in the indented and fenced blocks of a page, each in one line, without comments."""
    text = (ROOT / page).read_text().replace("\\\n", " ")
    fenced = False
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            words = shlex.split(line, comments=True, posix=True) if _is_command(line) else []
            if words:
                yield (
                    shlex.join(words).replace("'$name.toml'", "$name.toml").replace("'...'", "...")
                )


def _is_command(line: str) -> bool:
    return (
        line.split()[:1] != [] and line.split()[0] in PROGRAMS and not line.strip().startswith(LOOP)
    )


def rule_of(command: str) -> Rule:
    plain = command.replace("'", "")
    found = next((rule for rule in RULES if plain.startswith(rule.begins)), None)
    assert found is not None, f"no rule says how to run: {command}"
    return found


def test_every_command_has_a_rule() -> None:
    found = [command for page in PAGES for command in commands(page)]
    assert len(found) > 25
    used = {rule_of(command) for command in found if not command.startswith("export ")}
    assert used == set(RULES), "a rule that no command needs"


def test_the_demo_is_a_search() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ndemo:")[2].splitlines()[1]
    assert recipe.strip() == "$(BIN)/distilnas search"
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for page in PAGES:
        for command in commands(page):
            if command.startswith("make "):
                assert command.split()[1] in targets


def test_extras_exist() -> None:
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    for page in PAGES:
        for extra in re.findall(r"distilnas\[(\w+)\]", (ROOT / page).read_text()):
            assert extra in extras, page


def test_benchmarks_take_the_flags_that_pages_type() -> None:
    found = {
        match.groups() for page in PAGES for match in BENCHMARK.finditer((ROOT / page).read_text())
    }
    assert len(found) > 10
    for path, typed in found:
        flags = {word for word in shlex.split(typed) if word.startswith("--")}
        main = importlib.import_module(path.removesuffix(".py").replace("/", ".")).main
        if isinstance(main, click.Command):
            assert flags <= {name for param in main.params for name in param.opts}, (path, typed)
        else:
            text = (ROOT / path).read_text()
            assert all(f'"{flag}"' in text for flag in flags), (path, typed)


def test_named_commands_exist() -> None:
    """In tables and in the text: `distilnas doctor NAME`."""
    from dashboards.cli import cli

    for page in PAGES:
        for words in re.findall(r"`distilnas ([a-z]+)", (ROOT / page).read_text()):
            assert words in cli.commands, f"{page}: distilnas {words}"


@pytest.fixture
def place(
    tmp_path: Path, make_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that the pages name, and students that train in no time."""
    monkeypatch.setattr("search.training.objective.train", quick_train)
    splits = {"train": 8, "val": 3, "test": 3}
    for folder in ("photos", "shared/photos", "data/food10", "unsorted"):
        make_folder(
            tmp_path / folder,
            {f"{split}/{name}/{{}}.jpg": count for split, count in splits.items() for name in "ab"},
        )
    (tmp_path / "lunch.jpg").write_bytes((tmp_path / "photos/test/a/0.jpg").read_bytes())
    (tmp_path / "ablations").symlink_to(ROOT / "ablations")
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    shutil.copy(ROOT / "docs/examples/teachers.py", tmp_path)
    colours = nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3 * 7 * 7, 2))
    exported(tmp_path / "model.onnx", colours, (3, 224, 224))
    for file, network in (("weights.pt", "resnet50"), ("resnet18-cifar10.pt", "resnet18")):
        made = networks.make_network(network, classes=10, channels=3, seed=0).half()
        torch.save(made.state_dict(), tmp_path / file)
    return tmp_path


def run(folder: Path, command: str) -> Answer:
    rule = rule_of(command)
    typed = "distilnas search" if command == "make demo" else command
    more = rule_of(typed).more if command == "make demo" else rule.more
    assert more is not None
    words = shlex.split(typed.replace("/shared", f"{folder}/shared"))[1:]
    if words[0] == "dashboard":
        return served(folder, *words, *more.split(), "--port", str(free_port()))
    return inside(folder, *words, *more.split())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def served(folder: Path, *words: str) -> Answer:
    """A dashboard, until it says where it is; then Ctrl-C."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dashboards", *words],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    rest, _ = process.communicate(timeout=30)
    assert "http://" in said + rest
    return Answer(0 if process.returncode in (0, 130) else process.returncode, said + rest, rest)


def run_all(folder: Path, page: str) -> None:
    for command in commands(page):
        if command.startswith("export "):
            continue
        if rule_of(command).more is not None:
            answer = run(folder, command)
            assert answer.status == 0, (command, answer)


@pytest.mark.slow
def test_readme(place: Path) -> None:
    run_all(place, "README.md")
    best = place / "runs/photos-300KB-int8/best.safetensors"
    assert best.stat().st_size <= 300_000
    for name in ("studies.db", "report.html", "mail-me.html", "teacher.pt", "teacher.json"):
        assert (place / name).exists(), name
    studies = {study["name"]: study for study in inside(place, "studies", "--json").json}
    assert set(studies) == {
        *("digits-20KB-int8", "photos-300KB-int8", "photos-300KB-int8-2"),
        *("convolutions-quick", "convolutions"),
    }
    trained = inside(place, "show", "photos-300KB-int8", "--json").json
    assert len(trained["finalists"]) == 1
    taught = inside(place, "show", "photos-300KB-int8-2", "--json").json
    assert taught["spec"]["teacher"]
    evidence = inside(place, "ablate", "show", "convolutions", "--json").json
    assert evidence["seeds"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_docs(place: Path, page: str) -> None:
    run_all(place, page)
    if page.endswith("scaling.md"):
        assert (place / "shared/studies/photos/best.safetensors").exists()


@pytest.mark.slow
def test_settings_in_a_file(place: Path) -> None:
    """The TOML of README is a file that `search` takes."""
    pattern = r"((?:    .*\n|\n)*    \[recipe\]\n(?:    .*\n)*)"
    block = re.search(pattern, (ROOT / "README.md").read_text())
    assert block
    text = "\n".join(line.removeprefix("    ") for line in block[1].splitlines())
    (place / "settings.toml").write_text(text)
    flags = ("--config", "settings.toml", "--data", "photos", "--dry-run", "--json")
    answer = inside(place, "search", *flags, *DEVICE.split())
    assert answer.status == 0, answer.err
    assert answer.json["recipe"]["epochs"] == 60
    assert json.dumps(answer.json["recipe"]["phases"]) == "[[0.0, 0.5], [0.6, 0.0]]"
