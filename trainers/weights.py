"""Weights as people save them: the state dict in a file, and its names as a network has them.

A file may hold a bare state dict or a checkpoint around it, by `torch.save` (old and new format),
safetensors or TorchScript; names may carry what DataParallel, `torch.compile` or a Lightning module
put before them, and DenseNet's may be torchvision's old ones.
"""

import argparse
import pathlib
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from space.errors import InputError

State = dict[str, Tensor]

NESTED = 4  # levels of a checkpoint that are looked through
COMPILED = "_orig_mod."  # put into names by torch.compile
COUNTS = ".num_batches_tracked"  # of batch norms: files from before PyTorch 0.4.1 lack them
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers that are used in training only
# torchvision before 0.3 wrote `denselayer1.norm.1.weight` for `denselayer1.norm1.weight`.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")
# What checkpoints hold beside weights: harmless, and refused by PyTorch unless it is named.
SAFE: list[Any] = [
    argparse.Namespace,
    pathlib.PosixPath,
    np.dtype,
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
    *(getattr(np.dtypes, name) for name in np.dtypes.__all__),
]
ONLY_WEIGHTS = "save its weights alone: torch.save(model.state_dict(), 'weights.pt')"


def read(path: Path) -> list[State]:
    """The state dicts in a file, in its order: a checkpoint may hold several.

    Raises:
        InputError: the file cannot be read, or holds none.
    """
    try:
        content = _content(path)
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror}") from None
    found = [state for state in _states(content, NESTED) if state]
    if not found:
        raise InputError(f"{path} must hold a state dict (name -> tensor), but holds none")
    return found


def fitting(states: Sequence[State], own: Mapping[str, Tensor], network: str, source: str) -> State:
    """The first of the state dicts that has a network's names, under these names.

    Args:
        own: the network's state dict.
        network, source: for messages.

    Raises:
        InputError: none has them; names the first difference. Shapes are not compared.
    """
    renamed = [_renamed(state, own) for state in states]
    for state in renamed:
        if _odd(state, own) is None:
            return {name: state.get(name, own[name]) for name in own}
    closest = max(renamed, key=lambda state: len(state.keys() & own.keys()))
    raise InputError(
        f"{source} must hold the weights of {network}, but {_odd(closest, own)!r} is only in one "
        "of them; name the network that it was trained as"
    )


def _content(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(9)
    try:
        if head[8:] == b"{" and not head.startswith(b"PK"):
            return safetensors.torch.load_file(path)
        with (
            warnings.catch_warnings(action="ignore"),  # of odd pickle protocols
            torch.serialization.safe_globals(SAFE),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise _undecodable(path) from None
        raise InputError(
            f"{path} must hold weights alone, but holds Python objects ({found[1]}), which may "
            f"run programs when they are read; {ONLY_WEIGHTS}"
        ) from None
    except RuntimeError as error:
        if "TorchScript" not in str(error):
            raise _undecodable(path) from None
        return _scripted(path)
    except (InputError, OSError):
        raise
    except (SafetensorError, Exception):  # damage makes readers raise whatever it leads to
        raise _undecodable(path) from None


def _scripted(path: Path) -> Mapping[str, Tensor]:
    try:
        with warnings.catch_warnings(action="ignore"):
            state: Mapping[str, Tensor] = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    except Exception:
        raise _undecodable(path) from None
    return state


def _undecodable(path: Path) -> InputError:
    return InputError(f"{path} must hold a PyTorch state dict, but cannot be decoded")


def _states(content: Any, levels: int) -> Iterator[State]:
    """Mappings of names to tensors, from the outside in; what else they hold is left out."""
    if not isinstance(content, Mapping) or not levels:
        return
    yield {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    for value in content.values():
        yield from _states(value, levels - 1)


def _renamed(state: State, own: Mapping[str, Tensor]) -> State:
    """Names without what stands before a network's own; without other modules' weights."""
    plain = {
        OLD_DENSENET.sub(r"\1\2.", name.replace(COMPILED, "")): value
        for name, value in state.items()
    }
    prefix = _prefix(plain, own)
    kept = {
        name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)
    }
    return {
        name: value
        for name, value in kept.items()
        if name in own or not (name.startswith(AUXILIARY) or value.ndim == 0)
    }


def _prefix(state: State, own: Mapping[str, Tensor]) -> str:
    """What stands before the network's names: the shortest that fits all, else the commonest."""
    wanted = [name for name in own if not name.endswith(COUNTS)]
    first = wanted[0]
    prefixes = {
        name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")
    }
    return max(
        sorted(prefixes, key=len),
        key=lambda prefix: sum(prefix + name in state for name in wanted),
        default="",
    )


def _odd(state: State, own: Mapping[str, Tensor]) -> str | None:
    """A name that only one of them has; counts of batches may be missing."""
    missing = (name for name in own if name not in state and not name.endswith(COUNTS))
    return next(missing, None) or next((name for name in state if name not in own), None)
