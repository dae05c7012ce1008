"""Scores of logits: how unsure the network is. All are differentiable, and high where it is less sure."""

from collections.abc import Callable, Mapping
from typing import Final

import torch
from torch import Tensor

from camdrift.tensors import Logits

LogitScore = Callable[[Logits], Tensor]


def unsure_softmax(logits: Logits) -> Tensor:
    """-(largest probability) (Hendrycks and Gimpel 2017)."""
    return -logits.softmax(1).amax(1)


def unsure_margin(logits: Logits) -> Tensor:
    """-(largest logit - second largest)."""
    first, second = logits.topk(2, dim=1).values.unbind(1)
    return second - first


def unsure_entropy(logits: Logits) -> Tensor:
    """-sum_c p_c ln p_c, in nats."""
    logarithms = logits.log_softmax(1)
    # 0 ln 0 is 0, also where the logarithm is infinite
    terms = torch.where(logarithms.isfinite(), logarithms.exp() * logarithms, 0.0)
    return -terms.sum(1)


def unsure_energy(logits: Logits, t: float = 1.0) -> Tensor:
    """-t ln sum_c exp(z_c / t) (Liu et al. 2020, Eq. 4)."""
    return -t * (logits / t).logsumexp(1)


def unsure_maxlogit(logits: Logits) -> Tensor:
    """-(largest logit) (Hendrycks et al. 2022)."""
    return -logits.amax(1)


LOGIT_SCORES: Final[Mapping[str, Callable[..., Tensor]]] = {
    "softmax": unsure_softmax,
    "margin": unsure_margin,
    "entropy": unsure_entropy,
    "energy": unsure_energy,
    "maxlogit": unsure_maxlogit,
}
