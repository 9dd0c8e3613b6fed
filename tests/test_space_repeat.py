"""Depth without bytes: a block applied several times has its weights once and a norm each time."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from strategies import BLOCKS, plain_card
from test_trainers_export import distance, images, live, trained
from tiny import one_thread
from torch import nn

from space import count
from space.architecture import Architecture, Stage
from space.build import Student, build
from space.errors import InputError
from space.file_format import FORMATS, payload, stored_bytes
from space.modules import ConvNorm
from space.solver import Budget, solve
from trainers import export

__all__ = ["one_thread"]


def network(block: str, repeat: int, depth: int = 2, se: int = 4) -> Architecture:
    stage = Stage(
        width=16,
        block=block,
        depth=depth,
        stride=2,
        groups=4,
        shuffle=True,
        expansion=2,
        se=se,
        residual=True,
        repeat=repeat,
    )
    return Architecture(stem=Stage(width=8), stages=(stage,), classes=5)


def convolutions(part: nn.Module) -> list[ConvNorm]:
    return [module for module in part.modules() if isinstance(module, ConvNorm)]


def unrolled(student: Student, block: str, repeat: int) -> Student:
    """The same network with a block of its own for each application."""
    longer = build(network(block, 1, depth=1 + repeat), seed=5)
    stem, first, later, head = student.blocks
    ends = (*longer.blocks[:2], longer.blocks[-1])
    for source, target in zip((stem, first, head), ends, strict=True):
        target.load_state_dict(source.state_dict())
    for application, target in enumerate(longer.blocks[2:-1]):
        own = {key: value for key, value in later.state_dict().items() if "norm" not in key}
        missing, unexpected = target.load_state_dict(own, strict=False)
        assert not unexpected
        assert all("norm" in key for key in missing)
        for one, other in zip(convolutions(target), convolutions(later), strict=True):
            if other.norms:
                one.norms[0].load_state_dict(other.norms[application].state_dict())
    return longer.eval()


@pytest.mark.parametrize("block", BLOCKS)
def test_it_is_the_unrolled_network_with_the_same_weights(block: str, tmp_path: Path) -> None:
    """Forwards, as a file of each format, and in what both cost."""
    student = trained(network(block, 3))
    longer = unrolled(student, block, 3)
    here, there = student.architecture, longer.architecture
    images_NCHW = images(here)
    assert torch.equal(student(images_NCHW), longer(images_NCHW))
    assert count.macs(here, 9) == count.macs(there, 9)
    assert count.activation_peak(here, 9) == count.activation_peak(there, 9)
    card = plain_card(here, 9)
    for format, tolerance in {"fp32": 1e-4, "fp16": 0.02, "int8": 0.25}.items():
        path = tmp_path / format
        size = export.write(student, card, format, path)
        assert size == path.stat().st_size == stored_bytes(here, format, card)
        assert size < stored_bytes(there, format, card)
        stored = export.read(path)
        assert stored.architecture == here
        assert distance(live(student, card), stored.model, images_NCHW) < tolerance
        # Written again, it is the same file: what is read loses nothing.
        network_read = stored.model.network
        assert isinstance(network_read, Student)
        assert export.write(network_read, card, format, tmp_path / "again") == size
        assert (tmp_path / "again").read_bytes() == path.read_bytes()


def test_the_bytes_by_hand() -> None:
    """A convolution from 16 to 16 channels, applied three times: two scales and biases more."""
    once, thrice = (network("conv", repeat, se=0) for repeat in (1, 3))
    found = {format: [payload(n, format) for n in (once, thrice)] for format in FORMATS}
    (one,), (three,) = (pair.values() for pair in found["fp32"])
    assert three[1] - one[1] == 3 * 2 * 16 - 16
    assert [flat["q"] for flat in found["int8"]] == [found["int8"][0]["q"]] * 2
    assert found["int8"][1]["h"][1] - found["int8"][0]["h"][1] == 2 * 2 * 16
    assert count.parameters(thrice) - count.parameters(once) == 2 * 2 * 16
    assert count.macs(thrice, 8) - count.macs(once, 8) == 2 * 16 * 16 * 9 * 4 * 4


@pytest.mark.parametrize("block", BLOCKS)
def test_each_application_learns_its_own_statistics(block: str) -> None:
    student = build(network(block, 3), seed=0).train()
    student(images(student.architecture, count=8) * 3).square().sum().backward()
    shared = [part for part in convolutions(student.blocks[2]) if part.norms]
    assert shared
    for part in shared:
        means = [norm.running_mean for norm in part.norms if isinstance(norm, nn.BatchNorm2d)]
        assert len(means) == 3
        assert all(mean is not None and mean.abs().sum() > 0 for mean in means)
        assert not torch.equal(*means[:2])  # type: ignore[arg-type]
        assert all(norm.weight.grad is not None for norm in part.norms)


def test_it_has_no_effect_without_a_second_block() -> None:
    once, twice = (network("conv", repeat, depth=1) for repeat in (1, 2))
    assert once.fingerprint == twice.fingerprint
    assert twice.canonical() == once.canonical()
    assert "repeat" not in network("conv", 1).to_json()
    two = network("conv", 2)
    assert two.fingerprint != network("conv", 1).fingerprint
    assert Architecture.from_json(two.to_json()) == two
    assert " r2" in two.words
    with pytest.raises(InputError, match="stage 1: repeat must be 1 to 16, but got 17"):
        network("conv", 17).check()


def test_a_limit_of_macs_takes_repetitions_before_depth_and_a_budget_after_it() -> None:
    shape = network("residual", 4, depth=3)
    shape = replace(shape, stages=shape.stages * 2)
    card = plain_card(shape, 32)
    floor = count.macs(shape.with_widths((4, 4, 4)), 32)
    by_macs = solve(shape, Budget.parse("100KB", macs=str(floor - 1)), card)
    assert by_macs.repairs == ("stage 2: repeat 4 -> 3",)
    least = count.macs(network_of(shape, repeat=1).with_widths((4, 4, 4)), 32)
    deeper = solve(shape, Budget.parse("100KB", macs=str(least - 1)), card)
    assert deeper.repairs == (
        *("stage 1: repeat 4 -> 1", "stage 2: depth 3 -> 2", "stage 2: repeat 4 -> 1"),
    )
    smallest = stored_bytes(shape.with_widths((4, 4, 4)), "int8", card)
    by_bytes = solve(shape, Budget(smallest - 50), card)
    assert by_bytes.repairs == ("stage 2: depth 3 -> 2",)


def network_of(shape: Architecture, repeat: int) -> Architecture:
    return replace(shape, stages=tuple(replace(stage, repeat=repeat) for stage in shape.stages))
