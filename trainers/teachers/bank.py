"""The bank of teacher logits: teach once, learn many.

Views are a function of (seed, epoch, image), so the teacher's logits for them are computed once
for all trials of a search, and of every later search with the same teacher, data and views.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from space.errors import InputError
from space.fingerprint import fingerprint
from trainers.data.datasets import Data
from trainers.engine.batches import Batches
from trainers.engine.evaluation import batch_size
from trainers.engine.memory import in_parts
from trainers.engine.modes import default_mode
from trainers.engine.steps import images_per_epoch, unlabelled_for
from trainers.files import sealed, unsealed, write_atomically
from trainers.recipe import Recipe
from trainers.teachers.teacher import Teacher

WAIT_SECONDS = 0.05  # between looks at what another process computes
VIEWS = 1  # raise it when `trainers.data.augment` gives other views than before


class LogitBank:
    """Logits of every training image's view, those without labels last; an epoch of views a file.

    An epoch is computed when it is first asked for. Of processes that ask at the same time one
    computes it, and the others compute the next epochs instead of waiting.
    """

    def __init__(
        self,
        folder: Path,
        teacher: Teacher,
        data: Data,
        recipe: Recipe,
        device: torch.device,
        progress: Callable[[int], None] | None = None,
        share: Callable[[Path, bool], None] = lambda path, made: None,
    ) -> None:
        """Cache `teacher`'s logits for the views of `data` under `recipe`.

        Args:
            progress: called with an epoch's number before it is computed.
            share: `share(path, made)`, called before an epoch is computed (made=False: it may fetch
                the file) and after (made=True: it may upload it).
        """
        self.teacher, self.data, self.recipe, self.device = teacher, data, recipe, device
        self.mode = default_mode(device, recipe.precision)
        self.key = bank_key(teacher, data, recipe, self.mode.precision)
        self.folder = folder / self.key
        self.progress, self.share = progress, share

    def epoch_logits(self, epoch: int) -> torch.Tensor:
        """Float32, N x K, on the CPU; kept in 16 bits."""
        kept = unsealed(self.path(epoch))  # None: missing or damaged
        if kept is None:
            self.share(self.path(epoch), False)
            kept = unsealed(self.path(epoch))
        while kept is None:
            if not self.make(epoch):
                self.make_another(epoch)
            kept = unsealed(self.path(epoch))
        kept_NK = torch.frombuffer(bytearray(kept), dtype=torch.float16)
        return kept_NK.view(images_per_epoch(self.data, self.recipe), -1).float()

    def path(self, epoch: int) -> Path:
        return self.folder / f"{epoch:04d}.bin"

    def make(self, epoch: int) -> bool:
        """Compute an epoch's file and write it; False where another process does."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with claimed(self.folder / "lock", epoch) as mine:
                if mine and unsealed(self.path(epoch)) is None:
                    if self.progress is not None:
                        self.progress(epoch)
                    content = sealed(self.live_logits(epoch).half().numpy().tobytes())
                    write_atomically(self.path(epoch), lambda file: file.writelines(content))
                    self.share(self.path(epoch), True)
                return mine
        except OSError as error:
            raise InputError(
                f"the bank of teacher logits cannot be written to {self.folder}: "
                f"{error.strerror}; free some space or choose another --cache"
            ) from None

    def make_another(self, epoch: int) -> None:
        """While another process computes `epoch`: compute one that will be asked for later."""
        for later in self.recipe.heard_views:
            if later > epoch and not self.path(later).exists() and self.make(later):
                return
        time.sleep(WAIT_SECONDS)

    def live_logits(self, epoch: int) -> torch.Tensor:
        """The teacher's logits, computed now: float32, N x K, on the CPU."""
        model, batches = self.teacher.model.to(self.device).eval(), self.batches
        batches.begin(epoch)

        @torch.inference_mode()
        def logits(begin: int, end: int) -> torch.Tensor:
            index_N = torch.arange(begin, end, device=batches.images_NCHW.device)
            with self.mode.autocast(self.device):
                return model(batches.views(batches.batch(index_N))).float().cpu()  # type: ignore[no-any-return]

        together = batch_size(batches.images_NCHW, self.device)
        return torch.cat(list(in_parts(batches.count, together, logits)))

    @cached_property
    def batches(self) -> Batches:
        """Made when the first epoch is computed: where all are cached, none are needed."""
        unlabelled = unlabelled_for(self.data, self.recipe)
        return Batches(self.data.train, replace(self.recipe, views=0), self.device, unlabelled)


@contextmanager
def claimed(path: Path, place: int) -> Iterator[bool]:
    """Hold one of a file's bytes against other processes; False where one of them holds it.

    The kernel releases it when the process dies.
    """
    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            yield False
        else:
            yield True


def bank_key(teacher: Teacher, data: Data, recipe: Recipe, precision: str) -> str:
    """Sixteen hexadecimal digits of everything that the logits depend on."""
    info = teacher.info
    parts = [
        VIEWS,
        teacher.hash,
        [info.network, info.size, info.mean, info.std],
        precision,
        data.fingerprint,
        recipe.to_dict()["augment"],  # equal settings give equal text
        recipe.view_seed,
    ]
    if unlabelled_for(data, recipe) is not None:
        parts.append(data.unlabelled_fingerprint)
    return fingerprint(parts, digits=16)
