"""What training a study's students needs, and how a process gets it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from search.places import Folder
from search.spec import Spec
from space.errors import InputError
from trainers import teacher as teachers
from trainers.bank import LogitBank
from trainers.data import Data, load
from trainers.evaluation import choose_device
from trainers.teacher import Teacher


@dataclass(frozen=True, slots=True)
class Bench:
    """All that training a student of a study needs."""

    spec: Spec
    data: Data
    teacher: LogitBank | None
    folder: Folder
    device: torch.device


@dataclass(frozen=True, slots=True)
class Station:
    """Where a bench's parts lie: small and picklable, for a process that makes its own."""

    spec: Spec
    folder: Folder
    source: str  # of the data
    cache: Path
    device: str  # auto, cpu, cuda or cuda:1

    def bench(self, *, progress: bool = True) -> Bench:
        """Load the data through the cache, the study's own teacher, the bank and the device.

        Args:
            progress: whether decoding photographs may show itself on standard error.

        Raises:
            InputError: no such device, or data or a teacher that is not the study's.
        """
        device = choose_device(self.device)
        data = load(self.source, self.spec.size, cache=self.cache, progress=progress)
        if data.fingerprint != self.spec.data:
            raise InputError(
                f"study {self.folder.path.name!r} was made with other data (fingerprint "
                f"{self.spec.data}, but {self.source} has {data.fingerprint}); bring back the "
                "files or start a new study"
            )
        return self.furnished(data, own_teacher(self.folder, self.spec), device)

    def furnished(self, data: Data, teacher: Teacher | None, device: torch.device) -> Bench:
        """The bench, from parts that are loaded already."""
        bank = None
        if teacher is not None:
            bank = LogitBank(self.cache / "banks", teacher, data, self.spec.recipe, device)
        return Bench(self.spec, data, bank, self.folder, device)


def own_teacher(folder: Folder, spec: Spec) -> Teacher | None:
    """The study's own copy of its teacher.

    Raises:
        InputError: the file is missing, damaged or another teacher.
    """
    if not spec.teacher:
        return None
    teacher = teachers.load(folder.teacher)
    if teacher.hash != spec.teacher:
        raise InputError(
            f"{folder.teacher} must be the study's teacher ({spec.teacher}), "
            f"but is another ({teacher.hash}); put the right file there"
        )
    return teacher
