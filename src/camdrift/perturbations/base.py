"""The contract of a natural change: one picture in, the difference to the changed picture out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from camdrift.errors import FOREIGN, UserError, one_line
from camdrift.streams import stream_seed
from camdrift.tensors import Image

# A picture, (height, width, 3), from 0 to 1, or the difference of two.
Picture = NDArray[np.float32]

_BLOCKS: Final = 8


@dataclass(frozen=True)
class Perturbation:
    """A natural change of a picture.

    Attributes:
        spec: Its spec, complete: parsing it gives the same change.
        difference: Called with a picture of its own and a source of random numbers; returns the changed picture minus
            the picture.
        example: Settings that do change a picture, for messages; empty where they are not known.
    """

    spec: str
    difference: Callable[[Picture, Generator], Picture]
    example: str = ""

    def of_image(self, image: Image, *, rng_seed: int, seed_id: str) -> Image:
        """The changed image minus the image, in pixel units, not scaled.

        Args:
            image: In pixel space.
            rng_seed: Seed of the study.
            seed_id: Name of the image; with `rng_seed` it fixes every random draw, whatever came before.

        Raises:
            UserError: The change fails, or what it returns is no picture of that shape in [0, 1].
        """
        picture = np.ascontiguousarray(image.detach().permute(1, 2, 0).cpu().numpy(), np.float32)
        difference = self._difference(picture, rng_seed, seed_id)
        return torch.from_numpy(np.ascontiguousarray(difference.transpose(2, 0, 1))).to(image)

    def check(self, size: int) -> None:
        """Try it on a made picture.

        Args:
            size: Height and width in pixels.

        Raises:
            UserError: It fails, changes nothing, or answers differently for the same random numbers.
        """
        picture = made_picture(size)
        one, other = (self._difference(picture, 0, "") for _ in range(2))
        if not np.array_equal(one, other):
            raise UserError(
                f"`perturb` {self.spec} must change a picture in the same way for the same random numbers",
                "let it take `rng`, a numpy.random.Generator, and draw from that alone",
            )
        if not one.any():
            hint = f"these settings change it: {self.example}" if self.example else "what does it return?"
            raise UserError(f"`perturb` {self.spec} must change the picture, got: the same picture", hint)

    def _difference(self, picture: Picture, rng_seed: int, seed_id: str) -> Picture:
        rng = np.random.default_rng(stream_seed(rng_seed, seed_id, f"perturb {self.spec}"))
        try:
            return self.difference(picture.copy(), rng)
        except UserError:
            raise
        except FOREIGN as error:
            raise UserError(f"`perturb` {self.spec} failed: {one_line(error)}") from error


def made_picture(size: int) -> Picture:
    """A picture of coloured blocks in steps of 1/255, to try things on: (size, size, 3)."""
    blocks = np.random.default_rng(stream_seed(0, "", "made picture")).integers(40, 216, (_BLOCKS, _BLOCKS, 3))
    places = np.arange(size) * _BLOCKS // size
    return (blocks[places][:, places] / 255).astype(np.float32)
