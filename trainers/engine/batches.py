"""Batches of an epoch, on the device: pixels, draws, labels, the teacher's logits.

Shape suffixes: N images, P photographs (the N images, and where they are mixed their N partners
after them), C channels, H x W pixels, L lanes (draws of an image's view), 4 edges of a box, K
classes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from trainers.data.augment import LANES, drawn_views
from trainers.data.datasets import Split
from trainers.data.mixing import mixed, mixing
from trainers.data.random import uniforms
from trainers.engine.steps import batch_indices
from trainers.recipe import Recipe

RESIDENT_SHARE = 0.4  # of a GPU's free memory that the images may take; larger ones are streamed


class Batch(NamedTuple):
    """All that a step reads; tensors only, so that a CUDA graph can have its own copy."""

    pixels_PCHW: torch.Tensor  # uint8
    draws_PL: torch.Tensor  # float32, uniform
    labels_P: torch.Tensor  # int64; NO_LABEL where there is none
    weight_N: torch.Tensor  # float32, of the image's label against its partner's; 1: not mixed
    box_N4: torch.Tensor  # float32, what of the partner is pasted; N x 0 without CutMix
    teacher_NK: torch.Tensor  # float32; N x 0 where it is not used

    def __len__(self) -> int:
        return len(self.weight_N)

    def part(self, begin: int, end: int) -> "Batch":
        """Images begin to end, with their partners."""
        chosen = [slice(begin, end)]
        if len(self.labels_P) > len(self):
            chosen.append(slice(begin + len(self), end + len(self)))
        pixels, draws, labels = (
            torch.cat([tensor[s] for s in chosen])
            for tensor in (self.pixels_PCHW, self.draws_PL, self.labels_P)
        )
        own = slice(begin, end)
        weight_N, box_N4, teacher_NK = self.weight_N[own], self.box_N4[own], self.teacher_NK[own]
        return Batch(pixels, draws, labels, weight_N, box_N4, teacher_NK)


class Batches:
    """The training images of a run, and the tables of its current epoch."""

    def __init__(
        self,
        split: Split,
        recipe: Recipe,
        device: torch.device,
        unlabelled: Split | None = None,
    ) -> None:
        """Take images, and after them those without labels, of which only a teacher speaks."""
        splits = [split] if unlabelled is None else [split, unlabelled]
        self.recipe, self.device, self.count = recipe, device, sum(map(len, splits))
        self.images_NCHW, *more = resident(device, *(split.images_NCHW for split in splits))
        self.more_NCHW = more[0] if more else None  # those without labels, where they lie apart
        self.labels_N = torch.cat([split.labels_N for split in splits]).to(device)
        self.some_unlabelled = unlabelled is not None
        self.begin(0)

    def begin(self, epoch: int, teacher_NK: torch.Tensor | None = None) -> None:
        """Draw the views of an epoch; `teacher_NK` are the teacher's logits for all of them."""
        augment, seed = self.recipe.augment, self.recipe.view_seed
        self.epoch = epoch  # of the order, which is new each time
        seen = self.recipe.view_epoch(epoch)
        every_N = torch.arange(self.count, device=self.device)
        self.draws_NL = uniforms(seed, seen, every_N, LANES)
        self.weight_N = torch.ones(self.count, device=self.device)
        self.box_N4 = torch.empty(self.count, 0, device=self.device)
        self.partner_N = None
        if augment.mixes:
            partner_N, self.weight_N, self.box_N4 = mixing(
                every_N, self.count, seed=seed, epoch=seen, augment=augment
            )
            self.partner_N = partner_N.to(self.images_NCHW.device)
        unheard_N0 = torch.empty(self.count, 0, device=self.device)
        self.teacher_NK = unheard_N0 if teacher_NK is None else teacher_NK.to(self.device)

    def __iter__(self) -> Iterator[Batch]:
        for index_N in batch_indices(self.count, self.recipe, self.epoch, self.images_NCHW.device):
            yield self.batch(index_N)

    def batch(self, index_N: torch.Tensor) -> Batch:
        """The images of int64 places `index_N`, a tensor on the images' device."""
        photographs_P = index_N
        if self.partner_N is not None:
            photographs_P = torch.cat([index_N, self.partner_N[index_N]])
        pixels_PCHW = self.pixels(photographs_P)
        index_N = index_N.to(self.device, non_blocking=True)
        photographs_P = photographs_P.to(self.device, non_blocking=True)
        return Batch(
            pixels_PCHW,
            self.draws_NL[photographs_P],
            self.labels_N[photographs_P],
            self.weight_N[index_N],
            self.box_N4[index_N],
            self.teacher_NK[index_N],
        )

    def pixels(self, photographs_P: torch.Tensor) -> torch.Tensor:
        """Photographs, uint8, on the training device; streamed to it where they do not fit."""
        if self.more_NCHW is None:
            chosen_PCHW = self.images_NCHW[photographs_P]
        else:
            chosen_PCHW = _from_both(self.images_NCHW, self.more_NCHW, photographs_P)
        if chosen_PCHW.device.type == self.device.type:
            return chosen_PCHW
        return chosen_PCHW.pin_memory().to(self.device, non_blocking=True)

    def views(self, batch: Batch) -> torch.Tensor:
        """The views of a batch, mixed where the policy says so: float32 in [0, 1], NCHW."""
        view_PCHW = drawn_views(batch.pixels_PCHW, batch.draws_PL, self.recipe.augment)
        if not self.recipe.augment.mixes:
            return view_PCHW
        return mixed(view_PCHW, batch.weight_N, batch.box_N4)


def resident(device: torch.device, *images_NCHW: torch.Tensor) -> Sequence[torch.Tensor]:
    """The images in one tensor on the device; where they do not fit, where they were.

    On a CPU they stay memory maps: what is read of them comes from the disk once, and the system
    takes the memory back when it is short. So none are copied to be joined.
    """
    if device.type != "cuda":
        return images_NCHW
    free, _ = torch.cuda.mem_get_info(device)
    if sum(images.nbytes for images in images_NCHW) > RESIDENT_SHARE * free:
        return images_NCHW
    first, counts = images_NCHW[0], [len(images) for images in images_NCHW]
    joined_NCHW = torch.empty((sum(counts), *first.shape[1:]), dtype=first.dtype, device=device)
    for place_NCHW, images in zip(joined_NCHW.split(counts), images_NCHW, strict=True):
        place_NCHW.copy_(images)
    return [joined_NCHW]


def _from_both(
    first_NCHW: torch.Tensor, second_NCHW: torch.Tensor, index_P: torch.Tensor
) -> torch.Tensor:
    """The images at places of two tensors, as if the second lay behind the first."""
    count = len(first_NCHW)
    chosen_PCHW = first_NCHW.new_empty((len(index_P), *first_NCHW.shape[1:]))
    is_first_P = index_P < count
    chosen_PCHW[is_first_P] = first_NCHW[index_P[is_first_P]]
    chosen_PCHW[~is_first_P] = second_NCHW[index_P[~is_first_P] - count]
    return chosen_PCHW
