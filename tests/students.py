"""A process that trains random students for a few steps: `python students.py SPACE SIZE COUNT`.

Some faults of the libraries below us end the process, so whoever asks looks at its exit status.
"""

import random
import sys

import torch
import torch.nn.functional as F

from space import spaces
from space.build import build
from space.file_format import StudentMetadata, normalisation
from space.solver import Budget, solve
from trainers.engine.modes import LAYOUTS, ComputeMode
from trainers.model import Model, set_layout
from trainers.recipe import PRECISIONS

CLASSES, STEPS, BATCH = 5, 3, 4
BUDGETS = ("40KB", "300KB", "20KB")


def main(space: str, size: int, count: int) -> None:
    """Train students in every mode; raises where a loss or a gradient is no number."""
    search_space, rng = spaces.search_space(space, size=size), random.Random(f"{space}/{size}")
    mean, std = normalisation(3)
    metadata = StudentMetadata(classes=tuple("abcde"), size=size, mean=mean, std=std)
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.rand(BATCH, 3, size, size, generator=generator)
    labels_N = torch.arange(BATCH)
    for number in range(count):
        params = spaces.random_params(search_space, rng)
        shape = search_space.shape(params, classes=CLASSES, channels=3, size=size)
        budget = Budget.parse(BUDGETS[number % len(BUDGETS)])
        architecture = solve(shape, budget, metadata, multiple=4).architecture
        print(architecture.words, flush=True)
        for layout in LAYOUTS:
            for precision in PRECISIONS[1:]:
                mode = ComputeMode(layout, precision)
                model = Model(build(architecture, seed=number), size=size, mean=mean, std=std)
                set_layout(model, mode.memory_format)
                steps(model, mode, images_NCHW, labels_N)
    print("done", flush=True)


def steps(
    model: Model, mode: ComputeMode, images_NCHW: torch.Tensor, labels_N: torch.Tensor
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(STEPS):
        optimizer.zero_grad()
        with mode.autocast(torch.device("cpu")):
            loss = F.cross_entropy(model(images_NCHW).float(), labels_N)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert loss.isfinite(), mode.words
        assert all(gradient.isfinite().all() for gradient in gradients), mode.words
        optimizer.step()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
