"""What a search finds, beside hand-made students, a random one, and what others published.

    python benchmarks/leaderboard.py --data data/cifar10 --folder /tmp/leaderboard

For every budget: a search in a space of late halvings, the same search in `mixed`, and an ablation
that trains what both found, the named architectures and a random student of the space over the
same seeds, all of them solved for the same bytes. The files are then scored on the test split,
once. Searches and ablations are commands that a user types, studies of the folder's database:
interrupted, the benchmark goes on with the studies that are there.

`--page` writes docs/results.md from the CSV files of `--out`, and trains nothing.
"""

import csv
import random
import tomllib
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

import click

from benchmarks import results
from benchmarks.studies import distilnas, ended
from search.database import table
from search.database.engine import open_engine
from search.terminal.output import short
from space.errors import InputError
from space.spaces import random_params, search_space
from trainers.engine.evaluation import choose_device, device_name
from trainers.export import read
from trainers.files import write_atomically

RECIPE = """
[recipe]
base = "default"
batch = 128
lr = 0.2
weight_decay = 2e-4
phases = [[0, 0]]   # no teacher: what is compared is the architecture
[recipe.augment]
scale_min = 1.0
ratio_max = 1.0
shift = 0.125
flip = 0.5
rotation = 0.0
brightness = 0.0
contrast = 0.0
saturation = 0.0
"""
SPACE = """
[space]
base = "pyramid"
early = ["depthwise", "inverted", "residual"]
late = ["depthwise", "inverted", "split"]
stage_kernels = [3, 5]
widths = [0.71, 1.0, 1.41]
expansions = [2, 3]
se = [0, 8]
residual = [true]
activations = ["relu"]
placings = ["even", "late"]
"""
COLUMNS = ("student", "bytes", "MACs", "seeds", "validation", "test", "search, h")
PREFIX = "leaderboard-"
FOUND, EARLIER, RANDOM = "found", "found in mixed", "random"
HAND_MADE = ("report-student", "ntu-ml2020", "teacher-small")
PAGE = Path(__file__).parent.parent / "docs" / "results.md"
BEGIN, END = (
    "<!-- leaderboard: written by benchmarks/leaderboard.py --page -->",
    "<!-- end -->",
)


class Anchor(NamedTuple):
    """A published student of CIFAR-10."""

    name: str
    size: str
    accuracy: float  # test, percent


ANCHORS = (
    Anchor(
        "µNAS ([arXiv:2010.14246](https://arxiv.org/abs/2010.14246)), some 23 GPU days",
        "11.4 KB, weights only",
        86.49,
    ),
    Anchor("TinyVision, one seed", "22,110 parameters, fp32", 87.38),
    Anchor("LilNetX ([arXiv:2204.02965](https://arxiv.org/abs/2204.02965))", "66 KB, coded", 91.5),
    Anchor("[Tiniest](https://github.com/xvel/cifar10-tiniest)", "97,530 parameters, fp32", 94.4),
    Anchor("ResNet-8 of MLPerf Tiny", "98,496 bytes", 86.5),
    Anchor(
        "ResNet-20 ([arXiv:1512.03385](https://arxiv.org/abs/1512.03385))",
        "0.27 M parameters",
        92.6,
    ),
)


@click.command(help=__doc__)
@click.option("--data", help="As of `distilnas search`; has a test split.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Of the studies.")
@click.option("--size", default=32, show_default=True, help="Pixels.")
@click.option("--budgets", default="20KB,11400B", show_default=True, help="In int8.")
@click.option("--macs", default="6M", show_default=True, help="Limit of every student.")
@click.option("--trials", default=24, show_default=True, type=click.IntRange(min=2))
@click.option("--epochs", default=12, show_default=True, type=click.IntRange(min=1))
@click.option("--timeout", default="4h", show_default=True, help="Of each search.")
@click.option("--final-epochs", default=60, show_default=True, type=click.IntRange(min=1))
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(min=1))
@click.option("--parallel", default="1", show_default=True, help="Students at once.")
@click.option("--page", is_flag=True, help="Write docs/results.md from the figures that are there.")
@results.OUT
def main(page: bool, out: Path, data: str | None, folder: Path | None, **asked: Any) -> None:
    if page:
        write_page(out, PAGE)
        return
    if data is None or folder is None:
        raise InputError("--data and --folder must be given; with --page neither is needed")
    folder.mkdir(parents=True, exist_ok=True)
    source = data if data == "digits" else str(Path(data).resolve())
    board = Board(folder, source, asked)
    device = choose_device("auto")
    for budget in asked["budgets"].split(","):
        with results.console().status(f"{budget}: searching") as shown:
            seconds = {place: board.search(place, budget) for place in (FOUND, EARLIER)}
            shown.update(f"{budget}: training what was found, over seeds")
            about = {"data": Path(data).name, "size": asked["size"], "device": device_name(device)}
            rows = [
                {**about, **row, "search_s": seconds.get(str(row["student"]), 0.0)}
                for row in board.final(budget)
            ]
        name = f"{PREFIX}{Path(data).name}-{budget}"
        results.write_csv(results.csv_path(out, name, device), rows)
        results.console().print(results.table(budget, COLUMNS, list(summary(rows))))


class Board(NamedTuple):
    """The studies of a leaderboard."""

    folder: Path
    source: str
    asked: dict[str, Any]

    def search(self, place: str, budget: str) -> float:
        """Search; what was found becomes a JSON file of the folder, as does a student by chance.

        Returns the seconds of all trainings.
        """
        name = f"{place.replace(' ', '-')}-{budget}"
        config = self.folder / f"{name}.toml"
        config.write_text((SPACE if place == FOUND else 'space = "mixed"\n') + RECIPE)
        asked = self.asked
        flags = [
            *("--config", str(config), "--data", self.source, "--size", str(asked["size"])),
            *("--budget", budget, "--macs", asked["macs"], "--teacher", "none"),
            *("--trials", str(asked["trials"]), "--epochs", str(asked["epochs"])),
            *("--timeout", asked["timeout"], "--parallel", asked["parallel"]),
        ]
        found = ended(self.folder, name, "search", *flags)
        student = read(self.folder / found["file"]["path"]).architecture
        (self.folder / f"{place}-{budget}.json").write_text(student.to_json())
        by_chance = self.random_student(budget, student.classes, student.channels)
        (self.folder / f"{RANDOM}-{budget}.json").write_text(by_chance)
        seconds = table.trials(self.engine, name)["seconds"]
        return float(seconds.fillna(0).sum())

    def final(self, budget: str) -> Iterator[dict[str, object]]:
        """Every student of a budget, trained over the seeds and scored once on the test split."""
        name = f"final-{budget}"
        design = self.folder / f"{name}.toml"
        design.write_text(self.design(budget))
        ended(self.folder, name, "ablate", "run", str(design), "--parallel", self.asked["parallel"])
        trained = table.trials(self.engine, name, ("params", "macs"))
        for trial in trained[trained["state"] == "COMPLETE"].to_dict("records"):
            file = self.folder / f"{name}-{trial['number']}.safetensors"
            distilnas(
                self.folder, "export", name, "--trial", str(trial["number"]), "--out", str(file)
            )
            tested = distilnas(self.folder, "test", str(file), "--data", self.source)
            yield {
                "budget": budget,
                "student": trial["params_arm"],
                "seed": trial["params_seed"],
                "epochs": self.asked["final_epochs"],
                "architecture": read(file).architecture.words,
                "params": int(trial["params"]),
                "macs": int(trial["macs"]),
                "bytes": file.stat().st_size,
                "validation": trial["value"],
                "test": tested["accuracy"],
            }

    @property
    def engine(self) -> Any:
        return open_engine(str(self.folder / "studies.db"))

    def random_student(self, budget: str, classes: int, channels: int) -> str:
        """A shape of the space, the same each time."""
        size = self.asked["size"]
        space = search_space(tomllib.loads(SPACE)["space"], size=size)
        params = random_params(space, random.Random(budget))
        return space.shape(params, classes=classes, channels=channels, size=size).to_json()

    def design(self, budget: str) -> str:
        asked = self.asked
        lines = [
            f'data = "{self.source}"\nsize = {asked["size"]}\nbudget = "{budget}"',
            f'format = "int8"\nmacs = "{asked["macs"]}"\nseeds = {asked["seeds"]}',
            f'epochs = {asked["final_epochs"]}\ndesign = "arms"\nteachers = {{}}',
            RECIPE,
            f'[baseline]\nname = "{FOUND}"\narchitecture = "{FOUND}-{budget}.json"',
            *(
                f'[[arms]]\nname = "{arm}"\narchitecture = "{arm}-{budget}.json"'
                for arm in (EARLIER, RANDOM)
            ),
            *(f'[[arms]]\nname = "{arm}"\narchitecture = "{arm}"' for arm in HAND_MADE),
        ]
        return "\n".join(lines)


def summary(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Means over the seeds, a student a row, the best on the test split first."""
    students: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        students.setdefault(str(row["student"]), []).append(row)
    order = sorted(students, key=lambda name: -fmean(float(r["test"]) for r in students[name]))
    for name in order:
        own = students[name]
        yield [
            name,
            f"{int(own[0]['bytes']):,}",
            short(int(own[0]["macs"])),
            str(len(own)),
            *(_spread([float(row[split]) for row in own]) for split in ("validation", "test")),
            f"{float(own[0]['search_s']) / 3600:.1f}" if float(own[0]["search_s"]) else "",
        ]


def _spread(values: list[float]) -> str:
    spread = f" ± {stdev(values) * 100:.1f}" if len(values) > 1 else ""
    return f"{fmean(values) * 100:.1f}{spread} %"


def write_page(out: Path, page: Path) -> None:
    """The tables of docs/results.md, from the newest CSV file of each data set and budget."""
    newest: dict[str, Path] = {}
    for path in sorted(out.glob(f"*-{PREFIX}*.csv")):
        newest[path.name.split(PREFIX)[1]] = path
    if not newest:
        raise InputError(f"{out} must hold a file *-{PREFIX}*.csv; run the benchmark first")
    text = page.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n\n".join(map(_section, newest.values()))
    written = f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"
    write_atomically(page, lambda file: file.write(written.encode()))


def _section(path: Path) -> str:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    first = rows[0]
    published = [[a.name, a.size, "", "", "", f"{a.accuracy} %", ""] for a in ANCHORS]
    lines = [list(COLUMNS), ["---"] * len(COLUMNS), *summary(list(rows))]
    lines += published if first["data"] == "cifar10" else []
    return "\n".join(
        [
            f"### {first['data']}, {first['budget']}, {first['size']} pixels",
            "",
            f"{first['epochs']} epochs, {first['device']} "
            f"([every training](../benchmarks/results/{path.name})).",
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
        ]
    )


if __name__ == "__main__":
    results.run(main)
