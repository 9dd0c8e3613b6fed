"""The students of a search: drawn by a sampler from a space, each at the widths that fill it."""

from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial

from search.database.row import Row
from search.study.folder import Folder
from search.study.pruners import make_pruner
from search.study.samplers import make_sampler, suggest
from search.study.spec import SearchSpec, solved
from search.study.study import target
from search.training.job import Job
from search.training.row import described
from search.trials.source import Copied, Draw
from space.fingerprint import fingerprint
from trainers.ranges import suffix

DUPLICATES_IN_A_ROW = 50  # then the sampler finds nothing new in the space


class Sampled:
    """A `search.trials.source.Source`."""

    def __init__(self, spec: SearchSpec, folder: Folder) -> None:
        self.spec, self.folder = spec, folder
        # Equal architectures are equal trainings where nothing else is drawn.
        draws_more = bool(spec.ranges) or len(spec.sizes) > 1
        self.training_attribute = "training" if draws_more else "fingerprint"
        self.pruner = make_pruner(spec.pruner, spec.recipe.epochs)

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        return make_sampler(self.spec.sampler, self.spec.seed, number)

    def most(self, study: optuna.Study, uncounted: int, idle: int) -> int:
        return 0 if idle >= DUPLICATES_IN_A_ROW else target(study) + uncounted

    def draw(self, trial: optuna.Trial) -> Draw:
        spec = self.spec
        params = suggest(trial, spec.search_space, spec.ranges)
        searched = spec.ranges.meant(params)
        recipe, budget = spec.recipe_of(searched), spec.budget_of(searched)
        solution, size = solved(spec, params, budget)
        student, place = solution.architecture, self.folder.trial(trial.number).name
        job = Job(student, recipe, budget.format, spec.taught_by, place, size=size)
        row = replace(
            described(student, spec.metadata_for(recipe, size), budget.format),
            budget_share=solution.share,
            repairs=list(solution.repairs),
            size=spec.size_if_varied(size),
        )
        if searched:
            row = replace(row, searched=searched, words=f"{row.words}{suffix(searched)}")
        if self.training_attribute == "training":
            # A file in another format is another trial, scored by itself.
            row = replace(row, training=fingerprint(f"{job.training}/{job.format}"))
        return Draw(job, row, f"trial {trial.number}")

    def copied(self, twin: FrozenTrial, row: Row, draw: Draw) -> Copied:
        value = twin.value if twin.values else None
        own = replace(row.overlaid(draw.row), duplicate_of=twin.number)
        return Copied(twin.state, value, own)
