"""Losses against values worked out by hand, and against what their papers promise of them."""

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import one_thread

from space.errors import InputError
from trainers.losses import LOSSES, dist, dkd, hard_loss, kd, soft_loss, standardised_kd, wttm

__all__ = ["one_thread"]

N, K = 6, 5
LABELS = torch.arange(N) % K
Numbers = npt.NDArray[np.float64]
names = pytest.mark.parametrize("name", LOSSES)


def logits(seed: int, scale: float = 3.0) -> torch.Tensor:
    return torch.randn(N, K, generator=torch.Generator().manual_seed(seed)) * scale


def gradient(
    name: str, student_NK: torch.Tensor, teacher_NK: torch.Tensor, t: float = 4.0
) -> torch.Tensor:
    student_NK = student_NK.clone().requires_grad_()
    LOSSES[name](student_NK, teacher_NK, LABELS, t).sum().backward()
    assert student_NK.grad is not None
    return student_NK.grad


def softmax(values: Numbers) -> Numbers:
    powers = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def divergence(teacher: Numbers, student: Numbers) -> Numbers:
    return np.asarray((teacher * np.log(teacher / student)).sum(-1))


# --- what every loss keeps to


@names
def test_one_value_an_image_never_below_zero(name: str) -> None:
    loss_N = LOSSES[name](logits(0), logits(1), LABELS, 4.0)
    assert loss_N.shape == (N,)
    assert loss_N.min() > 0


@names
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_equal_logits_cost_nothing_and_pull_nowhere(name: str, temperature: float) -> None:
    teacher = logits(0)
    # Of wttm the teacher alone has a temperature.
    equal = teacher / temperature if name == "wttm" else teacher
    assert LOSSES[name](equal, teacher, LABELS, temperature).abs().max() < 1e-4 * temperature**2
    pull = gradient(name, equal, teacher, temperature).abs().max()
    assert pull < 1e-2 * gradient(name, equal, logits(1), temperature).abs().max()


@names
def test_following_the_gradient_brings_the_student_to_the_teacher(name: str) -> None:
    student, teacher = logits(0).requires_grad_(), logits(1)
    optimizer = torch.optim.Adam([student], lr=0.1)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = LOSSES[name](student, teacher, LABELS, 4.0).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


@names
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        pytest.param(*pair, id=f"{index}")
        for index, pair in enumerate(
            itertools.product(
                (
                    logits(0, 1e4),
                    logits(0).sign() * 1e4,
                    torch.zeros(N, K),
                    torch.full((N, K), 1e4),
                ),
                (logits(1, 1e4), -logits(0).sign() * 1e4, torch.zeros(N, K), logits(1)),
            )
        )
    ],
)
def test_extreme_logits_stay_finite(
    name: str, student: torch.Tensor, teacher: torch.Tensor
) -> None:
    for temperature in (1.0, 4.0):
        assert LOSSES[name](student, teacher, LABELS, temperature).isfinite().all()
        assert gradient(name, student, teacher, temperature).isfinite().all()


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sixteen_bit_logits_are_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    student, teacher = logits(0).to(dtype), logits(1).to(dtype)
    loss_N = LOSSES[name](student, teacher, LABELS, 3.0)
    assert loss_N.dtype == torch.float32
    # Exactly what the same numbers in float32 give: nothing was rounded to 16 bits on the way.
    assert torch.equal(loss_N, LOSSES[name](student.float(), teacher.float(), LABELS, 3.0))


@names
def test_images_do_not_hang_on_their_order(name: str) -> None:
    student, teacher = logits(0), logits(1)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    shuffled = LOSSES[name](student[order], teacher[order], LABELS[order], 4.0)
    torch.testing.assert_close(shuffled, LOSSES[name](student, teacher, LABELS, 4.0)[order])


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "dist"])
def test_an_image_is_alone(name: str) -> None:
    """So that a batch may be accumulated from parts. DIST's second term compares images."""
    student, teacher = logits(0), logits(1)
    alone = [
        LOSSES[name](student[i, None], teacher[i, None], LABELS[i, None], 4.0) for i in range(N)
    ]
    torch.testing.assert_close(torch.cat(alone), LOSSES[name](student, teacher, LABELS, 4.0))


def test_unknown_loss_lists_the_known() -> None:
    with pytest.raises(InputError, match="kd, kd-standardised, dkd, dist, wttm") as error:
        soft_loss("fitnet")
    assert "\n" not in str(error.value)


# --- cross-entropy


def test_hard_loss_by_hand() -> None:
    scores, labels = logits(0), LABELS.numpy()
    chances = softmax(scores.double().numpy())
    expected = -np.log(chances[np.arange(N), labels])
    np.testing.assert_allclose(hard_loss(scores, LABELS).numpy(), expected, rtol=1e-5)
    smooth = 0.8 * expected + 0.2 * -np.log(chances).mean(1)
    np.testing.assert_allclose(hard_loss(scores, LABELS, 0.2).numpy(), smooth, rtol=1e-5)


# --- Hinton's


def test_kd_of_two_classes_by_hand() -> None:
    """Teacher [0, T ln 3]: 1/4, 3/4. Student [0, 0]: 1/2, 1/2."""
    t = 5.0
    expected = t**2 * (0.25 * np.log(0.25 / 0.5) + 0.75 * np.log(0.75 / 0.5))
    value = kd(torch.zeros(1, 2), torch.tensor([[0.0, t * np.log(3.0)]]), torch.tensor([0]), t)
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_kd_is_torch_s_batchmean_times_t_squared(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    reference = torch.nn.KLDivLoss(reduction="batchmean")(
        torch.log_softmax(student / temperature, 1), torch.softmax(teacher / temperature, 1)
    )
    value = kd(student, teacher, LABELS, temperature).mean()
    torch.testing.assert_close(value, reference * temperature**2)


def test_kd_s_gradient_keeps_its_scale_whatever_the_temperature() -> None:
    """For large T it is that of half the squared distance of the centred logits, over K."""
    student, teacher = logits(0), logits(1)
    centred = (student - student.mean(1, keepdim=True)) - (teacher - teacher.mean(1, keepdim=True))
    for temperature in (100.0, 400.0, 1600.0):
        pull = gradient("kd", student, teacher, temperature)
        assert (pull - centred / K).norm() < 10 / temperature * (centred / K).norm()


# --- standardised


@given(scale=st.floats(0.05, 50), shift=st.floats(-30, 30), side=st.booleans())
def test_standardised_kd_sees_neither_scale_nor_shift(
    scale: float, shift: float, side: bool
) -> None:
    student, teacher = logits(0), logits(1)
    changed = (student * scale + shift, teacher) if side else (student, teacher * scale + shift)
    expected = standardised_kd(student, teacher, LABELS, 2.0)
    torch.testing.assert_close(
        standardised_kd(*changed, LABELS, 2.0), expected, rtol=1e-3, atol=1e-4
    )
    assert (kd(*changed, LABELS, 2.0) - kd(student, teacher, LABELS, 2.0)).abs().max() > 1e-3 or (
        0.99 < scale < 1.01
    )


def test_standardised_kd_by_hand() -> None:
    student, teacher = logits(0).double().numpy(), logits(1).double().numpy()
    parts = [
        softmax((v - v.mean(1)[:, None]) / v.std(1, ddof=1)[:, None] / 3)
        for v in (student, teacher)
    ]
    expected = 9 * divergence(parts[1], parts[0])
    value = standardised_kd(logits(0), logits(1), LABELS, 3.0)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-4)


# --- decoupled


def decoupled(temperature: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(target part, other part, teacher's chance of the target) after the paper's equation 6."""
    rows, labels = np.arange(N), LABELS.numpy()
    chances = [softmax(v.double().numpy() / temperature) for v in (logits(1), logits(0))]
    target = [np.stack([p[rows, labels], 1 - p[rows, labels]], 1) for p in chances]
    others = [np.stack([np.delete(p[i], labels[i]) for i in rows]) for p in chances]
    others = [p / p.sum(1, keepdims=True) for p in others]
    return divergence(*target), divergence(*others), target[0][:, 0]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_dkd_by_hand_at_the_paper_s_weights(temperature: float) -> None:
    target, others, _ = decoupled(temperature)
    value = dkd(logits(0), logits(1), LABELS, temperature)
    np.testing.assert_allclose(value.numpy(), temperature**2 * (target + 8 * others), rtol=2e-4)
    small = soft_loss("dkd", 2.0)(logits(0), logits(1), LABELS, temperature)
    np.testing.assert_allclose(small.numpy(), temperature**2 * (target + 2 * others), rtol=2e-4)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_is_dkd_with_the_teacher_s_doubt_as_weight(temperature: float) -> None:
    """KL = target part + (1 - p_target) other part: the identity that the paper starts from."""
    target, _, sure = decoupled(temperature)
    square = temperature**2
    of_others = (
        dkd(logits(0), logits(1), LABELS, temperature).double().numpy() / square - target
    ) / 8
    rebuilt = square * (target + (1 - sure) * of_others)
    value = kd(logits(0), logits(1), LABELS, temperature)
    np.testing.assert_allclose(value.numpy(), rebuilt, rtol=1e-3)


def test_dkd_of_two_classes_is_kd() -> None:
    """There is but one other class, and nothing to learn about it."""
    student, teacher, labels = logits(0)[:, :2], logits(1)[:, :2], LABELS % 2
    torch.testing.assert_close(
        dkd(student, teacher, labels, 4.0), kd(student, teacher, labels, 4.0)
    )


# --- DIST


def probabilities(chances_NK: torch.Tensor) -> torch.Tensor:
    """Logits whose softmax is this."""
    return chances_NK.log()


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.corrcoef(left, right)[0, 1])


def test_dist_by_hand() -> None:
    t = 2.0
    left, right = (softmax(v.double().numpy() / t) for v in (logits(0), logits(1)))
    of_images = np.array([1 - correlation(left[i], right[i]) for i in range(N)])
    of_classes = np.mean([1 - correlation(left[:, k], right[:, k]) for k in range(K)])
    value = dist(logits(0), logits(1), LABELS, t)
    np.testing.assert_allclose(value.numpy(), t**2 * (2 * of_images + 2 * of_classes), rtol=1e-4)


def test_dist_of_probabilities_that_are_the_teacher_s_scaled_and_shifted_is_zero() -> None:
    """One a > 0 for all: b = (1 - a) / K keeps rows at 1, and every row and column is affine."""
    teacher = torch.softmax(logits(1), 1)
    for a in (0.1, 0.5, 0.9):
        student = probabilities(a * teacher + (1 - a) / K)
        assert dist(student, probabilities(teacher), LABELS, 1.0).abs().max() < 1e-4
        assert kd(student, probabilities(teacher), LABELS, 1.0).max() > 1e-3


def test_dist_s_first_term_lets_each_image_have_a_scale_of_its_own() -> None:
    teacher = torch.softmax(logits(1), 1)
    a_N1 = torch.linspace(0.1, 0.9, N)[:, None]
    student = probabilities(a_N1 * teacher + (1 - a_N1) / K)
    loss_N = dist(student, probabilities(teacher), LABELS, 1.0)
    # What is left is the second term, one number for the batch.
    assert loss_N.max() - loss_N.min() < 1e-5
    assert loss_N.min() > 1e-3


# --- transformed teacher matching


@pytest.mark.parametrize("temperature", [1.0, 4.0, 10.0])
def test_wttm_by_hand(temperature: float) -> None:
    student, teacher = logits(0).double().numpy(), logits(1).double().numpy()
    powers = softmax(teacher) ** (1 / temperature)
    weight = powers.sum(1)
    expected = weight * divergence(powers / weight[:, None], softmax(student))
    value = wttm(logits(0), logits(1), LABELS, temperature)
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-4)
    assert (weight >= 1 - 1e-9).all()  # 1 for a teacher that is sure, more where it hesitates
