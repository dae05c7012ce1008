"""Shapes of tensors are checked where tests are about them."""

import pytest
import torch
from jaxtyping import TypeCheckError

from camdrift.tensors import perturbed


def test_a_wrong_shape_is_told():
    with pytest.raises(TypeCheckError):
        perturbed(torch.zeros(3, 4, 4), torch.zeros(3, 4, 5), 1.0)
