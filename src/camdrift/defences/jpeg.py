"""JPEG: images encoded and decoded (Das 2017, Guo 2018)."""

from typing import Any

import torch

from camdrift.defences.base import Defence
from camdrift.defences.making import Workshop, check_setting_names, ranged_setting
from camdrift.images.pixels import jpeg_copy
from camdrift.tensors import Image, Images


def jpeg_copies(images: Images, quality: int) -> Images:
    """Images rounded to 8 bits, encoded as JPEG and decoded, with the colour resolution that Pillow chooses.

    Args:
        images: Batch in pixel space.
        quality: Pillow's quality, 1 to 95.
    """
    return torch.stack([_jpeg_copy(image, quality) for image in images]).to(images.device)


def _jpeg_copy(image: Image, quality: int) -> Image:
    pixels = (image.detach().cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    return torch.from_numpy(jpeg_copy(pixels, quality)).permute(2, 0, 1).float() / 255


def defence(spec: str, settings: dict[str, Any], workshop: Workshop) -> Defence:
    """JPEG of `quality`; it has no gradient, so that attacks take the identity's."""
    check_setting_names(spec, settings, "quality")
    quality = ranged_setting(spec, settings, "quality", 1, 95, is_whole=True)
    return Defence(spec, lambda images, _: jpeg_copies(images, quality))
