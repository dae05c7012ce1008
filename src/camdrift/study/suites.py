"""Suites of images on their way through a model, whose neurons are observed batch by batch."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import PathLike
from typing import Any, Final

import torch
from torch import Tensor

from camdrift.coverage.base import NeuronBatch, observe_batch, pass_size
from camdrift.errors import ImageError, UserError
from camdrift.images.files import images_checksum
from camdrift.images.pixels import ReadImage, read_image
from camdrift.images.places import ImageFile
from camdrift.images.selection import select_images
from camdrift.models.classifier import Classifier
from camdrift.models.memory import batches, within_memory
from camdrift.models.replicas import replicated
from camdrift.study.launch import ImageSource
from camdrift.tables.words import count
from camdrift.tensors import Images

# Images that are read and observed at once.
_ON_PROCESSOR: Final = 8
_ELSEWHERE: Final = 64
_THREADS: Final = 4
_SHOWN: Final = 3

# Called with what is done, images done and all images.
OnImages = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Suite:
    """Images to observe: files, or a tensor.

    Attributes:
        words: What they are, for a record.
        files: The files; empty for a tensor.
        pixels: The tensor, in pixel space; None for files.
        remarks: Remarks for the user on the choice of files.
    """

    words: str
    files: Sequence[ImageFile] = ()
    pixels: Images | None = None
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.files) if self.pixels is None else len(self.pixels)

    def checksum(self) -> str | None:
        """SHA-256 over those of all files that can be read, whatever their order; None for a tensor."""
        if self.pixels is not None:
            return None
        with ThreadPoolExecutor(_THREADS) as pool:
            return images_checksum(filter(None, pool.map(_checksum, self.files)))


def suite_of(images: ImageSource | Tensor, limit: int | None = None) -> Suite:
    """The images of a source.

    Args:
        images: What `camdrift.run` takes, or a tensor (images, 3, height, width) in pixel space.
        limit: Most images to take, spread over the list.

    Raises:
        UserError: There are none.
    """
    if isinstance(images, Tensor):
        if images.ndim != 4 or not len(images):
            shape = "x".join(map(str, images.shape)) or "a number"
            raise UserError(f"`images` must be (images, 3, height, width), one or more, got: {shape}")
        return Suite(f"{count(len(images), 'image')} in memory", pixels=images if limit is None else images[:limit])
    selection = select_images(images, limit=limit)
    words = "foolbox (20 ImageNet photographs)" if images is None else _words(images)
    return Suite(words, selection.files, remarks=selection.remarks)


def _words(images: Any) -> str:
    return str(images) if isinstance(images, str | PathLike) else f"{len(images)} paths"


def _checksum(file: ImageFile) -> str | None:
    try:
        return hashlib.sha256(file.read()).hexdigest()
    except ImageError:
        return None


class Observation:
    """The passes of a suite through a model: iterate over their batches.

    Attributes:
        images: Images that were observed so far.
        checksums: SHA-256 of their files; empty for a tensor.
        unreadable: Name and reason of each file that cannot be read.
    """

    def __init__(self, classifier: Classifier, suite: Suite, batch_size: int, show: Callable[[int, int], None]) -> None:
        """Prepare the passes.

        Args:
            classifier: The model.
            suite: The images.
            batch_size: Images read and observed at once; 0 for a number that suits the device. It changes no number.
            show: Called with images done and all images.
        """
        self.images = 0
        self.checksums: list[str] = []
        self.unreadable: list[str] = []
        self._classifier, self._suite, self._show = classifier, suite, show
        self._size = batch_size or (_ON_PROCESSOR if classifier.device.type == "cpu" else _ELSEWHERE)

    def __iter__(self) -> Iterator[NeuronBatch]:
        with replicated(self._classifier, batch_size=pass_size(self._classifier)):
            for _, images in self.pixels():
                yield self._observed(images)

    def pixels(self) -> Iterator[tuple[list[ImageFile], Images]]:
        """Yield files and pixels of every batch, on the model's device; no files for a tensor."""
        total = len(self._suite)
        with ThreadPoolExecutor(_THREADS) as pool:
            for numbers in batches(range(total), self._size):
                files, images = self._read(pool, numbers)
                if len(images):
                    self.images += len(images)
                    yield files, images.to(self._classifier.device, torch.float32)
                self._show(numbers[-1] + 1, total)
        if not self.images:
            raise UserError(f"no image of {self._suite.words} can be read: {self.unreadable[0]}")

    def _read(self, pool: ThreadPoolExecutor, numbers: Sequence[int]) -> tuple[list[ImageFile], Images]:
        """Those files among some that can be read, and their pixels."""
        if self._suite.pixels is not None:
            return [], self._suite.pixels[numbers[0] : numbers[-1] + 1]
        files, images = [], []
        for file, image in pool.map(self._read_file, [self._suite.files[number] for number in numbers]):
            if isinstance(image, ImageError):
                self.unreadable.append(f"{file.seed_id} ({image.message})")
            else:
                files.append(file)
                images.append(image.pixels)
                self.checksums.append(image.sha256)
        return files, torch.stack(images) if images else torch.empty(0)

    def _read_file(self, file: ImageFile) -> tuple[ImageFile, ReadImage | ImageError]:
        try:
            return file, read_image(file, **self._classifier.geometry)
        except ImageError as error:
            return file, error

    def _observed(self, images: Images) -> NeuronBatch:
        # Passes are of a fixed size, so that nothing smaller can be tried where memory runs out.
        return within_memory(1, lambda _: observe_batch(self._classifier, images), lambda _: None)[1]

    def remarks(self) -> list[str]:
        """What a person should know of the images, a line each."""
        lines = [*self._suite.remarks]
        if self.unreadable:
            names = ", ".join(self.unreadable[:_SHOWN])
            more = "" if len(self.unreadable) <= _SHOWN else f" and {len(self.unreadable) - _SHOWN} more"
            lines.append(f"{count(len(self.unreadable), 'file')} left out, which cannot be read: {names}{more}")
        return lines
