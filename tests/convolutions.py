"""Trains layers and students on a CPU, as a program of its own: what it finds may crash it.

    python tests/convolutions.py layers|students SETTINGS

Settings are JSON; standard output is a JSON list of what was wrong.
"""

import itertools
import json
import random
import sys
from collections.abc import Iterator
from typing import Any

import torch

from space import families
from space.budget import Budget, solve
from space.build import ConvNorm, build
from space.layers import Layer
from space.storage import Card, normalisation
from trainers.modes import LAYOUTS, Mode

CPU = torch.device("cpu")
# Largest relative difference to float64 of outputs and gradients.
TOLERANCES = {"fp32": 2e-4, "bf16": 0.04}
CHANNELS = (  # inputs, outputs, groups
    *((1, 4, 1), (3, 8, 1), (4, 12, 1), (8, 4, 1), (12, 20, 1), (20, 32, 1), (40, 24, 1)),
    *((4, 4, 4), (20, 20, 20), (24, 24, 24), (72, 72, 72)),
    *((8, 16, 2), (12, 24, 4), (20, 40, 4), (24, 48, 8), (32, 64, 8)),
)


def layers(settings: dict[str, Any]) -> Iterator[str]:
    """Outputs and gradients of every kind of convolution against float64."""
    side, batch = settings["side"], settings["batch"]
    kinds = itertools.product(CHANNELS, settings["kernels"], (1, 2))
    for ((inputs, outputs, groups), kernel, stride), mode in itertools.product(kinds, modes()):
        layer = Layer("layer", "conv", inputs, outputs, kernel, stride, groups, bias=True)
        torch.manual_seed(0)
        module = ConvNorm(layer, folded=False)
        exact = ConvNorm(layer, folded=False).double()
        exact.load_state_dict(module.state_dict())
        images_NCHW = torch.randn(batch, inputs, side, side)
        wanted = exact(images_NCHW.double().requires_grad_())
        weights_NCHW = torch.randn_like(wanted)
        expected = gradients(exact, images_NCHW.double(), weights_NCHW, Mode())
        module.to(memory_format=mode.memory_format)
        found = gradients(module, images_NCHW, weights_NCHW, mode)
        for name, gradient in expected.items():
            error = (found[name].double() - gradient).abs().max() / gradient.abs().max()
            if not error <= TOLERANCES[mode.precision]:
                yield f"{layer} on {side} pixels, {mode.words}: {name} is off by {error:.2g}"


def gradients(
    module: ConvNorm, images_NCHW: torch.Tensor, weights_NCHW: torch.Tensor, mode: Mode
) -> dict[str, torch.Tensor]:
    """The output and all gradients of its weighted sum."""
    images_NCHW = images_NCHW.contiguous(memory_format=mode.memory_format).requires_grad_()
    with mode.autocast(CPU):
        outputs = module(images_NCHW)
    outputs.backward(weights_NCHW.to(outputs.dtype).contiguous(memory_format=mode.memory_format))
    assert images_NCHW.grad is not None
    named = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert all(gradient is not None for gradient in named.values())
    return {"output": outputs.detach(), "images": images_NCHW.grad, **named}  # type: ignore[dict-item]


def modes() -> Iterator[Mode]:
    return (Mode(layout, precision) for layout in LAYOUTS for precision in TOLERANCES)


def students(settings: dict[str, Any]) -> Iterator[str]:
    """Random students of a space, a few steps each: finite gradients."""
    size, budget = settings["size"], Budget.parse(settings["budget"])
    space = families.family(settings["space"], size=size, compressed_stem=True)
    mean, std = normalisation(3)
    card = Card(classes=("a", "b", "c"), size=size, mean=mean, std=std)
    rng = random.Random(settings["seed"])
    for _ in range(settings["count"]):
        params = families.random_params(space, rng)
        shape = space.shape(params, classes=3, channels=3, size=size)
        architecture = solve(shape, budget, card).architecture
        for mode in modes():
            student = build(architecture, seed=0).to(memory_format=mode.memory_format)
            images_NCHW = torch.randn(settings["batch"], 3, size, size)
            images_NCHW = images_NCHW.contiguous(memory_format=mode.memory_format)
            for _ in range(2):
                with mode.autocast(CPU):
                    student(images_NCHW).float().square().mean().backward()
            if not all(
                p.grad is not None and p.grad.isfinite().all() for p in student.parameters()
            ):
                yield f"{architecture.words}, {mode.words}: gradients that are not finite"


if __name__ == "__main__":
    work, settings = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(list(layers(settings) if work == "layers" else students(settings))))
