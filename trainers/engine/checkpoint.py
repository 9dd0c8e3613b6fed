"""A training run's state on disk: whole or absent, and only used where it belongs."""

import io
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from trainers.files import sealed, unsealed, write_atomically

SCHEMA = 3


class Checkpoint:
    """A file, replaced after epochs, and the one before it; sealed, as torch.load misses a bit.

    Args:
        every: seconds that a kill may cost; a fast epoch does not wait for the disk each time.
    """

    def __init__(self, path: Path, *, every: float = 0.0) -> None:
        self.path, self.every = path, every
        self.written = time.monotonic()

    @property
    def before(self) -> Path:
        """The one that was written before the last."""
        return self.path.with_stem(f"{self.path.stem}-before")

    @property
    def due(self) -> bool:
        return time.monotonic() - self.written >= self.every

    def write(self, identity: Mapping[str, str], snapshot: Mapping[str, Any]) -> None:
        """Replace the file; whatever happens meanwhile, the one before stays readable."""
        content = {"schema": SCHEMA, "identity": dict(identity), "snapshot": dict(snapshot)}
        # Not straight to the file: torch.save turns a full disk's OSError into a RuntimeError.
        buffer = io.BytesIO()
        torch.save(content, buffer)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.before.unlink(missing_ok=True)
        with suppress(OSError):  # there is none, or the file system knows no links
            os.link(self.path, self.before)
        write_atomically(self.path, lambda file: file.writelines(sealed(buffer.getvalue())))
        self.written = time.monotonic()

    def read(self, identity: Mapping[str, str]) -> dict[str, Any] | None:
        """The snapshot, or None where there is none that this run can go on from.

        A damaged file costs the epochs since the one before it, not the trial.
        """
        return self._read(self.path, identity) or self._read(self.before, identity)

    def _read(self, path: Path, identity: Mapping[str, str]) -> dict[str, Any] | None:
        payload = unsealed(path)
        if payload is None:
            return None
        kept = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        if kept["schema"] != SCHEMA or kept["identity"] != dict(identity):
            return None
        snapshot: dict[str, Any] = kept["snapshot"]
        return snapshot

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.before.unlink(missing_ok=True)
