"""Feature squeezing as a detector (Xu et al., NDSS 2018)."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from camdrift.defences.base import as_identity
from camdrift.defences.bits import squeezed_to_bits
from camdrift.defences.median import median_of_windows
from camdrift.detectors.passes import ImageBatch
from camdrift.tensors import Images, Logits

# Published for ImageNet: search window 11, patches 3, strength 4 of 255.
_SEARCH: Final = 11
_PATCH: Final = 3
_STRENGTH: Final = 4 / 255
WITHOUT_PATCHES: Final = "squeeze: without non-local means, since scikit-image is not installed"


def squeezers_of(settings: Mapping[str, Any]) -> dict[str, Callable[[Images], Images]]:
    """The squeezers by name: bits, median and, where scikit-image is installed, non-local means.

    An attack follows the median's own gradient, and takes the others for the identity.

    Args:
        settings: `bits` and `median`; 0 for none.
    """
    squeezers: dict[str, Callable[[Images], Images]] = {}
    if settings["bits"]:
        squeezers["bits"] = partial(as_identity, partial(squeezed_to_bits, depth=settings["bits"]))
    if settings["median"]:
        squeezers["median"] = partial(median_of_windows, window=settings["median"])
    if find_spec("skimage") is not None:
        squeezers["non-local means"] = partial(as_identity, smoothed_by_patches)
    return squeezers


def smoothed_by_patches(images: Images) -> Images:
    """Images after non-local means (Buades 2005), with search window 11, patches of 3 and strength 4/255."""
    from skimage.restoration import denoise_nl_means

    copies = [
        denoise_nl_means(
            image.detach().cpu().numpy(),
            patch_size=_PATCH,
            patch_distance=_SEARCH // 2,
            h=_STRENGTH,
            fast_mode=True,
            channel_axis=0,
        )
        for image in images
    ]
    answer = torch.from_numpy(np.stack(copies)) if copies else images
    return answer.to(images.device, images.dtype).clamp(0, 1)


def squeeze_distance(logits: Logits, copies: list[Logits]) -> Tensor:
    """Largest L1 distance of the probabilities of an image and of its squeezed copies, (images,), from 0 to 2."""
    own = logits.double().softmax(1)
    distances = [(own - copy.double().softmax(1)).abs().sum(1) for copy in copies]
    return torch.stack(distances).amax(0)


def squeeze_score(squeezers: Mapping[str, Callable[[Images], Images]], batch: ImageBatch) -> Tensor:
    """`squeeze_distance` of a batch (images, 1)."""
    copies = [batch.logits_of(squeeze(batch.images)) for squeeze in squeezers.values()]
    return squeeze_distance(batch.logits, copies)[:, None]
