"""One job in a process of its own, and the memory it took: `python benchmarks/footprint.py JSON`.

`benchmarks/memory.py` starts it. What the kernel says in /proc/self/status is sampled: VmHWM is
the peak of all resident memory; RssAnon is what the process allocated and only swap could free;
RssFile are pages of files (PyTorch's libraries, memory-mapped photographs), which the kernel drops
when it needs room and reads again. The peaks need not fall together, so they may add up to more
than VmHWM.
"""

import json
import mmap
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.synthetic import data
from space.build import build
from space.references import reference
from trainers.data.datasets import Data, Split, load
from trainers.engine.evaluation import choose_device
from trainers.engine.memory import keep_freed_memory
from trainers.engine.training import train
from trainers.files import sealed, write_atomically
from trainers.model import Model, weights_hash
from trainers.recipe import HARD_ONLY, Recipe, recipe
from trainers.teachers.bank import LogitBank
from trainers.teachers.teacher import Teacher, untrained

STATUS = Path("/proc/self/status")
SAMPLE_SECONDS = 0.01
MADV_PAGEOUT = 21  # Linux 5.4: give the pages back now; Python has no name for it yet
CLASSES = 11


@dataclass(frozen=True)
class Job:
    """What the process does."""

    kind: str  # train | decode
    folder: str  # train: of train.npy and validation.npy; decode: of photographs
    scratch: str  # folder of the bank or of the cache
    size: int  # pixels
    steps: int = 0  # of the one epoch that is trained; 0: all
    batch: int = 64
    bank: bool = False
    student: str = "ntu-ml2020"
    device: str = "cpu"


@dataclass(frozen=True)
class Footprint:
    """Bytes."""

    peak: int  # resident at once
    anonymous_before: int  # before the photographs were opened
    anonymous_peak: int
    anonymous_after: int  # pages of files given back
    file_before: int  # libraries
    file_peak: int
    file_after: int  # pages of files given back
    mapped: int  # of the photographs, on the disk


class Watch:
    """Peaks of the process's resident memory while it is watched."""

    def __init__(self) -> None:
        self.before = resident()
        self.peaks = dict(self.before)
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.sample, daemon=True)

    def __enter__(self) -> "Watch":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ended.set()
        self.thread.join()

    def sample(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peaks = {name: max(self.peaks[name], size) for name, size in resident().items()}

    def footprint(self, maps: Mapping[str, npt.NDArray[np.uint8]]) -> Footprint:
        """What was seen; the maps' pages are given back first."""
        peaks = {name: max(self.peaks[name], size) for name, size in resident().items()}
        for images_NCHW in maps.values():
            give_back(images_NCHW)
        after = resident()
        return Footprint(
            peak=peaks["VmHWM"],
            anonymous_before=self.before["RssAnon"],
            anonymous_peak=peaks["RssAnon"],
            anonymous_after=after["RssAnon"],
            file_before=self.before["RssFile"],
            file_peak=peaks["RssFile"],
            file_after=after["RssFile"],
            mapped=sum(images_NCHW.nbytes for images_NCHW in maps.values()),
        )


def resident() -> dict[str, int]:
    """VmHWM, RssAnon and RssFile in bytes."""
    lines = (line.split() for line in STATUS.read_text().splitlines())
    found = {words[0].rstrip(":"): words[1] for words in lines if len(words) == 3}
    return {name: 1024 * int(found[name]) for name in ("VmHWM", "RssAnon", "RssFile")}


def give_back(images_NCHW: npt.NDArray[np.uint8]) -> None:
    """What the kernel does by itself when memory is short; nothing of the content is lost."""
    if isinstance(images_NCHW.base, mmap.mmap):
        images_NCHW.base.madvise(MADV_PAGEOUT)


def train_job(job: Job) -> Footprint:
    """One epoch of a student, and its evaluation, on photographs as the cache gives them."""
    torch.rand(64, 64) @ torch.rand(64, 64)  # starts the pools of threads
    with Watch() as watch:
        paths = {name: Path(job.folder) / f"{name}.npy" for name in ("train", "validation")}
        maps = {name: np.load(path, mmap_mode="c") for name, path in paths.items()}
        splits = {name: _split(images_NCHW) for name, images_NCHW in maps.items()}
        teach(job, splits)
    return watch.footprint(maps)


def _split(images_NCHW: npt.NDArray[np.uint8]) -> Split:
    """As `trainers.data.datasets` makes it."""
    images = torch.from_numpy(images_NCHW)
    return Split(images, torch.arange(len(images)) % CLASSES)


def teach(job: Job, splits: Mapping[str, Split]) -> None:
    """Fewer steps than an epoch has: photographs from all over the file, and all to evaluate."""
    train_split, validation = splits["train"], splits["validation"]
    if job.steps:
        stride = -(-len(train_split) // (job.steps * job.batch))
        train_split = Split(train_split.images_NCHW[::stride], train_split.labels_N[::stride])
    photographs = data(train_split, validation, CLASSES)
    setting = recipe("default").with_settings({"epochs": 1, "batch": job.batch})
    if not job.bank:
        setting = setting.with_settings({"phases": HARD_ONLY})
    device = choose_device(job.device)
    bank = banked(Path(job.scratch), photographs, setting, device) if job.bank else None
    student = build(reference(job.student, classes=CLASSES), seed=0)
    model = Model(student, size=job.size, mean=(0.5,) * 3, std=(0.25,) * 3)
    train(model, setting, photographs, device=device, teacher=bank)


def banked(folder: Path, photographs: Data, setting: Recipe, device: torch.device) -> LogitBank:
    """The search's own bank with a ResNet18 behind it, its epoch's logits there already."""
    model, info = untrained("resnet18", photographs)
    teacher = Teacher(model.eval(), info, weights_hash(model))
    bank = LogitBank(folder, teacher, photographs, setting, device)
    bank.folder.mkdir(parents=True, exist_ok=True)
    count = len(photographs.train) * CLASSES
    logits = np.random.default_rng(0).standard_normal(count).astype(np.float16)
    write_atomically(bank.path(0), lambda file: file.writelines(sealed(logits.tobytes())))
    return bank


def decode_job(job: Job) -> Footprint:
    """A folder of photographs into an empty cache."""
    with Watch() as watch:
        loaded = load(job.folder, job.size, cache=Path(job.scratch), progress=False)
    count = len(loaded.train) + len(loaded.validation)
    return Footprint(
        **asdict(watch.footprint({})) | {"mapped": count * loaded.channels * job.size**2}
    )


def main() -> None:
    keep_freed_memory()
    job = Job(**json.loads(sys.argv[1]))
    done = train_job(job) if job.kind == "train" else decode_job(job)
    print(json.dumps(asdict(done)))


if __name__ == "__main__":
    main()
