"""WebDataset shards: images in .tar files. Each file is indexed once, by name, offset and size, and read in place."""

import json
import os
import re
import sys
import tarfile
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from camdrift.errors import ImageError, UserError
from camdrift.images.files import LARGEST_FILE
from camdrift.images.pixels import readable_endings
from camdrift.images.places import ImageFile, display_name, display_path

ENDING: Final = ".tar"
_CURE: Final = "a shard is a plain .tar file, not compressed; make or copy it again, or leave it out"
_NAMES: Final = "in a shard, images are members like cat.jpg, with a label in cat.cls or cat.json if there is one"
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS: Final = 1_000_000
# A label is short: a member that is longer holds none.
_LARGEST_LABEL: Final = {".cls": 64, ".json": 2**20}
_JSON_KEYS: Final = ("cls", "label")


@dataclass
class Shard:
    """One .tar file and the places of its images in it. No member is ever written to the disk.

    Attributes:
        file: The .tar file.
        names: Names of the members that are images; no name is used as a path.
        offsets: First byte of each.
        sizes: Bytes of each.
        largest_label: The largest label in all shards of the study; -1 without any.
    """

    file: Path
    names: list[str] = field(default_factory=list)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    largest_label: int = -1

    def read(self, key: int) -> bytes:
        """Return the bytes of one member."""
        size = self.sizes[key]
        if size > LARGEST_FILE:
            raise ImageError(f"too large: {size:,} bytes, at most {LARGEST_FILE:,} are read")
        try:
            with self.file.open("rb") as stream:
                stream.seek(self.offsets[key])
                data = stream.read(size)
        except OSError as error:
            raise ImageError(f"cannot be opened: {str(error.strerror or error).lower()}") from error
        if len(data) < size:
            raise ImageError("truncated: the shard ends before the image does")
        if not data:
            raise ImageError("empty file (0 bytes)")
        return data

    def path(self, key: int) -> Path:
        """Return the shard's path and the member's name, as a path to show."""
        return Path(f"{self.file}/{self.names[key]}")

    def counts(self, classes: int) -> bool:
        """Can the labels be indices of a model of so many classes?"""
        return self.largest_label < classes


def braces(pattern: str) -> list[str]:
    """Return the names that a pattern like shard-{000..009}.tar stands for; the pattern itself without such braces.

    Raises:
        UserError: It stands for more than a million names.

    Example:
        >>> braces("a-{08..10}.tar")
        ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    match = _RANGE.search(pattern)
    if match is None:
        return [pattern]
    first, last = int(match[1]), int(match[2])
    width = len(match[1]) if match[1].startswith("0") else 0
    rest = braces(pattern[match.end() :])
    if max(last - first + 1, 0) * len(rest) > _MOST_SHARDS:
        raise UserError(f"`images` must name at most {_MOST_SHARDS:,} shards, got: {pattern}")
    head = pattern[: match.start()]
    return [f"{head}{number:0{width}d}{end}" for number in range(first, last + 1) for end in rest]


def shard_ids(paths: Sequence[Path]) -> dict[str, Path]:
    """Return shards by their paths below the folder that holds them all; each once, however often it is given.

    Raises:
        UserError: A shard is not there.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise UserError(f"no such shard: {display_path(missing[0])} ({len(missing)} of {len(paths)} missing)", _CURE)
    # Links to folders are resolved. Links to files are not: a file keeps the name that the user gives it.
    real = {Path(os.path.realpath(path.parent), path.name): path for path in reversed(paths)}
    root = os.path.commonpath([place.parent for place in real])
    return {display_path(place.relative_to(root)): path for place, path in real.items()}


def images_in_shards(paths: Mapping[str, Path]) -> list[ImageFile]:
    """Return the images of some shards, sorted by seed_id: the shard's name, then the member's.

    Args:
        paths: The shards by name.

    Raises:
        UserError: A shard cannot be read, or none holds an image.
    """
    shards, files = list[Shard](), list[ImageFile]()
    for shard_id, path in paths.items():
        shard, labels = _index(path)
        shards.append(shard)
        own = _labels_of(shard.names, labels)
        files += [
            ImageFile(f"{shard_id}/{display_name(name)}", shard, key, _folder(name), own[key])
            for key, name in enumerate(shard.names)
        ]
    if not files:
        more = f" and {len(shards) - 1} more shards" if len(shards) > 1 else ""
        raise UserError(f"no images in the shard {display_path(shards[0].file)}{more}", _NAMES)
    largest = max(-1 if file.label is None else file.label for file in files)
    for shard in shards:
        shard.largest_label = largest
    return sorted(files, key=lambda file: file.seed_id)


def _index(path: Path) -> tuple[Shard, dict[str, int]]:
    """Return a shard with its images, and its labels by their names without the ending."""
    images, labels = dict[str, tuple[int, int]](), dict[str, int]()
    endings = readable_endings()
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
            for member in _members(tar):
                name = member.name.removeprefix("./")
                ending = "".join(name.rpartition(".")[1:]).lower()
                if ending in endings:
                    images[name] = member.offset_data, member.size  # of two with one name the later counts
                elif member.size <= _LARGEST_LABEL.get(ending, -1):
                    label = _label(ending, _data(stream, member))
                    if label is not None:
                        labels[_stem(name)] = label
            _refuse_rest(stream, tar.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError, EOFError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"cannot read the shard {display_path(path)}: {why}", _CURE) from error
    return _shard(path, images), labels


def _labels_of(names: Sequence[str], labels: Mapping[str, int]) -> list[int | None]:
    """Return the label of each image: the one of its own name, or of what comes before one of its dots.

    cat.left.jpg goes with cat.left.cls, else with cat.cls. A label with another name, such as cat.first.cls, is shared
    by none: it counts only where the sample has one image and one label.
    """
    images = Counter(map(_sample, names))
    of_sample: dict[str, list[int]] = {}
    for stem, label in labels.items():
        of_sample.setdefault(_sample(stem), []).append(label)

    def label_of(name: str) -> int | None:
        sample, stem = _sample(name), _stem(name)
        while stem not in labels and stem != sample:
            stem = _stem(stem)
        lone = of_sample.get(sample, []) if images[sample] == 1 else []
        return labels.get(stem, lone[0] if len(lone) == 1 else None)

    return [label_of(name) for name in names]


def _shard(path: Path, images: dict[str, tuple[int, int]]) -> Shard:
    whole = {_sample(name) for name in images if _base(name).count(".") == 1}
    shard = Shard(path)
    for name, (offset, size) in images.items():
        # Beside cat.jpg, cat.mask.png is another part of the same sample.
        if _base(name).count(".") == 1 or _sample(name) not in whole:
            shard.names.append(name)
            shard.offsets.append(offset)
            shard.sizes.append(size)
    return shard


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the visible plain files in order; links, devices and files with holes are none."""
    end = -1
    while (member := tar.next()) is not None:
        if tar.offset <= end:  # a negative size leads back, and the same members would come for ever
            raise tarfile.ReadError("a member ends before it starts")
        end = tar.offset
        tar.members = []  # type: ignore[attr-defined]  # it would keep a kilobyte of each
        if member.isreg() and member.sparse is None and not _base(member.name).startswith("."):
            yield member


def _refuse_rest(stream: BinaryIO, offset: int) -> None:
    """Raise `ReadError` if anything follows the last member: tarfile takes a damaged header for the end."""
    stream.seek(offset)
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {offset:,}")


def _data(stream: BinaryIO, member: tarfile.TarInfo) -> bytes:
    stream.seek(member.offset_data)
    return stream.read(member.size)


def _label(ending: str, data: bytes) -> int | None:
    """Return the class in a .cls or .json member; None without one."""
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if ending == ".json":
        values = [value[key] for key in _JSON_KEYS if key in value] if isinstance(value, dict) else []
        value = values[0] if values else None
    return value if type(value) is int and 0 <= value < 2**31 else None


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _stem(name: str) -> str:
    """Return a name up to the last dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.rpartition('.')[0] or base}"


def _sample(name: str) -> str:
    """Return the name that the members of one sample share: up to the first dot of its last part."""
    folder, slash, base = name.rpartition("/")
    return f"{folder}{slash}{base.partition('.')[0]}"


def _folder(name: str) -> str | None:
    """Return the first folder of a member's name, a candidate class."""
    parts = [part for part in name.split("/")[:-1] if part not in ("", ".", "..")]
    return sys.intern(display_name(parts[0])) if parts else None
