"""One student: an architecture -> built, trained, written, read back, scored; and its row.

It knows neither Optuna nor the database, so that processes that only train need neither.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from search.study.folder import EXACT, STUDENT
from search.study.ranking import UNSTORABLE
from search.training.checkpoints import checkpoint_at
from search.training.context import TrainingContext
from search.training.job import Job
from search.training.row import Trained
from space.architecture import Architecture
from space.build import build
from space.file_format import EXACT_FORMAT, FORMATS
from space.fingerprint import file_fingerprint
from trainers import export
from trainers.engine.evaluation import accuracy_of, confusion
from trainers.engine.result import FINISHED, Epoch
from trainers.engine.training import images_per_second, train
from trainers.model import Model
from trainers.recipe import Recipe

MOST_CLASSES = 100  # with a confusion matrix in the database: 10,000 numbers a trial


def train_student(context: TrainingContext, job: Job, report: Callable[[Epoch], bool]) -> Trained:
    """Train one student and write its file `student.safetensors` where the job says.

    Goes on from the checkpoint there; the caller removes it when the outcome is stored.
    """
    recipe, metadata = job.recipe, context.spec.metadata_for(job.recipe, job.size)
    student = build(job.architecture, seed=recipe.seed)
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    checkpoint = checkpoint_at(context.folder, job.key)
    result = train(
        model,
        recipe,
        context.images(metadata.size, labelled_only=job.labelled_only),
        report,
        device=context.device,
        teacher=context.bank(job.teacher, recipe, metadata.size, labelled_only=job.labelled_only),
        checkpoint=checkpoint,
    )
    if result.ended != FINISHED:
        return Trained(result, None)
    directory = context.folder.path / job.written_to
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / STUDENT
    try:
        # First: another format may overflow, and the exact copy is kept all the same.
        if job.format != EXACT_FORMAT:
            export.write(student, metadata, EXACT_FORMAT, directory / EXACT)
        export.write(student, metadata, job.format, path)
    except OverflowError as error:
        return Trained(result._replace(ended=UNSTORABLE, reason=str(error)), None)
    score = scored(context, path)
    formats = format_accuracies(context, path, job.format, score.accuracy)
    return Trained(result, *score, file_fingerprint(path), formats)


class Score(NamedTuple):
    """A student's file, as read back, on the validation images."""

    accuracy: float
    confusion: list[list[int]] | None  # None for more classes than a row should hold


def scored(context: TrainingContext, path: Path) -> Score:
    """The score of a student's file, on images of its own size."""
    stored = export.read(path)
    images = context.data.at(stored.metadata.size).validation
    found_KK = confusion(stored.model.to(context.device), images, context.device)
    kept = found_KK.tolist() if len(found_KK) <= MOST_CLASSES else None
    return Score(accuracy_of(found_KK), kept)


def format_accuracies(
    context: TrainingContext, path: Path, own: str, accuracy: float
) -> dict[str, float | None]:
    """Storage format -> validation accuracy of the student's file in it; None: it cannot hold it.

    Args:
        path: the student's file, beside its exact copy.
        own: its format, in which `accuracy` is known.
    """
    exact, probe = path.with_name(EXACT), path.with_name("probe.safetensors")
    source = exact if exact.exists() else path
    found: dict[str, float | None] = {}
    for format in FORMATS:
        if format == own:
            found[format] = accuracy
            continue
        try:
            export.convert(source, format, probe)
            found[format] = scored(context, probe).accuracy
        except OverflowError:
            found[format] = None
    probe.unlink(missing_ok=True)
    return found


def speed(
    context: TrainingContext,
    architecture: Architecture,
    recipe: Recipe,
    seconds: float,
    size: int | None = None,
) -> float:
    """Images a second that such a student trains with, measured for so many seconds.

    Args:
        size: pixels of its input; the study's by default.
    """
    metadata = context.spec.metadata_for(recipe, size)
    student = build(architecture, seed=0)
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    data = context.data.at(metadata.size)
    return images_per_second(model, recipe, data, context.device, seconds)
