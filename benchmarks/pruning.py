"""What stopping trials early costs and saves: whole searches, with each pruner, over seeds.

    python benchmarks/pruning.py --folder /tmp/pruning

Each search is the command `distilnas search`, a study of the database in the folder: interrupted,
the benchmark goes on with the studies that are there. What a search found is scored once on the
test split. `halving, more trials` has twice the trials: about the epochs of a search without a
pruner.
"""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import click

from benchmarks import results
from benchmarks.studies import distilnas, ended
from search.database import table
from search.database.engine import open_engine
from search.terminal.savings import savings
from trainers.engine.evaluation import choose_device

ARMS = {  # pruner, and how many times the trials
    "none": ("none", 1),
    "halving": ("halving", 1),
    "halving, more trials": ("halving", 2),
    "hyperband": ("hyperband", 1),
    "median": ("median", 1),
}


@click.command(help=__doc__)
@click.option("--data", default="digits", show_default=True, help="As of `distilnas search`.")
@click.option("--size", type=int, help="Pixels.")
@click.option("--budget", default="5KB", show_default=True)
@click.option("--trials", default=16, show_default=True, type=click.IntRange(min=2))
@click.option("--epochs", default=20, show_default=True, type=click.IntRange(min=4))
@click.option("--seeds", default=8, show_default=True, type=click.IntRange(min=2))
@click.option(
    "--folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Of the studies.",
)
@results.OUT
def main(
    data: str,
    size: int | None,
    budget: str,
    trials: int,
    epochs: int,
    seeds: int,
    folder: Path,
    out: Path,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    source = data if data == "digits" else str(Path(data).resolve())
    common = ["--data", source, "--budget", budget, "--epochs", str(epochs), "--device", "cpu"]
    common += ["--size", str(size)] if size else []
    rows = []
    with results.console().status("searching") as shown:
        for seed in range(seeds):
            for arm, (pruner, times) in ARMS.items():
                shown.update(f"seed {seed + 1} of {seeds}: {arm}")
                flags = ["--seed", str(seed), "--pruner", pruner, "--trials", str(trials * times)]
                name = f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
                rows.append({"arm": arm, "seed": seed, **searched(folder, name, common + flags)})
    device = choose_device("cpu")
    results.write_csv(results.csv_path(out, f"pruning-{Path(data).name}-{budget}", device), rows)
    results.console().print(results.table("Pruners", COLUMNS, list(summary(rows))))


COLUMNS = ("pruner", "trials", "stopped early", "epochs", "of those without", "validation", "test")


def searched(folder: Path, name: str, flags: list[str]) -> dict[str, Any]:
    """A search's figures; trained now, from where it stands, unless that was done."""
    found = ended(folder, name, "search", *flags)
    engine = open_engine(str(folder / "studies.db"))
    trials, spec = table.trials(engine, name), table.attributes(engine, name)["spec"]
    saved = savings(trials, spec)
    trained = trials[trials["duplicate_of"].isna() & trials["epochs"].notna()]
    tested = distilnas(folder, "test", found["file"]["path"], "--data", spec["source"])
    return {
        "trials": len(trained),
        "stopped": saved.stopped if saved else 0,
        "epochs": int(trained["epochs"].sum()),
        "epochs_of_all": int(spec["recipe"]["epochs"]) * len(trained),
        "validation": found["best"][0]["value"],
        "test": tested["accuracy"],
    }


def summary(rows: list[dict[str, Any]]) -> Iterator[list[str]]:
    """Means over the seeds, an arm a row."""
    for arm in ARMS:
        own = [row for row in rows if row["arm"] == arm]
        part = sum(row["epochs"] for row in own) / sum(row["epochs_of_all"] for row in own)
        yield [
            arm,
            *(f"{mean(row[name] for row in own):.1f}" for name in ("trials", "stopped", "epochs")),
            f"{part:.0%}",
            *(_spread([row[name] for row in own]) for name in ("validation", "test")),
        ]


def _spread(values: list[float]) -> str:
    return f"{mean(values):.1%} +- {stdev(values):.1%}"


if __name__ == "__main__":
    results.run(main)
