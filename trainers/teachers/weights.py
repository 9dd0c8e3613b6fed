"""Weights in a file, as people save them, and the network that they belong to.

A state dict is found wherever it lies in a file, under whatever prefix, and torch loads it. Nothing
in a file is ever run: a file that holds code is refused, with the way out.
"""

import argparse
import re
import warnings
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import nn

from space.errors import InputError

# Parts of names that torch's wrappers add (DataParallel, compile, FSDP, checkpointing).
WRAPPERS = frozenset(("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"))
# Names of layers that torchvision's DenseNets had, and still have in its own files.
OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(?=[12]\.)")
AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")  # classifiers that we do not train
WAY_OUT = "save its weights alone: torch.save(model.state_dict(), 'weights.pt')"
CODE = re.compile(r"GLOBAL (\S+)")
# What checkpoints hold beside weights, and what is data though it has a class.
PLAIN: list[Any] = [
    argparse.Namespace,
    *((PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
    *((PureWindowsPath, f"{module}.WindowsPath") for module in ("pathlib", "pathlib._local")),
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"},
    (np._core.multiarray.scalar, "numpy._core.multiarray.scalar"),  # type: ignore[attr-defined]
    (np._core.multiarray.scalar, "numpy.core.multiarray.scalar"),  # type: ignore[attr-defined]
]

State = OrderedDict[str, torch.Tensor]  # may have torch's `_metadata`: the versions of its parts


def read_content(path: Path) -> object:
    """All that a file of weights holds, on the CPU: safetensors, or whatever `torch.save` wrote.

    Raises:
        InputError: it cannot be read or decoded, or holds code.
    """
    try:
        if _is_safetensors(path):
            return safetensors.torch.load_file(path)
        with (
            warnings.catch_warnings(action="ignore"),  # of odd pickle protocols
            torch.serialization.safe_globals(PLAIN),
        ):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"weights {path} cannot be read: {error.strerror}") from None
    except Exception as error:  # damage makes the unpickler raise whatever it leads to
        raise InputError(_undecodable(path, error)) from None


def fill(network: nn.Module, content: object, source: str, name: str, new: Collection[str]) -> None:
    """Load a file's weights into a network.

    Args:
        content: what `read_content` gave.
        source: of the content, for messages.
        name: of the network, for messages.
        new: weights that stay as they are, whatever the file has.

    Raises:
        InputError: no state dict in it, or another network's.
    """
    own = network.state_dict()
    state = _closest(content, own, source)
    for key in [key for key in state if key in new or key.startswith(AUXILIARY)]:
        del state[key]
    try:
        with warnings.catch_warnings(action="ignore"):  # of an older torchvision's networks
            missing, unknown = network.load_state_dict(state, strict=False)
    except (RuntimeError, ValueError) as error:
        raise InputError(_misfit(source, name, own, state, error)) from None
    # A single number counts batches or epochs: torch does without.
    odd = [key for key in missing if key not in new and own[key].dim()]
    odd += [key for key in unknown if key not in state or state[key].dim()]
    if odd:
        raise InputError(
            f"{source} must hold the weights of {name}, but {odd[0]!r} is only in one of them; "
            "name the network that it was trained as"
        )


def _is_safetensors(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _undecodable(path: Path, error: Exception) -> str:
    code = CODE.search(str(error))
    if code is not None:
        return f"{path} holds code ({code[1]}), which is not run; {WAY_OUT}"
    if "TorchScript" in str(error):
        return (
            f"{path} is a TorchScript archive, which is code and is not run; save its weights "
            f"alone: torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pt'), or have "
            f"it asked as it is: distilnas teacher describe {path.name}"
        )
    if path.suffix.lower() == ".onnx":
        return (
            f"{path} is an ONNX file, which can be asked but not fine-tuned; give a state dict, or "
            f"have it asked as it is: distilnas teacher describe {path.name}"
        )
    return f"{path} must hold a PyTorch state dict, but cannot be decoded; {WAY_OUT}"


def _states(content: object) -> Iterator[State]:
    """Every mapping of tensors in a file's content, the outer ones first."""
    parts, seen = deque([content]), set()
    while parts:
        part = parts.popleft()
        if not isinstance(part, Mapping | list | tuple) or id(part) in seen:
            continue
        seen.add(id(part))
        parts.extend(part.values() if isinstance(part, Mapping) else part)
        if isinstance(part, Mapping) and any(map(torch.is_tensor, part.values())):
            yield _state(part)


def _state(mapping: Mapping[object, object]) -> State:
    """The tensors of a mapping, and the versions that torch keeps beside them."""
    found = State((_plain(str(k)), v) for k, v in mapping.items() if torch.is_tensor(v))
    versions = getattr(mapping, "_metadata", None)
    if isinstance(versions, Mapping):
        pairs = ((_plain(f"{k}.")[:-1], v) for k, v in versions.items())
        found._metadata = {k: v for k, v in pairs if isinstance(v, Mapping)}  # type: ignore[attr-defined]
    return found


def _plain(name: str) -> str:
    parts = OLD_DENSENET.sub(r"\1", name).split(".")
    return ".".join(part for part in parts if part not in WRAPPERS)


def _closest(content: object, own: Mapping[str, torch.Tensor], source: str) -> State:
    """The state dict with the most of the network's names, or the first of several.

    A prefix that its names have in common is cut off, and what has another one left out.
    """
    best, most = None, -1
    for state in _states(content):
        prefix, count = _prefix(state, own)
        if count > most:
            best, most = _without(prefix, state), count
    if best is None:
        raise InputError(f"{source} must hold a state dict (name -> tensor); {WAY_OUT}")
    if not hasattr(best, "_metadata"):  # lost, as in safetensors: take today's versions
        versions: Any = own._metadata  # type: ignore[attr-defined]
        best._metadata = {"": versions[""]}  # type: ignore[attr-defined]
    return best


def _prefix(state: State, own: Mapping[str, torch.Tensor]) -> tuple[str, int]:
    """What stands before the network's names, and how many of these are there."""
    found: Counter[str] = Counter({"": 0})
    for name in state:
        cuts = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        found.update(name[:cut] for cut in cuts if name[cut:] in own)
    return found.most_common(1)[0]


def _without(prefix: str, state: State) -> State:
    cut = State((k.removeprefix(prefix), v) for k, v in state.items() if k.startswith(prefix))
    versions = getattr(state, "_metadata", None)
    if versions is not None:
        path, start = prefix[:-1], len(prefix)
        parts = {key[start:]: value for key, value in versions.items() if key.startswith(prefix)}
        whole = {"": versions[path]} if path in versions else {}
        cut._metadata = parts | whole  # type: ignore[attr-defined]
    return cut


def _misfit(
    source: str, name: str, own: Mapping[str, torch.Tensor], state: State, error: Exception
) -> str:
    odd = next((k for k in own if k in state and state[k].shape != own[k].shape), None)
    why = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
    if odd is not None:
        why = f"{odd} must be {tuple(own[odd].shape)}, but is {tuple(state[odd].shape)}"
    return f"{source} does not fit {name}: {why}; name the network that it was trained as"
