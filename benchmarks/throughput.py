"""Trials an hour: our search against the loop that one would write, and torchdistill's box.

    python benchmarks/throughput.py --data data/food10 --epochs 3 --rounds 3
    python benchmarks/throughput.py --data data/food10 --ablation

Every arm trains the same student on the same photographs, with the same recipe (batch, epochs,
schedule, loss, average), views of the same policy and the same teacher, and is validated after
every epoch. Arms take turns, each round beginning with another; medians over the rounds.

Measured: the wall-clock seconds of whole trials, from an untrained network to its validation
accuracy, optimiser and average included; ours also writes its files. Not in these seconds, but
printed: what is paid once (decoding, the bank of teacher logits, the start of processes) and the
choices of the plain loop (`benchmarks/plain_loop.py`); `untuned` is that loop without them, NCHW
in float32. A search of ten trials, the table's last
column, has decoding and bank in it. Accuracies show that the arms do the same work; a few epochs
say nothing about a network. `--ablation`: our engine with each part switched off alone.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click
import optuna
from rich.console import Console

from benchmarks import distill_box, our_arm, parts, results
from benchmarks.our_arm import Making, Ours
from benchmarks.plain_loop import Plain
from benchmarks.rounds import Arm, Measured, Ran, measure
from benchmarks.summary import Line, csv_rows, shown, summary
from benchmarks.task import Asked, Task, make_task, require_teacher
from search.study.settings import AUTO, parse_workers
from search.training.context import TrainingContext
from search.workers.auto import Typical, open_executor
from space.references import REFERENCES
from trainers.data.datasets import load
from trainers.engine.evaluation import choose_device
from trainers.engine.result import Epoch
from trainers.recipe import recipe

PEERS = ("plain", "untuned", "torchdistill")
OURS = "ours"
MANY = 1000  # trainings that are left, for `--workers auto`
CACHE = Path("~/.cache/distilnas")
COUNT = click.IntRange(min=1)


class Setting(NamedTuple):
    """A run, once everything that is not timed has been done."""

    task: Task
    console: Console  # standard error
    making: Making
    context: TrainingContext
    ours: Ours


def read_peers(_context: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    if not set(names) <= set(PEERS) or len(set(names)) < len(names):
        rule = f"some of {','.join(PEERS)}"
        raise click.BadParameter(f"must be {rule}, but got {text!r}", param=parameter)
    return names


@click.command(context_settings={"show_default": True})
@click.option("--data", default="data/food10", help="Folder of photographs.")
@click.option("--size", type=click.IntRange(8, 1024), default=64, help="Pixels.")
@click.option("--epochs", type=COUNT, default=3)
@click.option("--rounds", type=COUNT, default=3)
@click.option("--batch", type=click.IntRange(min=2), default=64, help="Images.")
@click.option("--architecture", type=click.Choice(list(REFERENCES)), default="ntu-ml2020")
@results.DEVICE
@click.option("--workers", default=AUTO, help="Our students at once; auto measures.")
@click.option("--teacher", default="resnet18", help="A file, or a network to train.")
@click.option("--teacher-epochs", type=COUNT, default=2)
@click.option("--peers", callback=read_peers, default=",".join(PEERS), help="May be empty.")
@click.option("--ablation", is_flag=True, help="Our engine's parts instead of its peers.")
@click.option("--cache", type=click.Path(path_type=Path, file_okay=False), default=CACHE)
@results.OUT
def main(
    data: str,
    size: int,
    epochs: int,
    rounds: int,
    batch: int,
    architecture: str,
    device: str,
    workers: str,
    teacher: str,
    teacher_epochs: int,
    peers: tuple[str, ...],
    ablation: bool,
    cache: Path,
    out: Path,
) -> None:
    """Measure seconds a trial, ours and others'."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    asked = Asked(
        source=data,
        size=size,
        architecture=architecture,
        recipe=recipe("default").with_settings({"epochs": epochs, "batch": batch}),
        teacher=teacher,
        teacher_epochs=teacher_epochs,
        cache=cache.expanduser(),
        device=choose_device(device),
    )
    count = parse_workers(workers)
    require_teacher(teacher)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    with (
        tempfile.TemporaryDirectory(prefix="throughput-") as place,
        prepared(asked, count, Path(place), console) as setting,
    ):
        run(setting, rounds, peers, ablation, out)


def run(setting: Setting, rounds: int, peers: tuple[str, ...], ablation: bool, out: Path) -> None:
    """Measure, print the table, write the CSV file; interrupted, print what there is."""
    name = "ablation" if ablation else "throughput"
    arms, missing = ablation_arms(setting) if ablation else peer_arms(setting, peers)
    measured: Measured = {}
    try:
        measure(arms, rounds, measured, setting.console)
    finally:  # Ctrl-C, or an arm that fails, costs neither the others nor the rounds before
        base = parts.FULL if ablation else PEERS[0]
        once = None if ablation else {OURS: setting.making.total}
        lines = summary(arms, missing, measured, base, once)
        results.console().print(shown(lines, setting.task, base, ablation))
        for line in lines:
            if line.note:
                click.echo(f"{line.arm}: {line.note}")
    path = results.csv_path(out, name, setting.task.device)
    results.write_csv(path, csv_rows(lines, setting.task))
    click.echo(f"written: {path}")


@contextmanager
def prepared(asked: Asked, workers: int | None, place: Path, console: Console) -> Iterator[Setting]:
    """Decode, teach, ask the teacher, start processes: each told with its seconds."""
    photographs = place / "cache"
    began = time.perf_counter()
    load(asked.source, asked.size, cache=photographs)
    decoding = time.perf_counter() - began
    task = make_task(asked, photographs, lambda epoch: _teacher_epoch(console, epoch))
    context_spec = our_arm.make_station(task, place, photographs)
    context = context_spec.context()
    making = Making(decoding, our_arm.make_bank(context, task.recipe))
    console.print(f"once a search: decoding {decoding:.1f} s, bank {making.bank:.1f} s")
    began = time.perf_counter()
    typical = Typical(task.architecture, task.recipe)
    with open_executor(context, context_spec, workers, MANY, lambda: typical, console) as executor:
        ours = Ours(task, executor, context_spec.folder.path)
        ours.warm_up()
        taken = time.perf_counter() - began
        console.print(f"ours: {ours.workers} at once; start and warm-up took {taken:.1f} s")
        yield Setting(task, console, making, context, ours)


def _teacher_epoch(console: Console, epoch: Epoch) -> bool:
    console.print(f"teacher: epoch {epoch.epoch}, validation accuracy {epoch.accuracy:.1%}")
    return False


def ablation_arms(setting: Setting) -> tuple[list[Arm], list[Line]]:
    return parts.arms(setting.task, setting.context, setting.ours), []


def peer_arms(setting: Setting, peers: tuple[str, ...]) -> tuple[list[Arm], list[Line]]:
    """The arms, and a line for each that cannot run."""
    making, task = setting.making, setting.task
    plain = Plain(task)
    if peers:
        plain.tune(setting.console.print)
        plain.warm_up()
    arms, missing = [], []
    if "plain" in peers:
        arms.append(Arm("plain", lambda number: timed(plain.trial, number), plain.choices.words))
    if "untuned" in peers:
        usual = Plain(task)
        usual.warm_up()
        words = f"the plain loop as most write it: {usual.choices.words}"
        arms.append(Arm("untuned", lambda number: timed(usual.trial, number), words))
    if "torchdistill" in peers:
        try:
            if distill_box.MISSING:
                raise ImportError(distill_box.MISSING)
            box = distill_box.Box(plain)
            box.warm_up()
        except Exception as error:  # an optional peer must not end the run
            missing.append(Line("torchdistill", f"left out: {_line(error)}"))
        else:
            note = f"release {distill_box.VERSION}, {plain.choices.words}"
            arms.append(Arm("torchdistill", lambda number: timed(box.trial, number), note))
    once = f"decoding {making.decoding:.1f} s and bank {making.bank:.1f} s once a search"
    note = f"{setting.ours.workers} at once, {once}"
    return [*arms, Arm(OURS, setting.ours.round, note)], missing


def timed(trial: Callable[[int], float], number: int) -> Ran:
    """A trial of which nothing is known but its accuracy, which has waited for the device."""
    began = time.perf_counter()
    accuracy = trial(number)
    return Ran(time.perf_counter() - began, (accuracy,))


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


if __name__ == "__main__":
    results.run(main)
