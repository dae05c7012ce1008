"""Where the seed images lie: folders, globs and lists of paths become files, sorted and named."""

import importlib.util
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Final

from camdrift.errors import UserError
from camdrift.images import readable_endings

_ACCEPTED: Final = "give a folder, an image, a glob like 'photos/*.jpg', or a .txt file of paths, one a line"
_ENDINGS: Final = "in a folder, images are known by their ending: .jpg, .png, .webp and others of Pillow's"


@dataclass(frozen=True)
class ImageFile:
    """Where one seed image lies.

    Attributes:
        seed_id: Its path below the folder that is studied, with forward slashes; unique in a study.
        path: The file.
        folder: First folder below the studied one, a candidate class; None for an image in no sub-folder.
        label: Index of its true class, None where unknown.
    """

    seed_id: str
    path: Path
    folder: str | None
    label: int | None = None


def find_images(source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[ImageFile]:
    """The images of a source, sorted by `seed_id`.

    A folder gives every image below it: files that are not hidden and whose ending Pillow knows. Links to
    folders are followed, but no folder is visited twice. A glob gives the images it matches, and those below
    the folders it matches (`**` does not follow links). Paths given one by one, in a sequence or a text file,
    are always taken, whatever their name and even if nothing is there: `read_image` says what is wrong. A
    folder among them stands for its images. The same file given twice is taken once.

    Args:
        source: A folder, a file, a glob, a .txt file with one path per line, or a sequence of paths. What
            exists under the very name is never read as a glob. In a text file, paths start from its folder;
            blank lines and lines that start with # are skipped (write ./#1.jpg for a file named so).

    Raises:
        UserError: Nothing is there, or no image is.
    """
    if not isinstance(source, str | os.PathLike):
        return _from_list([_path(entry) for entry in source], "no images: the list of paths is empty")
    path = _path(source)
    shown = display_path(path)
    if _is_folder(path):
        return _from_folder(path)
    if _mode(path) is None:
        return _from_list(_matches(path), f"no such file or folder, and no image matches it: {shown}")
    entries = _listed(path) if path.suffix.lower() == ".txt" else [path]
    return _from_list(entries, f"no images: the list holds no paths: {shown}")


def limit_images(files: Sequence[ImageFile], limit: int) -> list[ImageFile]:
    """`limit` of the files, spread evenly over them, in their order; all of them if there are no more.

    Raises:
        UserError: `limit` is below 1.
    """
    if limit < 1:
        raise UserError(f"`limit` must be at least 1, got: {limit}", "leave it out to study every image")
    count = min(limit, len(files))
    return [files[index * len(files) // count] for index in range(count)]


def default_photographs() -> list[ImageFile]:
    """The twenty ImageNet photographs that foolbox ships, with their labels (ImageNet class index).

    Raises:
        UserError: foolbox is not installed.
    """
    spec = importlib.util.find_spec("foolbox")  # does not import it: that takes seconds
    roots = list(spec.submodule_search_locations or []) if spec else []
    paths = sorted(path for root in roots for path in Path(root, "data").glob("imagenet_*_*.jpg"))
    if not paths:
        raise UserError("the default photographs come with foolbox, which is missing", "pip install foolbox")
    return [ImageFile(path.name, path, None, int(path.stem.rpartition("_")[2])) for path in paths]


def images_below(folder: Path, *, also: frozenset[str] = frozenset()) -> list[Path]:
    """Images below a folder, by their endings or those in `also`; not hidden, no folder visited twice."""
    return _walk(folder, also)


def read_text(path: Path, *, hint: str = _ACCEPTED) -> str:
    """The text of a UTF-8 file; `hint` is what an error advises.

    Raises:
        UserError: It cannot be read, or is something else.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 text: {display_path(path)}", hint) from error
    except OSError as error:
        raise UserError(f"cannot read {display_path(path)}: {error.strerror}", hint) from error


def display_path(path: PurePath) -> str:
    """A path as text that every file can hold: bytes of a name that are no UTF-8 are written as escapes."""
    return path.as_posix().encode("utf-8", "backslashreplace").decode("utf-8")


def _path(entry: str | os.PathLike[str]) -> Path:
    if not os.fspath(entry).strip():
        raise UserError("the path of the images is empty", _ACCEPTED)
    return Path(entry)


def _mode(path: Path) -> int | None:
    """Type and rights of what lies under a path; None if nothing does or nobody may look."""
    try:
        return path.stat().st_mode
    except (OSError, ValueError):
        return None


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(_mode(path) or 0)


def _from_folder(root: Path) -> list[ImageFile]:
    paths = _walk(root)
    if paths == [root]:
        raise UserError(f"the folder cannot be opened: {display_path(root)}", "check its permissions")
    if not paths:
        raise UserError(f"no images in the folder: {display_path(root)}", _ENDINGS)
    return _sorted_files((path, path.relative_to(root)) for path in paths)


def _from_list(entries: Sequence[Path], if_none: str) -> list[ImageFile]:
    """The files of a list, a folder in it replaced by its images, named from their longest common parent."""
    if not entries:
        raise UserError(if_none, _ACCEPTED)
    paths = [path for entry in entries for path in (_walk(entry) if _is_folder(entry) else ()) or (entry,)]
    real = {parent: os.path.realpath(parent) for parent in {path.parent for path in paths}}
    first = {(real[path.parent], path.name): path for path in reversed(paths)}
    # `link/..` is not the folder that holds the link, so `..` cannot just be struck out of a path.
    places = {p: Path(*key) if ".." in p.parts else p.absolute() for key, p in first.items()}
    root = os.path.commonpath([place.parent for place in places.values()])
    return _sorted_files((path, place.relative_to(root)) for path, place in places.items())


def _sorted_files(places: Iterable[tuple[Path, PurePath]]) -> list[ImageFile]:
    named = sorted((display_path(below), path) for path, below in places)
    return [ImageFile(name, path, name.partition("/")[0] if "/" in name else None) for name, path in named]


def _walk(root: Path, also: frozenset[str] = frozenset()) -> list[Path]:
    """Images below a folder, and folders that cannot be opened (reading them tells why)."""
    files, folders, links, seen = list[Path](), [root], list[Path](), set[str]()
    endings = readable_endings() | also
    while folders or links:
        # Links last, so that a folder with two names is visited under its own.
        folder = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        except OSError:
            entries = []
            files.append(folder)
        for path in entries:
            if _is_folder(path):
                (links if path.is_symlink() else folders).append(path)
            elif path.suffix.lower() in endings:
                files.append(path)
    return files


def _matches(pattern: Path) -> list[Path]:
    """Images and folders that a glob matches; leading folders that exist are taken by their very name."""
    base, rest = Path(), list(pattern.parts)
    while rest and _is_folder(base / rest[0]):
        base /= rest.pop(0)
    if not any(mark in part for part in rest for mark in "*?["):
        return []
    try:
        found = sorted(base.glob(str(PurePath(*rest))))
    except ValueError as error:
        raise UserError(f"not a valid glob: {display_path(pattern)} ({error})", _ACCEPTED) from error
    shown = [path for path in found if not any(p.startswith(".") for p in path.relative_to(base).parts)]
    images = [path for path in shown if path.suffix.lower() in readable_endings() and not _is_folder(path)]
    return images + [file for path in shown if _is_folder(path) for file in _walk(path)]


def _listed(path: Path) -> list[Path]:
    """The paths that a text file lists; outer spaces of a line count only if a file is named so."""
    lines = read_text(path).split("\n")
    lines = [line.removesuffix("\r") for line in lines if line.strip() and not line.startswith("#")]
    return [path.parent / (line.strip() if _mode(path.parent / line) is None else line) for line in lines]
