"""Study databases of any number of trials, as a search would have written them.

    python benchmarks/synthetic_studies.py OUT.db --trials 10000

Students are real (drawn from the space `mixed`, widths solved for budgets between 20 and 300 KB),
their accuracies are made up: rising with size, better with some blocks, and chance. Rows are
inserted set-based: Optuna's own way takes hours for 50,000 trials.
"""

import argparse
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.distributions import distribution_to_json

from search.database.row import Row
from search.database.storage import backend_of, open_storage
from search.study.samplers import distributions
from search.study.spec import SearchSpec
from search.study.study import FINALISTS, TARGET, create
from search.training.row import described
from space.solver import Budget, solve
from space.spaces import SearchSpace, random_params
from trainers.recipe import recipe

CLASSES = tuple(f"dish {place}" for place in range(11))
SIZE = 64  # pixels
EPOCHS = 25
PRUNED, FAILED, RUNNING = 0.42, 0.02, 3  # shares of the trials, and a number
PRUNED_BEHIND = (3, 6, 12)  # epochs
BATCH = 2_000  # trials a transaction
BEGIN = datetime(2026, 11, 1)
HELP = {"conv": 0.0, "residual": 0.01, "inverted": 0.03, "depthwise": 0.035, "group": 0.02}


def make(path: Path, trials: int, seed: int = 0, name: str = "synthetic") -> None:
    """Add a study to the database at `path`, which is made where there is none."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    spec = make_spec()
    storage = open_storage(str(path), create=True)
    study = create(storage, name, spec, {TARGET: trials, FINALISTS: 0})
    identity = backend_of(study).study_id
    rng = random.Random(seed)
    with storage.engine.begin() as connection:
        first = connection.execute(sa.text("SELECT COALESCE(MAX(trial_id), 0) FROM trials"))
        before = int(first.scalar_one())
    students = (student(spec, rng, number, trials) for number in range(trials))
    for begin in range(0, trials, BATCH):
        part = [next(students) for _ in range(min(BATCH, trials - begin))]
        with storage.engine.begin() as connection:
            for table, rows in rows_of(part, identity, before, spec.search_space).items():
                connection.execute(sa.text(insert(table, rows[0])), rows)
    storage.remove_session()
    storage.engine.dispose()


def make_spec() -> SearchSpec:
    return SearchSpec(
        space="mixed",
        compressed_stem=False,
        budget=Budget.parse("300KB", "int8", None),
        multiple=4,
        recipe=replace(recipe("default"), epochs=EPOCHS),
        sampler="random",
        pruner="halving",
        seed=0,
        source="synthetic",
        data="0" * 12,
        classes=CLASSES,
        channels=3,
        size=SIZE,
        teacher="",
        version="synthetic",
    )


def student(spec: SearchSpec, rng: random.Random, number: int, trials: int) -> dict[str, Any]:
    """A trial: number, state, params, attributes, curve, value, times."""
    params = random_params(spec.search_space, rng)
    shape = spec.search_space.shape(params, classes=len(CLASSES), channels=3, size=SIZE)
    limit = round(math.exp(rng.uniform(math.log(20e3), math.log(300e3))))
    solution = solve(shape, Budget.parse(f"{limit}B", "int8", None), spec.metadata, multiple=4)
    row = described(solution.architecture, spec.metadata, "int8")
    share = (row.bytes or 0) / spec.budget.limit
    row = replace(row, budget_share=share, repairs=list(solution.repairs))
    state = _state(rng, number, trials)
    epochs = {"PRUNED": rng.choice(PRUNED_BEHIND), "FAIL": 0, "RUNNING": 2}.get(state, EPOCHS)
    curve = _curve(rng, _level(rng, row, params), epochs)
    started = BEGIN + timedelta(seconds=12 * number)
    ended = {} if state == "RUNNING" else _ended(state, curve, rng)
    return {
        "number": number,
        "state": state,
        "params": params,
        "attributes": row.attributes | ended if state != "RUNNING" else {},
        "curve": curve,
        "value": curve[-1] if state in ("COMPLETE", "PRUNED") else None,
        "started": started,
        "completed": None if state == "RUNNING" else started + timedelta(seconds=11),
    }


def _state(rng: random.Random, number: int, trials: int) -> str:
    if number >= trials - RUNNING and trials > RUNNING:
        return "RUNNING"
    drawn = rng.random()
    return "PRUNED" if drawn < PRUNED else "FAIL" if drawn < PRUNED + FAILED else "COMPLETE"


def _level(rng: random.Random, row: Row, params: Any) -> float:
    """Accuracy at the end of training."""
    blocks = [value for name, value in params.items() if name.endswith("_block")]
    block = sum(HELP[str(block)] for block in blocks) / len(blocks)
    se = 0.01 * sum(bool(value) for name, value in params.items() if name.endswith("_se"))
    size = 0.055 * math.log((row.params or 0) / 20e3)
    return min(0.99, max(0.1, 0.42 + size + 2 * block + se / 2 + rng.gauss(0, 0.02)))


def _curve(rng: random.Random, level: float, epochs: int) -> list[float]:
    return [
        level * (1 - math.exp(-(epoch + 1) / 6)) + rng.gauss(0, 0.005) for epoch in range(epochs)
    ]


def _ended(state: str, curve: list[float], rng: random.Random) -> dict[str, Any]:
    epochs, ended = len(curve), {"COMPLETE": "finished", "PRUNED": "pruned"}.get(state, "diverged")
    reason = {"pruned": f"stopped early after epoch {epochs}", "diverged": "training loss was nan"}
    return {
        "file_accuracy": curve[-1] if state == "COMPLETE" else None,
        "network_accuracy": curve[-1] if curve else None,
        "accuracies": curve,
        "losses": [2.3 * math.exp(-epoch / 10) for epoch in range(epochs)],
        "epochs": epochs,
        "seconds": epochs * rng.uniform(0.3, 0.5),
        "device": "synthetic",
        "micro_batch": 64,
        "mode": "channels_last, fp32",
        "fallback": "",
        "ended": ended,
        "reason": reason.get(ended, ""),
    }


def rows_of(
    students: list[dict[str, Any]], study: int, before: int, search_space: SearchSpace
) -> dict[str, list[dict[str, Any]]]:
    """Table -> rows, as Optuna 5 keeps them (schema 12)."""
    kinds = distributions(search_space)
    texts = {name: distribution_to_json(kind) for name, kind in kinds.items()}
    rows: dict[str, list[dict[str, Any]]] = {
        table: []
        for table in (
            "trials",
            "trial_values",
            "trial_user_attributes",
            "trial_params",
            "trial_intermediate_values",
        )
    }
    for made in students:
        trial_id = before + 1 + made["number"]
        times = {"datetime_start": made["started"], "datetime_complete": made["completed"]}
        rows["trials"].append(
            {"trial_id": trial_id, "number": made["number"], "study_id": study}
            | {"state": made["state"], **times}
        )
        if made["value"] is not None:
            rows["trial_values"].append(
                {"trial_id": trial_id, "objective": 0, "value": made["value"]}
                | {"value_type": "FINITE"}
            )
        rows["trial_user_attributes"] += [
            {"trial_id": trial_id, "key": key, "value_json": json.dumps(value)}
            for key, value in made["attributes"].items()
        ]
        rows["trial_params"] += [
            {"trial_id": trial_id, "param_name": name, "distribution_json": texts[name]}
            | {"param_value": kinds[name].to_internal_repr(value)}
            for name, value in made["params"].items()
        ]
        rows["trial_intermediate_values"] += list(_reports(trial_id, made["curve"]))
    return {table: found for table, found in rows.items() if found}


def _reports(trial_id: int, curve: list[float]) -> Iterator[dict[str, Any]]:
    for epoch, accuracy in enumerate(curve, 1):
        yield {
            "trial_id": trial_id,
            "step": epoch,
            "intermediate_value": accuracy,
            "intermediate_value_type": "FINITE",
        }


def insert(table: str, row: dict[str, Any]) -> str:
    names = ", ".join(row)
    return f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in row)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="the database")
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="synthetic")
    given = parser.parse_args()
    make(given.out, given.trials, given.seed, given.name)


if __name__ == "__main__":
    main()
