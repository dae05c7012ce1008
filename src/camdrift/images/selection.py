"""Which of the images are studied: all, some spread evenly over the list, or some of every class."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Final

from camdrift.errors import UserError
from camdrift.images.hugging_face import DataSet, is_data_set, open_data_set
from camdrift.images.places import ImageFile
from camdrift.images.sources import STREAMED, default_photographs, find_images, limit_images
from camdrift.streams import stream_seed

Source = str | PathLike[str] | Sequence[str | PathLike[str]]
_SHOWN: Final = 5
_CURE: Final = "sort them into one folder per class, or let `limit` take some of all"


@dataclass(frozen=True)
class Selection:
    """The seed images of a study.

    Attributes:
        files: The images, in the order of their source.
        remarks: What the user should know of how they were chosen, each on one line.
    """

    files: Sequence[ImageFile]
    remarks: tuple[str, ...] = ()


def select_images(
    source: Source | None, *, limit: int | None = None, per_class: int | None = None, rng_seed: int = 0
) -> Selection:
    """The seed images of a study.

    Args:
        source: What `find_images` takes; None for the twenty ImageNet photographs that foolbox ships.
        limit: Number of images at most, spread evenly over the list.
        per_class: Images of every class that are drawn; comes without `limit`.
        rng_seed: Seed of the study.

    Raises:
        UserError: No images are there, or none can be chosen as asked.
    """
    if is_data_set(source) and (opened := open_data_set(str(source))).is_streamed:
        return _first(opened, limit, per_class)
    files = default_photographs() if source is None else find_images(source)
    if per_class is not None:
        return sample_images(files, per_class, rng_seed=rng_seed)
    return Selection(files if limit is None else limit_images(files, limit))


def sample_images(files: Sequence[ImageFile], per_class: int, *, rng_seed: int) -> Selection:
    """`per_class` images of every class, drawn without replacement, in the order of the files.

    Each image draws a number from its own stream, and the smallest of a class are taken: the order of the files and
    the other classes change nothing. An image's class is its label or, without one, its folder.

    Args:
        files: The images to draw from.
        per_class: Images per class; a class that has fewer gives all of them.
        rng_seed: Seed of the study.

    Raises:
        UserError: No image has a class.
    """
    classes: dict[int | str, list[int]] = {}
    for position, file in enumerate(files):
        name = file.folder if file.label is None else file.label
        if name is not None:
            classes.setdefault(name, []).append(position)
    if not classes:
        got = f"{len(files)} images in no class (first: {files[0].seed_id})"
        raise UserError(f"`sample` must have images whose class is known, got: {got}", _CURE)

    def draw(position: int) -> int:
        return stream_seed(rng_seed, files[position].seed_id, "sample")

    drawn = [position for held in classes.values() for position in heapq.nsmallest(per_class, held, key=draw)]
    few = [f"{_class_name(files[held[0]])} ({len(held)})" for held in classes.values() if len(held) < per_class]
    left_out = len(files) - sum(map(len, classes.values()))
    return Selection([files[position] for position in sorted(drawn)], remarks_on(per_class, few, left_out))


def _first(streamed: DataSet, limit: int | None, per_class: int | None) -> Selection:
    """The first images of a stream, or of each of its classes: to draw from all, all would have to be fetched."""
    if per_class is not None:
        return _first_of_classes(streamed, per_class)
    if limit is None:
        got = streamed.source
        raise UserError(f"`images` that are streamed must come with `limit` or `sample`, got: {got}", STREAMED)
    files = list(islice(streamed.files(), limit))
    if not files:
        raise UserError(f"no images in {streamed.source}: it has no rows")
    return Selection(files, (f"{streamed.source} is streamed: its first {len(files)} images are taken",))


def _first_of_classes(streamed: DataSet, per_class: int) -> Selection:
    taken: dict[str, list[ImageFile]] = {name: [] for name in streamed.names}
    rest, left_out = len(taken), 0
    for file in streamed.files() if taken else ():
        if file.folder is None:
            left_out += 1
        elif len(taken[file.folder]) < per_class:
            taken[file.folder].append(file)
            rest -= len(taken[file.folder]) == per_class
        if not rest:
            break
    files = sorted((file for held in taken.values() for file in held), key=lambda file: file.seed_id)
    if not files:
        got = f"{streamed.source} without labels"
        raise UserError(f"`sample` must have images whose class is known, got: {got}", "`limit` takes the first")
    few = [f"{name} ({len(held)})" for name, held in taken.items() if len(held) < per_class]
    said = f"{streamed.source} is streamed: the first {per_class} images of each class are taken"
    return Selection(files, (said, *remarks_on(per_class, few, left_out)))


def remarks_on(per_class: int, few: Sequence[str], left_out: int = 0) -> tuple[str, ...]:
    """What is to be said of a sample.

    Args:
        per_class: Images that were asked for.
        few: Classes with fewer, in words.
        left_out: Images without a class.
    """
    remarks = []
    if few:
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        verb = "classes have" if len(few) > 1 else "class has"
        shown = ", ".join(few[:_SHOWN])
        remarks.append(f"{len(few)} {verb} fewer than {per_class} images, all of which are taken: {shown}{more}")
    if left_out:
        remarks.append(f"{left_out} images of no known class are left out of the sample")
    return tuple(remarks)


def _class_name(file: ImageFile) -> str:
    return f"class {file.label}" if file.folder is None else file.folder
