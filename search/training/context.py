"""What all students of a study are trained with, and how a process loads it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from search.study.folder import Folder
from search.study.spec import StudySpec
from search.training.teacher_cache import fetch_teacher
from space.errors import InputError
from trainers.data.datasets import Data, load
from trainers.data.unlabelled import with_unlabelled
from trainers.engine.evaluation import choose_device
from trainers.recipe import Recipe
from trainers.teachers import teacher as teachers
from trainers.teachers.bank import LogitBank
from trainers.teachers.teacher import Teacher


@dataclass(frozen=True, slots=True)
class TrainingContext:
    """What all students of a study are trained with."""

    spec: StudySpec
    data: Data
    teachers: Mapping[str, Teacher]
    folder: Folder
    device: torch.device
    cache: Path
    say: Callable[[str], None] = lambda text: (
        None
    )  # called once, when a teacher computes its first logits
    _banks: dict[str, LogitBank] = field(default_factory=dict)  # by key

    def images(self, size: int, *, labelled_only: bool = False) -> Data:
        """What a student of an input size learns from and is judged by."""
        data = self.data.at(size)
        return data.labelled if labelled_only else data

    def bank(
        self,
        teacher: str | None,
        recipe: Recipe,
        size: int | None = None,
        *,
        labelled_only: bool = False,
    ) -> LogitBank | None:
        """A teacher's logits for a recipe's views; None where the recipe needs no teacher.

        It is asked about the same crops as its student sees, at its own resolution.

        Args:
            size: pixels of the student's views; the study's by default.
            labelled_only: whether the study's photographs without labels are left out.
        """
        if teacher is None or not recipe.needs_teacher:
            return None
        folder, asked = self.cache / "banks", self.teachers[teacher]
        pixels = asked.info.asked_at or size or self.spec.size
        data = self.images(pixels, labelled_only=labelled_only)
        bank = LogitBank(folder, asked, data, recipe, self.device, self._asking(), self.share)
        if bank.key not in self._banks:  # recipes with the same views share one
            self._banks.clear()  # each may hold all photographs on the device
            self._banks[bank.key] = bank
        return self._banks[bank.key]

    def _asking(self) -> Callable[[int], None]:
        """Tell the user once, at the first epoch, that computing a teacher's logits takes time."""
        told: list[int] = []

        def progress(epoch: int) -> None:
            if not told:
                told.append(epoch)
                self.say("computing the teacher's logits for each epoch's views, once")

        return progress

    def share(self, path: Path, made: bool) -> None:
        """Keep an epoch of a bank in the study's store, or fetch it from there."""
        store = self.folder.store
        if store is not None:
            name = f"banks/{path.parent.name}/{path.name}"
            if made:
                store.put(path, name)
            else:
                store.get(name, path)


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """What to load a `TrainingContext` from: small and picklable, for a child process."""

    spec: StudySpec
    folder: Folder
    source: str  # of the data
    cache: Path
    device: str  # auto, cpu, cuda or cuda:1
    unlabelled: str | None = None  # folder of the photographs without labels, if they moved

    def context(self, *, progress: bool = True) -> TrainingContext:
        """Load the data through the cache, the study's own teachers and the device.

        Args:
            progress: whether to show on standard error how photographs are decoded.

        Raises:
            InputError: no such device, or data or a teacher that is not the study's.
        """
        device = choose_device(self.device)
        own = {name: own_teacher(self.folder, name, h) for name, h in self.spec.teachers.items()}
        data = load(
            self.source,
            self.spec.size,
            others={*self.spec.sizes, *asked_sizes(own)},
            cache=self.cache,
            progress=progress,
            fingerprint=self.spec.data,
        )
        if data.fingerprint != self.spec.data:
            raise InputError(
                f"study {self.folder.path.name!r} was made with other data (fingerprint "
                f"{self.spec.data}, but {self.source} has {data.fingerprint}); bring back the "
                "files or start a new study"
            )
        data = self._with_unlabelled(data, progress=progress)
        return self.furnished(data, own, device)

    def _with_unlabelled(self, data: Data, *, progress: bool) -> Data:
        """The data with the study's photographs without labels, if it has any."""
        name, spec = repr(self.folder.path.name), self.spec
        if not spec.unlabelled:
            if self.unlabelled is not None:
                raise InputError(
                    f"study {name} has no photographs without labels; leave --unlabelled out"
                )
            return data
        place = self.unlabelled or spec.unlabelled_source
        data = with_unlabelled(data, place, cache=self.cache, progress=progress)
        if data.unlabelled_fingerprint != spec.unlabelled:
            raise InputError(
                f"study {name} was made with other photographs without labels (fingerprint "
                f"{spec.unlabelled}, but {place} has {data.unlabelled_fingerprint}); bring back "
                "the files or start a new study"
            )
        return data

    def furnished(
        self, data: Data, teachers: Mapping[str, Teacher], device: torch.device
    ) -> TrainingContext:
        """The context, from parts that are loaded already."""
        return TrainingContext(self.spec, data, teachers, self.folder, device, self.cache)


def asked_sizes(own: Mapping[str, Teacher]) -> set[int]:
    """Pixels of the photographs that teachers are asked about, where not the students'."""
    sizes = (teacher.info.asked_at for teacher in own.values())
    return {size for size in sizes if size is not None}


def own_teacher(folder: Folder, name: str, hash: str) -> Teacher:
    """The study's own copy of a teacher.

    Raises:
        InputError: the file is missing, damaged or another teacher.
    """
    path = fetch_teacher(folder, name)
    teacher = teachers.load(path)
    if teacher.hash != hash:
        raise InputError(
            f"{path} must be the study's teacher ({hash}), "
            f"but is another ({teacher.hash}); put the right file there"
        )
    return teacher
