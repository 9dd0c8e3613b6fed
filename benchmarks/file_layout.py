"""What a student's file spends beside its weights: flat tensors against named ones.

    python benchmarks/file_layout.py

Random shapes of the space `mixed` at 64 pixels and 11 classes, solved for a budget in int8. The
named layout stores every layer's codes, scales and biases under the layer's name, as a plain
`safetensors.torch.save` of a state dict would.
"""

import random
from statistics import median

import safetensors.torch
import torch

from space.architecture import Architecture
from space.file_format import StudentMetadata, header_entries, payload, stored_bytes, weights
from space.solver import Budget, solve
from space.spaces import random_params, search_space

SHAPES = 200
CARD = StudentMetadata(
    classes=tuple(str(k) for k in range(11)),
    size=64,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def named_bytes(architecture: Architecture, metadata: StudentMetadata) -> int:
    """Size of the file with one tensor a weight, a scale and a bias."""
    tensors = {}
    for weight in weights(architecture):
        tensors[f"{weight.name}.w"] = torch.zeros(weight.shape, dtype=torch.int8)
        tensors[f"{weight.name}.s"] = torch.zeros(weight.shape[0], dtype=torch.float16)
        tensors[f"{weight.name}.b"] = torch.zeros(weight.shape[0], dtype=torch.float16)
    return len(
        safetensors.torch.save(tensors, metadata=header_entries(architecture, metadata, "int8"))
    )


def main() -> None:
    mixed, rng = search_space("mixed", size=64), random.Random(0)
    print(f"{'budget':>8} {'flat header':>12} {'named header':>13}   median share of the file")
    for text in ("20KB", "100KB", "300KB", "1MB"):
        flat, named = [], []
        for _ in range(SHAPES):
            shape = mixed.shape(random_params(mixed, rng), classes=11, channels=3, size=64)
            student = solve(shape, Budget.parse(text, "int8"), CARD).architecture
            layout = payload(student, "int8")
            content = layout["q"][1] + 2 * layout["h"][1]
            flat.append(1 - content / stored_bytes(student, "int8", CARD))
            named.append(1 - content / named_bytes(student, CARD))
        print(f"{text:>8} {median(flat):>12.1%} {median(named):>13.1%}")


if __name__ == "__main__":
    main()
