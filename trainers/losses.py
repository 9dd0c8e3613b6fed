"""Losses of distillation, each with its equation and source.

N images, K classes; logits are raw scores. Every loss is computed in float32 whatever the
network's own precision, because log-softmax at a temperature loses digits in 16 bits.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F

from space.errors import require_one_of
from trainers.recipe import LOSS_SETTINGS

# (student's logits NK, teacher's logits NK, labels N, temperature) -> loss of each image, N
SoftLoss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, float], torch.Tensor]


def hard_loss(
    logits_NK: torch.Tensor, labels_N: torch.Tensor, label_smoothing: float = 0.0
) -> torch.Tensor:
    """Cross-entropy with the labels, one value an image, shape N."""
    return F.cross_entropy(
        logits_NK.float(), labels_N, reduction="none", label_smoothing=label_smoothing
    )


def kd(
    logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Hinton's distillation: T^2 KL(softmax(teacher / T) || softmax(student / T)).

    T^2 keeps the gradient's scale whatever T (Hinton et al., arXiv:1503.02531).
    """
    student, teacher = logits_NK.float() / temperature, teacher_NK.float() / temperature
    return temperature**2 * _divergence(teacher, student)


def standardised_kd(
    logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """KD of logits with zero mean and unit standard deviation an image.

    The student need not match the teacher's range (Sun et al., arXiv:2403.01427).
    """
    return kd(_standardise(logits_NK), _standardise(teacher_NK), labels_N, temperature)


def dkd(
    logits_NK: torch.Tensor,
    teacher_NK: torch.Tensor,
    labels_N: torch.Tensor,
    temperature: float,
    beta: float = 8.0,
) -> torch.Tensor:
    """Decoupled KD: T^2 (KL of [target, rest] + beta KL among the other classes).

    Zhao et al., arXiv:2203.08679, equation 7, with alpha = 1.
    """
    student, teacher = logits_NK.float() / temperature, teacher_NK.float() / temperature
    target_N1 = labels_N[:, None]
    target_NK = torch.zeros_like(student, dtype=torch.bool).scatter(1, target_N1, True)
    # The other classes in their order, as places: a mask's shape is not known to a CUDA graph.
    place_K = torch.arange(student.shape[1] - 1, device=student.device)
    others_NK = place_K + (place_K >= target_N1)

    def binary(scores_NK: torch.Tensor) -> torch.Tensor:
        rest_N = torch.logsumexp(scores_NK.masked_fill(target_NK, -torch.inf), 1)
        return torch.stack([scores_NK.gather(1, target_N1)[:, 0], rest_N], 1)

    def without_target(scores_NK: torch.Tensor) -> torch.Tensor:
        return scores_NK.gather(1, others_NK)

    target_part = _divergence(binary(teacher), binary(student))
    other_part = _divergence(without_target(teacher), without_target(student))
    return temperature**2 * (target_part + beta * other_part)


def dist(
    logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """DIST: T^2 (2 (1 - r between classes) + 2 (1 - r between images)), r Pearson's correlation.

    Correlation instead of KL lets a small student keep its own scale (Huang et al.,
    arXiv:2205.10536, beta = gamma = 2; T^2 is in their code for classification, not in the paper).
    The second term is one number a batch, given to each of its images.
    """
    student = F.softmax(logits_NK.float() / temperature, 1)
    teacher = F.softmax(teacher_NK.float() / temperature, 1)
    inter_N = 1 - _pearson(student, teacher)
    intra = (1 - _pearson(student.T, teacher.T)).mean()
    return temperature**2 * 2.0 * (inter_N + intra)


def wttm(
    logits_NK: torch.Tensor, teacher_NK: torch.Tensor, labels_N: torch.Tensor, temperature: float
) -> torch.Tensor:
    """Weighted transformed teacher matching: U KL(softmax(teacher / T) || softmax(student)).

    The student has no temperature. U, the sum over the classes of the teacher's probabilities to
    the power of 1 / T, weighs images by how much it hesitates (Zheng and Yang, arXiv:2402.11148,
    equation 17).
    """
    log_teacher_NK = F.log_softmax(teacher_NK.float(), 1)
    weight_N = torch.logsumexp(log_teacher_NK / temperature, 1).exp()
    return weight_N * _divergence(log_teacher_NK / temperature, logits_NK)


LOSSES: dict[str, SoftLoss] = {
    "kd": kd,
    "kd-standardised": standardised_kd,
    "dkd": dkd,
    "dist": dist,
    "wttm": wttm,
}
assert LOSSES.keys() == LOSS_SETTINGS.keys(), "each loss has settings, and no other has"


def soft_loss(name: str, beta: float = 8.0) -> SoftLoss:
    """The named distillation loss: one value an image, shape N.

    Args:
        beta: of `dkd`; the others have none.

    Raises:
        InputError: unknown name; the valid ones are listed.
    """
    require_one_of("loss", name, LOSSES)
    return partial(dkd, beta=beta) if name == "dkd" else LOSSES[name]


def _divergence(teacher_NK: torch.Tensor, student_NK: torch.Tensor) -> torch.Tensor:
    """KL(softmax(teacher) || softmax(student)) of each image."""
    log_student = F.log_softmax(student_NK.float(), 1)
    log_teacher = F.log_softmax(teacher_NK.float(), 1)
    return F.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1)


def _standardise(logits_NK: torch.Tensor) -> torch.Tensor:
    logits_NK = logits_NK.float()
    centred = logits_NK - logits_NK.mean(1, keepdim=True)
    return centred / (centred.std(1, keepdim=True) + 1e-7)


def _pearson(left_NK: torch.Tensor, right_NK: torch.Tensor) -> torch.Tensor:
    left = left_NK - left_NK.mean(1, keepdim=True)
    right = right_NK - right_NK.mean(1, keepdim=True)
    return F.cosine_similarity(left, right, 1, eps=1e-8)
