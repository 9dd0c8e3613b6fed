"""Networks that can be asked, but not trained further: TorchScript archives and ONNX files.

Both hold code beside the weights. A file is opened only where its description beside it names its
kind, which `distilnas teacher describe` writes when the user asks for it.
"""

import io
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from space.errors import InputError, first_line

TORCHSCRIPT, ONNX = "torchscript", "onnx"
# What their descriptions say in place of a network's name -> in words.
KINDS = {TORCHSCRIPT: "TorchScript archive", ONNX: "ONNX file"}
ARCHIVE = b"PK\x03\x04"  # how a TorchScript archive begins: it is a zip file
FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}


class Asked(nn.Module):
    """A network of a file that holds its code, and the file's content."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = content

    @property
    def shape(self) -> tuple[int | None, int | None]:
        """Channels and pixels of its input; None where the file does not fix them."""
        return None, None


class Scripted(Asked):
    """A TorchScript archive; asked in float32, on the device of its weights."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        try:
            with warnings.catch_warnings(action="ignore"):  # torch would rather see torch.export
                self.script = torch.jit.load(io.BytesIO(content), map_location="cpu")
        except Exception as error:  # damage makes it raise whatever it leads to
            raise InputError(
                f"{path} must be a TorchScript archive, but cannot be loaded as one "
                f"({first_line(error)}); write it with torch.jit.save"
            ) from None

    def forward(self, images_NCHW: torch.Tensor) -> Any:
        # Where it was frozen its weights are constants, which stay on the CPU.
        weight = next(self.script.parameters(), images_NCHW.new_empty(0, device="cpu"))
        with torch.autocast(images_NCHW.device.type, enabled=False):
            given = self.script(images_NCHW.to(weight.device, torch.float32))
        return given.to(images_NCHW.device) if isinstance(given, torch.Tensor) else given


class Onnx(Asked):
    """An ONNX file; asked on the CPU, whatever the device of the images."""

    def __init__(self, content: bytes, path: Path) -> None:
        super().__init__(content)
        self.session = _session(content, path)
        inputs = self.session.get_inputs()
        given = ", ".join(f"{part.type} of {len(part.shape)} dimensions" for part in inputs)
        if len(inputs) != 1 or inputs[0].type not in FLOATS or len(inputs[0].shape) != 4:
            raise InputError(
                f"{path} must take images as one input of floats, N x C x H x W, but takes "
                f"{given}; export the network alone"
            )
        self.input = inputs[0]

    @property
    def shape(self) -> tuple[int | None, int | None]:
        _, channels, _, width = (n if isinstance(n, int) else None for n in self.input.shape)
        return channels, width

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        given = images_NCHW.detach().cpu().numpy().astype(FLOATS[self.input.type])
        fixed = self.input.shape[0]  # some files take so many images at once, no more and no fewer
        step = fixed if isinstance(fixed, int) else max(1, len(given))
        parts = [self._ask(given[at : at + step], step) for at in range(0, len(given), step)]
        return torch.from_numpy(np.concatenate(parts)).float().to(images_NCHW.device)

    def _ask(self, part: npt.NDArray[Any], step: int) -> npt.NDArray[Any]:
        missing = step - len(part) if isinstance(self.input.shape[0], int) else 0
        padded = np.pad(part, ((0, missing), (0, 0), (0, 0), (0, 0)))
        name = self.session.get_outputs()[0].name
        (logits_NK,) = self.session.run([name], {self.input.name: padded})
        return np.asarray(logits_NK)[: len(part)]


def kind_of(path: Path) -> str:
    """What a file is by its first bytes; raises InputError where it cannot be read."""
    return TORCHSCRIPT if read_file(path).startswith(ARCHIVE) else ONNX


def read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"teacher {path} cannot be read: {error.strerror}") from None


def opened(kind: str, path: Path) -> Asked:
    """The network of a file.

    Raises:
        InputError: it cannot be read or loaded, takes no images, or onnxruntime is missing.
    """
    content = read_file(path)
    return Scripted(content, path) if kind == TORCHSCRIPT else Onnx(content, path)


def _session(content: bytes, path: Path) -> Any:
    try:
        runtime = import_module("onnxruntime")
    except ImportError:
        raise InputError(
            f"{path} is asked by the package onnxruntime, which is not installed; "
            'pip install "distilnas[onnx]"'
        ) from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what goes wrong is raised, and told in one line
    try:
        return runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no class in common but this
        raise InputError(
            f"{path} must be an ONNX file that holds its weights, but cannot be loaded as one "
            f"({first_line(error)}); write it with torch.onnx.export(..., external_data=False)"
        ) from None
