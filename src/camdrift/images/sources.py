"""Find the seed images: folders, globs and lists of paths become files, sorted and named."""

import importlib.util
import os
import stat
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path, PurePath
from typing import Final

from camdrift.errors import UserError
from camdrift.images.hugging_face import is_data_set, open_data_set
from camdrift.images.pixels import readable_endings
from camdrift.images.places import Folder, ImageFile, display_name, display_path
from camdrift.images.shards import ENDING as SHARD
from camdrift.images.shards import braces, images_in_shards, shard_ids

_ACCEPTED: Final = (
    "give a folder, an image, a glob like 'photos/*.jpg', a .txt file of paths, one a line, or .tar shards"
)
STREAMED: Final = "to study every image, `save_to_disk` the data set and give its folder: hf-dataset:FOLDER"
_ENDINGS: Final = "in a folder, images are known by their ending: .jpg, .png, .webp and others of Pillow's"
_CONVERT: Final = (
    "convert them to JPEG or PNG (`magick mogrify -format png *.heic`); a .txt file of paths takes files of any name"
)
_IN_MEMORY: Final = "save them as PNG files and give the folder; camdrift.attribute(classifier, images) takes a tensor"
# Files beside images that nobody takes for pictures.
_NO_PICTURES: Final = frozenset(
    f".{ending}"
    for ending in (
        *(
            "cfg",
            "csv",
            "db",
            "htm",
            "html",
            "ini",
            "ipynb",
            "json",
            "jsonl",
            "log",
            "md",
            "npy",
            "npz",
            "parquet",
            "py",
        ),
        *("rst", "toml", "tsv", "txt", "xml", "yaml", "yml"),
    )
)


def find_images(
    source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *, left_out: Counter[str] | None = None
) -> list[ImageFile]:
    """Return the images of a source, sorted by `seed_id`.

    A folder gives every image below it: files that are not hidden and whose ending Pillow knows. Links to folders are
    followed, but no folder is visited twice. A glob gives the images it matches, and those below the folders it
    matches (`**` does not follow links). A path given by itself, in a sequence or a text file, is always taken,
    whatever its name and even if nothing is there: `read_image` says what is wrong. A folder among them stands for its
    images. A file given twice is taken once.

    WebDataset shards are taken where there are .tar files and no images: a shard, a glob or a list of shards, a
    folder of them, or a name with a range of numbers, like 'shard-{000..009}.tar'.

    Args:
        source: A folder, a file, a glob, a .txt file with one path per line, `hf-dataset:NAME`, or a sequence of
            paths. A name under which something exists is never read as a glob. In a text file, paths start from its
            folder; blank lines and lines that start with # are skipped (write ./#1.jpg for a file named so).
        left_out: Counts, by ending, the files of folders and globs that are passed over and may be pictures.

    Raises:
        UserError: Nothing is there, or no image is.
    """
    left_out = Counter() if left_out is None else left_out
    if is_data_set(source):
        return _from_data_set(str(source))
    if not isinstance(source, str | os.PathLike):
        _check_paths(source)
        return _from_list([_path(entry) for entry in source], "no images: the list of paths is empty", left_out)
    path = _path(source)
    if _is_folder(path):
        return _from_folder(path, left_out)
    if _mode(path) is None:
        paths = _expand(path, left_out)
        if_none = f"no such file or folder, and no image matches it: {display_path(path)}"
        return _from_list(paths, if_none, left_out)
    entries = _read_list(path) if path.suffix.lower() == ".txt" else [path]
    return _from_list(entries, f"no images: the list holds no paths: {display_path(path)}", left_out)


def remark_on_files(left_out: Counter[str]) -> str:
    """Return in words how many files are passed over; empty for none."""
    if not left_out:
        return ""
    verb = "file is" if left_out.total() == 1 else "files are"
    return f"{left_out.total()} {verb} left out, since Pillow reads no such picture: {_kinds(left_out)}; {_CONVERT}"


def _kinds(left_out: Counter[str]) -> str:
    return ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in left_out.most_common(6))


def _check_paths(source: object) -> None:
    """Raise `UserError` for images in memory, which other libraries take where a path belongs."""
    is_list = isinstance(source, Sequence) and not isinstance(source, bytes)
    entries = source if isinstance(source, Sequence) and is_list else ()
    others = [entry for entry in entries if not isinstance(entry, str | os.PathLike)]
    if not is_list or others:
        what = f"{type(others[0]).__name__} in a list" if others else type(source).__name__
        raise UserError(f"`images` must be a folder, a file, a glob or a list of paths, got: {what}", _IN_MEMORY)


def limit_images(files: Sequence[ImageFile], limit: int) -> list[ImageFile]:
    """Return the first `limit` files of an order that spreads them: all of them if there are no more.

    The k-th lies at the k-th van der Corput number (0, 1/2, 1/4, 3/4, 1/8, ...) of the list, so that a larger `limit`
    adds files behind those of a smaller one.

    Raises:
        UserError: `limit` is below 1.
    """
    if limit < 1:
        raise UserError(f"`limit` must be at least 1, got: {limit}", "leave it out to study every image")
    bits = len(files).bit_length()
    halves = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [files[place] for place in islice(dict.fromkeys(half * len(files) >> bits for half in halves), limit)]


def default_photographs() -> list[ImageFile]:
    """Return the twenty ImageNet photographs that foolbox ships, with their labels (ImageNet class index).

    Raises:
        UserError: foolbox is not installed.
    """
    spec = importlib.util.find_spec("foolbox")  # does not import it: that takes seconds
    roots = list(spec.submodule_search_locations or []) if spec else []
    paths = sorted(path for root in roots for path in Path(root, "data").glob("imagenet_*_*.jpg"))
    if not paths:
        raise UserError("the default photographs come with foolbox, which is missing", "pip install foolbox")
    folder = Folder(classes=1000)
    return [ImageFile(p.name, folder, str(p), label=int(p.stem.rpartition("_")[2])) for p in paths]


def images_below(folder: Path, *, also: frozenset[str] = frozenset()) -> list[Path]:
    """Return the images below a folder, by their endings or those in `also`: none hidden, no folder visited twice."""
    return [folder / name for name in _walk(folder, also)]


def _below(folder: Path, left_out: Counter[str]) -> list[Path]:
    return [folder / name for name in _walk(folder, left_out=left_out)]


def read_text(path: Path, *, hint: str = _ACCEPTED) -> str:
    """Return the text of a UTF-8 file; an error gives `hint` as its cure.

    Raises:
        UserError: The file cannot be read, or is something else.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise UserError(f"cannot read {display_path(path)}: a device or a pipe", hint)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text: {display_path(path)}", hint) from error
    except OSError as error:
        raise UserError(f"cannot read {display_path(path)}: {error.strerror}", hint) from error


def _path(entry: str | os.PathLike[str]) -> Path:
    if not os.fspath(entry).strip():
        raise UserError("the path of the images is empty", _ACCEPTED)
    return Path(entry)


def _mode(path: Path) -> int | None:
    """Return type and rights of what a path leads to; None if that is nothing, or nobody may look."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path) or 0)


def _from_data_set(source: str) -> list[ImageFile]:
    data = open_data_set(source)
    if data.is_streamed:
        raise UserError(f"`images` that are streamed must come with `limit` or `sample`, got: {source}", STREAMED)
    files = list(data.files())
    if not files:
        raise UserError(f"no images in {source}: it has no rows", _ACCEPTED)
    return files


def _from_folder(root: Path, left_out: Counter[str]) -> list[ImageFile]:
    files = _walk(root, frozenset({SHARD}), left_out)
    if files == [""]:
        raise UserError(f"the folder cannot be opened: {display_path(root)}", "check its permissions")
    names = [name for name in files if not name.lower().endswith(SHARD)]
    if files and not names:
        return images_in_shards({display_name(name): root / name for name in files})
    if not names:
        others = f" ({_kinds(left_out)} left out)" if left_out else ""
        raise UserError(
            f"no images in the folder: {display_path(root)}{others}",
            f"{_ENDINGS}; {_CONVERT}" if left_out else _ENDINGS,
        )
    left_out.update([SHARD] * (len(files) - len(names)))
    folder = Folder(root)
    return _sorted_files(folder, ((display_name(name), name) for name in names))


def _from_list(entries: Sequence[Path], if_none: str, left_out: Counter[str]) -> list[ImageFile]:
    """Return the files of a list, and the images of its folders; names begin at the longest common parent."""
    if not entries:
        others = f" ({_kinds(left_out)} left out)" if left_out else ""
        raise UserError(f"{if_none}{others}", _CONVERT if left_out else _ACCEPTED)
    if all(_is_shard(entry) and not _is_folder(entry) for entry in entries):
        return images_in_shards(shard_ids(entries))
    paths = [path for entry in entries for path in (_below(entry, left_out) if _is_folder(entry) else ()) or (entry,)]
    real = {parent: _real(parent) for parent in {path.parent for path in paths}}
    first = {(real[path.parent], path.name): path for path in reversed(paths)}
    # `link/..` is not the folder that holds the link, so `..` cannot just be struck out of a path.
    places = {p: Path(*key) if ".." in p.parts else p.absolute() for key, p in first.items()}
    root = os.path.commonpath([place.parent for place in places.values()])
    keys = ((display_path(place.relative_to(root)), str(path)) for path, place in places.items())
    return _sorted_files(Folder(), keys)


def _real(folder: Path) -> str:
    """Return its path without links; unchanged where no folder can have such a name, as reading from it will tell."""
    try:
        return os.path.realpath(folder)
    except ValueError:  # a null byte
        return str(folder.absolute())


def _sorted_files(folder: Folder, keys: Iterable[tuple[str, str]]) -> list[ImageFile]:
    """Return the files of a folder, made of seed_id and key. A candidate class is one string for all its images."""
    classes: dict[str, str] = {}
    files = []
    for seed_id, key in sorted(keys):
        first, slash, _ = seed_id.partition("/")
        files.append(ImageFile(seed_id, folder, key, classes.setdefault(first, first) if slash else None))
    return files


def _walk(root: Path, also: frozenset[str] = frozenset(), left_out: Counter[str] | None = None) -> list[str]:
    """Return the images below a folder, and the folders that cannot be opened (reading them tells why), by their paths.

    Every folder is listed once. A listing tells which entries are folders, so that only links are looked at one by one.
    """
    names, folders, links, visits = list[str](), [""], list[str](), set[str]()
    endings = readable_endings() | also
    while folders or links:
        # Links last, so that a folder with two names is visited under its own.
        folder = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(root / folder)) in visits:
            continue
        visits.add(real)
        try:
            files, subfolders, links_inside = _listing(root / folder, endings, left_out)
        except OSError:
            names.append(folder)
            continue
        prefix = f"{folder}/" if folder else ""
        names += [prefix + name for name in files]
        folders += [prefix + name for name in sorted(subfolders)]
        links += [prefix + name for name in sorted(links_inside)]
    return names


def _listing(
    folder: Path, endings: frozenset[str], left_out: Counter[str] | None
) -> tuple[list[str], list[str], list[str]]:
    """Return the names of a folder's images, of its folders, and of its links to folders, without hidden ones."""
    files, folders, links = list[str](), list[str](), list[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith("."):
                continue
            if _leads_to_folder(entry):
                (links if entry.is_symlink() else folders).append(name)
            elif _ending(name) in endings:
                files.append(name)
            elif left_out is not None:
                _count(name, left_out)
    return files, folders, links


def _ending(name: str) -> str:
    """Return the ending of a file's name with its dot, in lower case; empty without one."""
    return "".join(name.rpartition(".")[1:]).lower() if "." in name else ""


def _count(name: str, left_out: Counter[str]) -> None:
    if _ending(name) not in _NO_PICTURES:
        left_out[_ending(name)] += 1


def _leads_to_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_shard(path: PurePath) -> bool:
    return path.suffix.lower() == SHARD


def _expand(pattern: Path, left_out: Counter[str]) -> list[Path]:
    """Return the paths that a name stands for; of a range of shards all, even if nothing is there."""
    names = braces(str(pattern)) if _is_shard(pattern) else [str(pattern)]
    if names == [str(pattern)]:
        return _matches(pattern, left_out)
    return [path for name in names for path in (_matches(Path(name), left_out) or [Path(name)])]


def _matches(pattern: Path, left_out: Counter[str]) -> list[Path]:
    """Return the images that a glob matches, and those in folders that it matches; shards if there are none.

    Leading folders that exist are taken by their very name.
    """
    base, rest = Path(), list(pattern.parts)
    while rest and _is_folder(base / rest[0]):
        base /= rest.pop(0)
    if not any(mark in part for part in rest for mark in "*?["):
        return []
    try:
        paths = sorted(base.glob(str(PurePath(*rest))))
    except ValueError as error:
        raise UserError(f"not a valid glob: {display_path(pattern)} ({error})", _ACCEPTED) from error
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(base).parts)]
    images = [path for path in paths if path.suffix.lower() in readable_endings() and not _is_folder(path)]
    images += [file for path in paths if _is_folder(path) for file in _below(path, left_out)]
    shards = [path for path in paths if _is_shard(path)]
    members = {*(images or shards)}
    for path in paths:
        if path not in members and not _is_folder(path):
            _count(path.name, left_out)
    return images or shards


def _read_list(path: Path) -> list[Path]:
    """Return the paths that a text file lists; outer spaces of a line count only if a file is named so."""
    lines = read_text(path).split("\n")
    lines = [line.removesuffix("\r") for line in lines if line.strip() and not line.startswith("#")]
    return [path.parent / _stripped(line, path.parent) for line in lines]


def _stripped(line: str, folder: Path) -> str:
    bare = line.strip()
    return bare if bare == line or _mode(folder / line) is None else line
