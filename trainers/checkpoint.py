"""A training run's state on disk: whole or absent, and only used where it belongs."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from trainers.files import write_atomically

SCHEMA = 1


class Checkpoint:
    """One file, replaced behind every epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, identity: Mapping[str, str], snapshot: Mapping[str, Any]) -> None:
        """Replace the file; whatever happens meanwhile, the one before stays readable."""
        content = {"schema": SCHEMA, "identity": dict(identity), "snapshot": dict(snapshot)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, lambda file: torch.save(content, file))

    def read(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """The snapshot, or None where there is none that this run can go on from.

        A damaged file costs the epochs that it held, not the trial.
        """
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError):
            return None
        matches = (
            isinstance(content, dict)
            and content.get("schema") == SCHEMA
            and content.get("identity") == dict(identity)
        )
        return content["snapshot"] if matches else None

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
