"""The students of an ablation: a trial's number says which."""

import warnings
from dataclasses import replace

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.ablation.design import MAX_SEEDS
from search.database.row import Row
from search.study.folder import EXACT, STUDENT
from search.study.plan import AblationSpec
from search.study.ranking import UNSTORABLE
from search.study.study import SEEDS
from search.training.context import TrainingContext
from search.training.job import Job
from search.training.objective import scored
from search.training.row import described
from search.trials.source import Copied, Draw
from space.file_format import EXACT_FORMAT
from space.fingerprint import file_fingerprint
from trainers import export
from trainers.engine.result import FINISHED

NO_SCORE = {"file_accuracy": None, "confusion": None, "file_sha256": None}


class Planned:
    """The students of an ablation, a `search.trials.source.Source`: trial numbers say which."""

    training_attribute = "training"
    pruner = None  # no pruning: a comparison needs every arm's last epoch

    def __init__(self, plan: AblationSpec, context: TrainingContext) -> None:
        self.plan, self.context = plan, context

    def sampler(self, number: int) -> optuna.samplers.BaseSampler:
        arm, seed = self.plan.trial(number)
        fixed = {"arm": arm.name, "seed": seed, **arm.levels}
        with (
            warnings.catch_warnings()
        ):  # Optuna warns at every call that this sampler is experimental
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.PartialFixedSampler(fixed, optuna.samplers.RandomSampler(0))

    def most(self, study: optuna.Study, uncounted: int, idle: int) -> int:
        return len(self.plan.arms) * int(study.user_attrs[SEEDS])

    def draw(self, trial: optuna.Trial) -> Draw:
        plan, (arm, seed) = self.plan, self.plan.trial(trial.number)
        trial.suggest_categorical("arm", [arm.name for arm in plan.arms])
        trial.suggest_int("seed", 0, MAX_SEEDS)
        for factor in arm.levels:
            trial.suggest_categorical(factor, plan.factors[factor])
        recipe = arm.recipe_of(seed, shared_views=plan.shared_views)
        place = self.context.folder.trial(trial.number).name
        job = Job(
            *(arm.architecture, recipe, arm.format, arm.teacher, place),
            size=arm.size,
            labelled_only=arm.labelled_only,
        )
        row = replace(
            described(arm.architecture, plan.metadata_for(recipe, arm.size), arm.format),
            size=plan.size_if_varied(plan.size_of(arm)),
            budget_share=arm.budget_share,
            repairs=[],
            training=job.training,
        )
        return Draw(job, row, f"{arm.name}, seed {seed}")

    def copied(self, twin: FrozenTrial, row: Row, draw: Draw) -> Copied:
        """The twin's network, stored in this arm's format and scored again: no training."""
        own_row = replace(row.overlaid(draw.row), trained_as=twin.number, seconds=0.0)
        folder = self.context.folder
        exact, student = folder.exact(twin.number), folder.student(twin.number)
        own = folder.path / draw.job.key / STUDENT
        folder.fetch(*(str(path.relative_to(folder.path)) for path in (exact, student)))
        source = exact if exact.exists() else student
        if row.ended != FINISHED and not (row.ended == UNSTORABLE and exact.exists()):
            return Copied(TrialState.FAIL, None, own_row)
        try:
            if draw.job.format != EXACT_FORMAT:
                export.convert(source, EXACT_FORMAT, own.with_name(EXACT))
            export.convert(source, draw.job.format, own)
        except OverflowError as error:
            failed = replace(own_row, **NO_SCORE, ended=UNSTORABLE, reason=str(error))
            return Copied(TrialState.FAIL, None, failed)
        folder.keep(f"{draw.job.key}/{EXACT}", f"{draw.job.key}/{STUDENT}")
        accuracy, confusion = scored(self.context, own)
        stored = replace(
            own_row,
            ended=FINISHED,
            reason="",
            confusion=confusion,
            file_accuracy=accuracy,
            file_sha256=file_fingerprint(own),
        )
        return Copied(TrialState.COMPLETE, accuracy, stored)
