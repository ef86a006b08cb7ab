"""Compares two computations of the same numbers, with a tolerance that follows from their format and depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from tests.unit.training.equalities import TinyTraining

ROUNDINGS = 12
"""Roundings of a decoder layer that stand one after another: the two norms, attention's and the MLP's matrices, softmax, the
rotation, the gate, the two sums."""

SAFETY = 4


class DisprovedError(Exception):
    """Two results differ that must be the same, or are the same where they must differ."""


def tolerance(dtype: torch.dtype, layers: int, hidden_size: int) -> float:
    """Return how much two computations of the same numbers may differ, relative to them.

    A rounding errs by at most half of the format's eps, and on average by a quarter. Roundings one after another add up like
    a random walk: by the root of their number. In float32 the sums over the hidden size also round at each step; in the
    16-bit formats GPUs keep them in float32. The result is taken four times, for the two computations and for safety. With 8
    layers it is 0.08 in bfloat16, and 0.01 in float16.
    """
    sums = hidden_size if dtype is torch.float32 else 0
    return SAFETY * torch.finfo(dtype).eps / 4 * math.sqrt(layers * (ROUNDINGS + sums))


def as_equal_as_twice(first: TinyTraining, second: TinyTraining, other: TinyTraining) -> str:
    """Compare a training with `first` as closely as a second run of the same compares with it.

    Some kernels of a GPU add in another order each time (flash attention's backward pass). So two runs of the same training
    need not be the same to the bit.
    """
    if other.losses.keys() != first.losses.keys():
        raise DisprovedError(f"it logged the steps {sorted(other.losses)}, not {sorted(first.losses)}")
    if all(torch.equal(other.weights[name], weight) for name, weight in first.weights.items()):
        return f"equal to the bit after {len(first.losses)} steps"
    noise = distance(second.weights, first.weights)
    return f"{near('adapter', distance(other.weights, first.weights), max(1e-5, 4 * noise))}; a second run: {noise:.1e}"


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Return the root mean square of the difference, relative to that of what is expected."""
    return float((found - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Return the relative root mean square of the difference of all tensors together."""
    one, other = (
        torch.cat([each[name].detach().float().cpu().flatten() for name in expected]) for each in (found, expected)
    )
    return relative(one, other)


def near(what: str, difference: float, allowed: float) -> str:
    """Return the evidence that the difference is rounding.

    Raises:
        DisprovedError: it is not.
    """
    if not difference <= allowed:
        raise DisprovedError(f"{what} with a difference of {difference:.2e}, and {allowed:.1e} would be rounding")
    return f"{what} within {difference:.1e} (allowed {allowed:.1e})"


def far(what: str, difference: float, allowed: float) -> None:
    """Refuse a wrong computation whose difference would pass as rounding.

    Raises:
        DisprovedError: it would.
    """
    if not difference > allowed:
        raise DisprovedError(
            f"{what} with a difference of {difference:.2e} only: this comparison would find no mistake"
        )
