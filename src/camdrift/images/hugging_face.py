"""Images of Hugging Face data sets. A column is found by its type; a row is named by its split and number."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any, Final

from camdrift.errors import ImageError, UserError, install_hint, one_line
from camdrift.images.files import LARGEST_FILE, read_bytes
from camdrift.images.places import ImageFile
from camdrift.specs import DATA_SET

_FORM: Final = "write hf-dataset:NAME, hf-dataset:FOLDER or hf-dataset:FILE.parquet, and :SPLIT behind it if needed"
_SAVED: Final = ("state.json", "dataset_dict.json")  # what `save_to_disk` writes
_FILES: Final = {".parquet": "parquet", ".arrow": "arrow"}


@dataclass
class DataSet:
    """One split of a data set.

    Attributes:
        data: The split, a `datasets.Dataset` or an `IterableDataset`, whose images are not decoded.
        source: How the user named it.
        split: Name of the split.
        image: Name of the column of images.
        label: Name of the column of labels; None without one.
        names: Class names, in the order of the labels.
        is_streamed: Do the rows come one by one from elsewhere?
    """

    data: Any
    source: str
    split: str
    image: str
    label: str | None
    names: tuple[str, ...]
    is_streamed: bool
    _rows: Iterator[dict[str, Any]] = field(default_factory=lambda: iter(()), repr=False)
    _passed: int | None = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Forget the place in the rows: another process starts at the first."""
        return {**vars(self), "_rows": iter(()), "_passed": None}

    def files(self) -> Iterator[ImageFile]:
        """Yield the images in their order, with their labels; none of them is read."""
        for key, value in enumerate(self._labels()):
            label = value if isinstance(value, int) and 0 <= value < len(self.names) else None
            name = None if label is None else self.names[label]
            yield ImageFile(f"{self.split}/{key:08d}", self, key, name, label)

    def read(self, key: int) -> bytes:
        """Return the bytes of one image.

        A stream goes forward from image to image; for an image that it has passed, it begins again.
        """
        try:
            row = self._streamed(key) if self.is_streamed else self.data[key]
        except Exception as error:  # a broken connection raises anything; the images behind it are not unreadable
            self._passed = None
            raise UserError(
                f"cannot read image {key:,} of {self.source}: {one_line(error)}", "--resume goes on where a run stopped"
            ) from error
        return _image_bytes(row[self.image], may_be_remote=self.is_streamed)

    def path(self, key: int) -> Path:
        """Return the data set's name, the split and the row, as a path to show."""
        name = self.source.removesuffix(f":{self.split}")
        return Path(f"{name}/{self.split}/{key:08d}")

    def counts(self, classes: int) -> bool:
        """Are the labels indices of a model of so many classes?"""
        return len(self.names) == classes

    def _labels(self) -> Iterator[Any]:
        """Return the label of every row; anything that is no label where there are none."""
        if not self.is_streamed:
            return iter(range(-len(self.data), 0) if self.label is None else self.data[self.label])
        # Where columns are stored apart, another column is read without fetching the images.
        others = [name for name in self.data.column_names or () if name != self.image]
        column = self.label or (others or [self.image])[0]
        rows = iter(self.data.select_columns([column]))
        return (None if self.label is None else row[column] for row in rows)

    def _streamed(self, key: int) -> dict[str, Any]:
        if self._passed is None or key < self._passed:
            self._rows, self._passed = iter(self.data.select_columns([self.image])), 0
        row = next(islice(self._rows, key - self._passed, None))
        self._passed = key + 1
        return row


def is_data_set(source: Any) -> bool:
    """Does `source` name a Hugging Face data set?"""
    return isinstance(source, str | PathLike) and str(source).startswith(DATA_SET)


def open_data_set(source: str | PathLike[str]) -> DataSet:
    """Open one split of a data set, from the disk or streamed from the hub.

    Args:
        source: `hf-dataset:`, then a folder of `save_to_disk`, a folder or file of Parquet, or a name on the hub; then
            `:` and the name of a split, if there are several.

    Raises:
        UserError: `datasets` is not installed, the data set cannot be opened, or it has no images.
    """
    source = str(source)
    try:
        import datasets
    except ImportError as error:
        raise UserError(f"`images` {source} needs datasets, which is not installed", install_hint("hf")) from error
    name, split = _parts(source)
    try:
        content = _load(name)
    except UserError:
        raise
    except Exception as error:  # of the hub, the network, the disk, the formats
        raise UserError(f"cannot open {source}: {one_line(error)}", _FORM) from error
    split, data = _pick_split(source, content, split)
    features = data.features or {}
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    labels = [name for name, kind in features.items() if isinstance(kind, datasets.ClassLabel)]
    if not images:
        columns = [f"{name} ({type(kind).__name__})" for name, kind in features.items()] or ["none that is known"]
        message = f"{source} has no column of type Image, got: {', '.join(columns)}"
        raise UserError(message, "`cast_column(NAME, Image())` makes one")
    return DataSet(
        data.cast_column(images[0], datasets.Image(decode=False)),
        source=source,
        split=split,
        image=images[0],
        label=labels[0] if labels else None,
        names=tuple(features[labels[0]].names) if labels else (),
        is_streamed=isinstance(data, datasets.IterableDataset),
    )


def _parts(source: str) -> tuple[str, str | None]:
    """Return name or path, and the split if there is one. Something that exists under the whole name has no split."""
    rest = source.removeprefix(DATA_SET)
    name, colon, split = rest.rpartition(":")
    if not rest.strip() or (colon and not (name and split)):
        raise UserError(f"`images` must name a data set, got: {source}", _FORM)
    return (name, split) if colon and not Path(rest).exists() else (rest, None)


def _load(name: str) -> Any:
    """Load a data set, or several splits by name; it is streamed if it is not on the disk."""
    import datasets

    path = Path(name)
    if any((path / file).is_file() for file in _SAVED):
        return datasets.load_from_disk(name)
    if path.is_file():
        if path.suffix.lower() not in _FILES:
            raise UserError(f"`images` must be a data set, got: {DATA_SET}{name} (a file of another kind)", _FORM)
        return datasets.load_dataset(_FILES[path.suffix.lower()], data_files=name)
    if path.is_dir():
        return datasets.load_dataset(name)
    if path.is_absolute() or name.startswith(".") or name.count("/") > 1:
        raise UserError(f"no such file or folder: {name}", _FORM)
    return datasets.load_dataset(name, streaming=True)


def _pick_split(source: str, content: Any, split: str | None) -> tuple[str, Any]:
    """Return name and rows of a split; of the only one where `split` is None."""
    splits = content if isinstance(content, dict) else {str(content.split or "all"): content}
    if split is None and len(splits) == 1:
        return next((str(name), data) for name, data in splits.items())
    if split not in splits:
        message = f"`images` must name a split of {', '.join(splits)}, got: {split or 'none'}"
        raise UserError(message, f"like {source}:SPLIT")
    return str(split), splits[split]


def _image_bytes(value: Any, *, may_be_remote: bool) -> bytes:
    """Return the bytes that a row holds or names."""
    cell = value or {}
    data, path = cell.get("bytes"), str(cell.get("path") or "")
    if data is None and not path:
        raise ImageError("no image in this row")
    if data is None:
        return _fetch(path) if may_be_remote and "://" in path else read_bytes(Path(path))
    if len(data) > LARGEST_FILE:
        raise ImageError(f"too large: {len(data):,} bytes, at most {LARGEST_FILE:,} are read")
    if not data:
        raise ImageError("empty file (0 bytes)")
    return bytes(data)


def _fetch(path: str) -> bytes:
    """Fetch a file of a streamed data set from where the stream comes from."""
    import fsspec

    try:
        with fsspec.open(path, "rb") as stream:
            return bytes(stream.read(LARGEST_FILE))
    except Exception as error:
        raise UserError(f"cannot read {path}: {one_line(error)}", "--resume goes on where a run stopped") from error
