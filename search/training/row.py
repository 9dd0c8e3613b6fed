"""What a student's row says: first of its architecture, then of its training."""

from dataclasses import replace
from typing import NamedTuple

from search.database.row import Row
from space.architecture import Architecture
from space.count import cost
from space.file_format import StudentMetadata, stored_bytes
from space.summary import summary
from trainers.engine.result import TrialResult


class Trained(NamedTuple):
    """A student that was trained and stored."""

    result: TrialResult
    accuracy: float | None  # validation, of the file as read back; None where there is none
    confusion: list[list[int]] | None = None  # the same, true class by predicted class
    digest: str | None = None  # of the file
    formats: dict[str, float | None] | None = None  # format -> accuracy of a file in it


def described(architecture: Architecture, metadata: StudentMetadata, format: str) -> Row:
    """What is known of a student before it is trained."""
    counted = cost(architecture, metadata)
    return Row(
        architecture=architecture.to_dict(),
        words=architecture.words,
        summary=summary(architecture)._asdict(),
        fingerprint=architecture.fingerprint,
        params=counted.parameters,
        macs=counted.macs,
        activation_peak=counted.activation_peak,
        bytes=stored_bytes(architecture, format, metadata),
        format=format,
    )


def completed(row: Row, trained: Trained) -> Row:
    """A student's row with what its training gave."""
    result = trained.result
    return replace(
        row,
        file_accuracy=trained.accuracy,
        file_sha256=trained.digest,
        format_accuracy=trained.formats,
        confusion=trained.confusion,
        network_accuracy=result.accuracy,
        accuracies=[epoch.accuracy for epoch in result.history],
        losses=[epoch.loss for epoch in result.history],
        epochs=result.epochs,
        seconds=result.seconds,
        device=result.device,
        micro_batch=result.micro_batch,
        mode=result.mode,
        fallback=result.fallback,
        ended=result.ended,
        reason=result.reason,
    )
