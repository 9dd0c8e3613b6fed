"""The bank of teacher logits: teach once, learn many.

Views are a function of (seed, epoch, image), so the teacher's logits for them are computed once
for all trials of a search, and of every later search with the same teacher, data and views.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch

from space.errors import InputError
from trainers.augment import mixed_views
from trainers.data import Data
from trainers.evaluation import BATCH, autocast
from trainers.files import sealed, unsealed, write_atomically
from trainers.memory import in_parts
from trainers.recipe import Recipe
from trainers.teacher import Teacher

VIEWS = 1  # raise it when `trainers.augment` comes to give other views


class LogitBank:
    """Logits of every training image's view, epoch by epoch, one file an epoch.

    An epoch is computed when it is first asked for; processes that ask at the same time compute
    the same file, and the last one to rename it wins.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Teacher,
        data: Data,
        recipe: Recipe,
        device: torch.device,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        self.teacher, self.data, self.recipe, self.device = teacher, data, recipe, device
        self.key = bank_key(teacher, data, recipe)
        self.folder = folder / self.key
        self.progress = progress  # told the epoch before it is computed

    def epoch_logits(self, epoch: int) -> torch.Tensor:
        """Float32, N x K, on the CPU; kept in 16 bits."""
        path = self.folder / f"{epoch:04d}.bin"
        kept = unsealed(path)
        if kept is None:  # missing or damaged
            if self.progress is not None:
                self.progress(epoch)
            kept = self.live_logits(epoch).half().numpy().tobytes()
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, lambda file: file.writelines(sealed(kept)))
            except OSError as error:
                raise InputError(
                    f"the bank of teacher logits cannot be written to {self.folder}: "
                    f"{error.strerror}; free some space or choose another --cache"
                ) from None
        kept_NK = torch.frombuffer(bytearray(kept), dtype=torch.float16)
        return kept_NK.view(len(self.data.train), -1).float()

    def live_logits(self, epoch: int) -> torch.Tensor:
        """What the teacher says now: float32, N x K, on the CPU."""
        model = self.teacher.model.to(self.device).eval()
        images_NCHW = self.data.train.images_NCHW.to(self.device)

        @torch.inference_mode()
        def logits(begin: int, end: int) -> torch.Tensor:
            views_NCHW, _, _ = mixed_views(
                images_NCHW,
                torch.arange(begin, end, device=self.device),
                seed=self.recipe.view_seed,
                epoch=epoch,
                augment=self.recipe.augment,
            )
            with autocast(self.device):
                return model(views_NCHW).float().cpu()  # type: ignore[no-any-return]

        return torch.cat(list(in_parts(len(images_NCHW), BATCH, logits)))


def bank_key(teacher: Teacher, data: Data, recipe: Recipe) -> str:
    """Sixteen hexadecimal digits of everything that the logits depend on."""
    info = teacher.info
    parts = [
        VIEWS,
        teacher.hash,
        [info.network, info.size, info.mean, info.std],
        data.fingerprint,
        recipe.to_dict()["augment"],  # equal settings give equal text
        recipe.view_seed,
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
