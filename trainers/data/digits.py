"""Scikit-learn's 1,797 handwritten digits, at any size."""

import numpy as np
import torch
from PIL import Image

DIGITS_SIZE = 8  # pixels, as they come
DIGITS_WHITE = 16  # grey levels


def digits(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All 1,797 digits: uint8 (N, 1, size, size) and int64 (N,)."""
    from sklearn.datasets import load_digits  # takes a second, and photographs do without

    bunch = load_digits()
    levels_NHW = np.rint(bunch.images * (255 / DIGITS_WHITE)).astype(np.uint8)
    if size != DIGITS_SIZE:
        box = (size, size)
        small = (Image.fromarray(levels) for levels in levels_NHW)
        levels_NHW = np.stack(
            [np.asarray(digit.resize(box, Image.Resampling.BILINEAR)) for digit in small]
        )
    return torch.from_numpy(levels_NHW)[:, None], torch.from_numpy(bunch.target).to(torch.int64)
