"""One student: an architecture -> built, trained, written, read back, scored; and its row.

It knows neither Optuna nor the database, so that processes that only train need neither.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from search.study.folder import CHECKPOINT, EXACT, STUDENT, Folder
from search.study.ranking import UNSTORABLE
from search.training.context import Job, TrainingContext
from space.architecture import Architecture
from space.build import build
from space.count import cost
from space.file_format import FORMATS, StudentMetadata, stored_bytes
from trainers import export
from trainers.engine.checkpoint import Checkpoint
from trainers.engine.evaluation import accuracy_of, confusion
from trainers.engine.result import FINISHED, Epoch, TrialResult
from trainers.engine.training import images_per_second, train
from trainers.model import Model
from trainers.recipe import Recipe

MOST_CLASSES = 100  # of a confusion matrix in the database: 10,000 numbers a trial
STORED_SECONDS = 30.0  # the same, where each is uploaded
CHECKPOINT_SECONDS = 5.0  # that a kill may cost; epochs of a GPU are shorter than a synced write


class Trained(NamedTuple):
    """A student that was trained and stored."""

    result: TrialResult
    accuracy: float | None  # validation, of the file as read back; None where there is none
    confusion: list[list[int]] | None = None  # the same, true class by predicted class
    digest: str | None = None  # of the file
    formats: dict[str, float | None] | None = None  # format -> accuracy of a file in it


def train_student(context: TrainingContext, job: Job, report: Callable[[Epoch], bool]) -> Trained:
    """Train one student and write its file `student.safetensors` where the job says.

    Goes on from the checkpoint there; the caller removes it when the outcome is stored.
    """
    recipe, metadata = job.recipe, context.spec.metadata_for(job.recipe)
    student = build(job.architecture, seed=recipe.seed)
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    checkpoint = checkpoint_at(context.folder, job.key)
    result = train(
        model,
        recipe,
        context.data,
        report,
        device=context.device,
        teacher=context.bank(job.teacher, recipe),
        checkpoint=checkpoint,
    )
    if result.ended != FINISHED:
        return Trained(result, None)
    directory = context.folder.path / job.written_to
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / STUDENT
    try:
        if job.format != "fp32":  # first: other formats may hold what this one cannot
            export.write(student, metadata, "fp32", directory / EXACT)
        export.write(student, metadata, job.format, path)
    except OverflowError as error:
        return Trained(result._replace(ended=UNSTORABLE, reason=str(error)), None)
    score = scored(context, path)
    formats = format_accuracies(context, path, job.format, score.accuracy)
    return Trained(result, *score, digest(path), formats)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Score(NamedTuple):
    """A student's file, as read back, on the validation images."""

    accuracy: float
    confusion: list[list[int]] | None  # None for more classes than a row should hold


def scored(context: TrainingContext, path: Path) -> Score:
    """The score of a student's file."""
    model = export.read(path).model.to(context.device)
    found_KK = confusion(model, context.data.validation, context.device)
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


class StoredCheckpoint(Checkpoint):
    """A checkpoint that lies in the study's store too, for whoever takes the trial over."""

    def __init__(self, folder: Folder, key: str) -> None:
        super().__init__(folder.path / key / CHECKPOINT, every=STORED_SECONDS)
        self.folder, self.name = folder, f"{key}/{CHECKPOINT}"

    def write(self, identity: Mapping[str, str], snapshot: Mapping[str, Any]) -> None:
        super().write(identity, snapshot)
        self.folder.keep(self.name)

    def read(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        self.folder.fetch(self.name)
        return super().read(identity)

    def remove(self) -> None:
        super().remove()
        assert self.folder.store is not None, "made for a store"
        self.folder.store.remove(self.name)


def checkpoint_at(folder: Folder, key: str) -> Checkpoint:
    """The checkpoint of what is trained at a place in the study's folder."""
    if folder.store is not None:
        return StoredCheckpoint(folder, key)
    return Checkpoint(folder.path / key / CHECKPOINT, every=CHECKPOINT_SECONDS)


def describe(architecture: Architecture, metadata: StudentMetadata, format: str) -> dict[str, Any]:
    """What is known of a student before it is trained: the first half of its row."""
    counted = cost(architecture, metadata)
    return {
        "architecture": architecture.to_dict(),
        "fingerprint": architecture.fingerprint,
        "words": architecture.words,
        "params": counted.parameters,
        "macs": counted.macs,
        "activation_peak": counted.activation_peak,
        "bytes": stored_bytes(architecture, format, metadata),
        "format": format,
    }


def results(trained: Trained) -> dict[str, Any]:
    """What training gave: the second half of a row."""
    result = trained.result
    return {
        "file_accuracy": trained.accuracy,
        "file_sha256": trained.digest,
        "format_accuracy": trained.formats,
        "confusion": trained.confusion,
        "network_accuracy": result.accuracy,
        "accuracies": [epoch.accuracy for epoch in result.history],
        "losses": [epoch.loss for epoch in result.history],
        "epochs": result.epochs,
        "seconds": result.seconds,
        "device": result.device,
        "micro_batch": result.micro_batch,
        "mode": result.mode,
        "fallback": result.fallback,
        "ended": result.ended,
        "reason": result.reason,
    }


def speed(
    context: TrainingContext, architecture: Architecture, recipe: Recipe, seconds: float
) -> float:
    """Images a second that such a student trains with, measured for so many seconds."""
    metadata = context.spec.metadata_for(recipe)
    student = build(architecture, seed=0)
    model = Model(student, size=metadata.size, mean=metadata.mean, std=metadata.std)
    return images_per_second(model, recipe, context.data, context.device, seconds)
