"""Select the images of a study: all, some spread over the list, or some of every class."""

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from typing import Final

from camdrift.errors import UserError
from camdrift.images.hugging_face import DataSet, is_data_set, open_data_set
from camdrift.images.places import ImageFile
from camdrift.images.protocol import ObjectImages, ProtocolDataSet, is_protocol_data_set
from camdrift.images.sources import STREAMED, default_photographs, find_images, limit_images, remark_on_files
from camdrift.streams import stream_seed

Source = str | PathLike[str] | Sequence[str | PathLike[str]] | ProtocolDataSet
_SHOWN: Final = 5
_CURE: Final = "sort them into one folder per class, or let `limit` take some of all"


@dataclass(frozen=True)
class Selection:
    """The seed images of a study.

    Attributes:
        files: The images, in the order of their source or, with a limit, in the order in which it takes them.
        remarks: Remarks for the user on the choice, each on one line.
    """

    files: Sequence[ImageFile]
    remarks: tuple[str, ...] = ()


def select_images(
    source: Source | None, *, limit: int | None = None, per_class: int | None = None, rng_seed: int = 0
) -> Selection:
    """Return the seed images of a study.

    Args:
        source: What `find_images` takes, or a data set of the protocol of maite; None for the twenty ImageNet
            photographs that foolbox ships.
        limit: Most images to take, spread over the list; those of a smaller limit come first.
        per_class: Images to draw of every class; without `limit`.
        rng_seed: Seed of the study.

    Raises:
        UserError: No images are there, or none can be chosen as asked.
    """
    if is_data_set(source) and (data := open_data_set(str(source))).is_streamed:
        return _first(data, limit, per_class)
    left_out = Counter[str]()
    files = _files(source, left_out)
    remark = remark_on_files(left_out)
    remarks = (remark,) if remark else ()
    if per_class is not None:
        sample = sample_images(files, per_class, rng_seed=rng_seed)
        return Selection(sample.files, (*remarks, *sample.remarks))
    return Selection(files if limit is None else limit_images(files, limit), remarks)


def _files(source: Source | None, left_out: Counter[str]) -> list[ImageFile]:
    """Return all images of a source; count in `left_out` what is passed over."""
    if source is None:
        return default_photographs()
    if is_protocol_data_set(source):
        return ObjectImages(source).files()
    return find_images(source, left_out=left_out)  # type: ignore[arg-type]


def sample_images(files: Sequence[ImageFile], per_class: int, *, rng_seed: int) -> Selection:
    """Draw `per_class` images of every class without replacement; return them in the order of the files.

    Each image draws a number from its own stream, and those with the smallest numbers of a class are taken. So the
    order of the files and the other classes change nothing. An image's class is its label or, without one, its folder.

    Args:
        files: The images to draw from.
        per_class: Images per class; a class that has fewer gives all.
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
        images = f"{len(files)} images in no class (first: {files[0].seed_id})"
        raise UserError(f"`sample` must have images whose class is known, got: {images}", _CURE)

    def draw(position: int) -> int:
        return stream_seed(rng_seed, files[position].seed_id, "sample")

    members = classes.values()
    sample = [position for positions in members for position in heapq.nsmallest(per_class, positions, key=draw)]
    few = [f"{_class_name(files[places[0]])} ({len(places)})" for places in members if len(places) < per_class]
    left_out = len(files) - sum(map(len, members))
    return Selection([files[position] for position in sorted(sample)], remarks_on(per_class, few, left_out))


def _first(stream: DataSet, limit: int | None, per_class: int | None) -> Selection:
    """Return the first images of a stream, or of each of its classes. A draw would have to fetch all images."""
    if per_class is not None:
        return _first_of_classes(stream, per_class)
    if limit is None:
        message = f"`images` that are streamed must come with `limit` or `sample`, got: {stream.source}"
        raise UserError(message, STREAMED)
    files = list(islice(stream.files(), limit))
    if not files:
        raise UserError(f"no images in {stream.source}: it has no rows")
    return Selection(files, (f"{stream.source} is streamed: its first {len(files)} images are taken",))


def _first_of_classes(stream: DataSet, per_class: int) -> Selection:
    classes: dict[str, list[ImageFile]] = {name: [] for name in stream.names}
    rest, left_out = len(classes), 0
    for file in stream.files() if classes else ():
        if file.folder is None:
            left_out += 1
        elif len(classes[file.folder]) < per_class:
            classes[file.folder].append(file)
            rest -= len(classes[file.folder]) == per_class
        if not rest:
            break
    files = sorted((file for members in classes.values() for file in members), key=lambda file: file.seed_id)
    if not files:
        message = f"`sample` must have images whose class is known, got: {stream.source} without labels"
        raise UserError(message, "`limit` takes the first")
    few = [f"{name} ({len(members)})" for name, members in classes.items() if len(members) < per_class]
    remark = f"{stream.source} is streamed: the first {per_class} images of each class are taken"
    return Selection(files, (remark, *remarks_on(per_class, few, left_out)))


def remarks_on(per_class: int, few: Sequence[str], left_out: int = 0) -> tuple[str, ...]:
    """Return the remarks on a sample that lacks images.

    Args:
        per_class: Images of every class that the user wants.
        few: Classes with fewer, in words.
        left_out: Images without a class.
    """
    remarks = []
    if few:
        more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
        verb = "classes have" if len(few) > 1 else "class has"
        names = ", ".join(few[:_SHOWN])
        remarks.append(f"{len(few)} {verb} fewer than {per_class} images, all of which are taken: {names}{more}")
    if left_out:
        remarks.append(f"{left_out} images of no known class are left out of the sample")
    return tuple(remarks)


def _class_name(file: ImageFile) -> str:
    return f"class {file.label}" if file.folder is None else file.folder
