"""One student: an architecture -> built, trained, written, read back, scored; and its row.

It knows neither Optuna nor the database, so that processes that only train need neither.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from search.study.folder import CHECKPOINT, EXACT, STUDENT, Folder
from search.study.ranking import UNSTORABLE
from search.training.context import Bench, Job
from space.architecture import Architecture
from space.build import build
from space.count import cost
from space.file_format import FORMATS, Card, stored_bytes
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


def train_student(bench: Bench, job: Job, report: Callable[[Epoch], bool]) -> Trained:
    """Train one student and write its file `student.safetensors` where the job says.

    Goes on from the checkpoint there; the caller removes it when the outcome is stored.
    """
    recipe, card = job.recipe, bench.spec.card_for(job.recipe)
    student = build(job.architecture, seed=recipe.seed)
    model = Model(student, size=card.size, mean=card.mean, std=card.std)
    checkpoint = checkpoint_at(bench.folder, job.place)
    result = train(
        model,
        recipe,
        bench.data,
        report,
        device=bench.device,
        teacher=bench.bank(job.teacher, recipe),
        checkpoint=checkpoint,
    )
    if result.ended != FINISHED:
        return Trained(result, None)
    place = bench.folder.path / job.written_to
    place.mkdir(parents=True, exist_ok=True)
    path = place / STUDENT
    try:
        if job.format != "fp32":  # first: other formats may hold what this one cannot
            export.write(student, card, "fp32", place / EXACT)
        export.write(student, card, job.format, path)
    except OverflowError as error:
        return Trained(result._replace(ended=UNSTORABLE, reason=str(error)), None)
    score = scored(bench, path)
    formats = format_accuracies(bench, path, job.format, score.accuracy)
    return Trained(result, *score, digest(path), formats)


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Score(NamedTuple):
    """A student's file, as read back, on the validation images."""

    accuracy: float
    confusion: list[list[int]] | None  # None for more classes than a row should hold


def scored(bench: Bench, path: Path) -> Score:
    """The score of a student's file."""
    model = export.read(path).model.to(bench.device)
    found_KK = confusion(model, bench.data.validation, bench.device)
    kept = found_KK.tolist() if len(found_KK) <= MOST_CLASSES else None
    return Score(accuracy_of(found_KK), kept)


def format_accuracies(
    bench: Bench, path: Path, own: str, accuracy: float
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
            found[format] = scored(bench, probe).accuracy
        except OverflowError:
            found[format] = None
    probe.unlink(missing_ok=True)
    return found


class StoredCheckpoint(Checkpoint):
    """A checkpoint that lies in the study's store too, for whoever takes the trial over."""

    def __init__(self, folder: Folder, place: str) -> None:
        super().__init__(folder.path / place / CHECKPOINT, every=STORED_SECONDS)
        self.folder, self.name = folder, f"{place}/{CHECKPOINT}"

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


def checkpoint_at(folder: Folder, place: str) -> Checkpoint:
    """The checkpoint of what is trained at a place in the study's folder."""
    if folder.store is not None:
        return StoredCheckpoint(folder, place)
    return Checkpoint(folder.path / place / CHECKPOINT, every=CHECKPOINT_SECONDS)


def describe(architecture: Architecture, card: Card, format: str) -> dict[str, Any]:
    """What is known of a student before it is trained: the first half of its row."""
    counted = cost(architecture, card)
    return {
        "architecture": architecture.to_dict(),
        "fingerprint": architecture.fingerprint,
        "words": architecture.words,
        "params": counted.parameters,
        "macs": counted.macs,
        "activation_peak": counted.activation_peak,
        "bytes": stored_bytes(architecture, format, card),
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


def speed(bench: Bench, architecture: Architecture, recipe: Recipe, seconds: float) -> float:
    """Images a second that such a student trains with, measured for so many seconds."""
    card = bench.spec.card_for(recipe)
    student = build(architecture, seed=0)
    model = Model(student, size=card.size, mean=card.mean, std=card.std)
    return images_per_second(model, recipe, bench.data, bench.device, seconds)
