"""A grid of models and attacks, read from a TOML file and checked as a whole before anything is run."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

from camdrift.comparison.sides import attack_words
from camdrift.errors import UserError
from camdrift.models.head_specs import split_head
from camdrift.pipeline.settings import WORDS_FOR_NUMBERS, Settings
from camdrift.specs import DATA_SET
from camdrift.storage.remote_directory import local_folder

if TYPE_CHECKING:
    from camdrift.models.classifier import Precision

_MOST_DOTS: Final = 1000
_OWN: Final = {"out": str, "images": str | tuple[str, ...], "device": str, "precision": str}
_MODEL: Final = {"model": str, "weights": str, "head": tuple[str, ...], "name": str}
# Settings that name files or models on the disk.
_PATHS: Final = ("adversarial",)
_MODELS: Final = ("surrogate",)


@dataclass(frozen=True)
class ModelEntry:
    """A model of the grid.

    Attributes:
        name: Its name in tables and figures.
        spec: Its spec, as `load_model` takes it.
        weights: File with its weights; None for the weights of the spec.
        head: KIND@FILE in the place of its last linear layer; None for its own.
    """

    name: str
    spec: str
    weights: Path | None
    head: str | None = None

    @property
    def title(self) -> str:
        """Its name with its head, as it tells cells and folders apart."""
        return self.name if self.head is None else f"{self.name} with {split_head(self.head)[0]} head"


@dataclass(frozen=True)
class AttackEntry:
    """An attack of the grid.

    Attributes:
        name: Its name in folders.
        settings: Options of the studies of this attack.
    """

    name: str
    settings: Settings


@dataclass(frozen=True)
class Grid:
    """The order for a sweep.

    Attributes:
        out: Folder for all runs.
        images: Images of every study; None for the twenty photographs.
        models: The models.
        attacks: The attacks; every model meets each of them.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, tf32 or bf16.
    """

    out: Path
    images: str | list[str] | None
    models: tuple[ModelEntry, ...]
    attacks: tuple[AttackEntry, ...]
    device: str = "auto"
    precision: "Precision" = "fp32"

    def folder(self, model: ModelEntry, attack: AttackEntry) -> Path:
        """Return the run directory of one cell."""
        return self.out / f"{_slug(model.title)}-{_slug(attack.name)}"


def read_grid(path: str | PathLike[str], *, out: str | PathLike[str] | None = None) -> Grid:
    """Return the grid that a TOML file describes; relative paths in it are relative to the file.

    Args:
        path: The file.
        out: Folder for all runs, in place of the file's.

    Raises:
        UserError: No such file, no TOML, an unknown key, a value of another type, two entries of one name.
    """
    file = Path(path)
    data = _parsed(file)
    hints = {name: hint for name, hint in get_type_hints(Settings).items() if name != "attack"}
    entries = {name: _entries(data.pop(name, []), name, file) for name in ("models", "attacks")}
    _check(data, {**_OWN, **hints}, str(file), also=("models", "attacks"))
    folder = file.resolve().parent
    defaults = _settings(data, hints, folder)
    models = tuple(model for entry in entries["models"] for model in _models(entry, folder, f"[[models]] in {file}"))
    attacks = _attacks(entries["attacks"], defaults, hints, folder, file)
    grid = Grid(
        out=local_folder("out", out) if out is not None else folder / _folder(data.get("out", f"runs/{file.stem}")),
        images=_images(data.get("images"), folder),
        models=models,
        attacks=attacks,
        device=data.get("device", "auto"),
        precision=data.get("precision", "fp32"),
    )
    _check_different(grid)
    return grid


def _folder(out: str) -> Path:
    return local_folder("out", out).expanduser()


def _parsed(file: Path) -> dict[str, Any]:
    if file.is_fifo() or file.is_char_device():
        raise UserError(f"`file` must be a TOML file, got: {file} (a device or a pipe)")
    try:
        text = file.read_text(encoding="utf-8")
        # tomllib's time grows with the square of a key's parts, and these are keys of one line.
        if any(line.count(".") > _MOST_DOTS for line in text.split("\n")):
            raise UserError(f"`file` must be TOML, got: {file} (a line with more than {_MOST_DOTS:,} dots)")
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UserError(f"`file` must be TOML, got: {file} ({error})") from error
    except (OSError, UnicodeDecodeError) as error:
        reason = "no such file" if not file.exists() else "it cannot be read"
        raise UserError(f"`file` must be a TOML file, got: {file} ({reason})") from error


def _entries(value: Any, name: str, file: Path) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not value or not all(isinstance(entry, dict) for entry in value):
        raise UserError(
            f"`{name}` must be one or more entries [[{name}]], got: {_shown(value) if value else 'none'} in {file}",
            f'[[{name}]] and, on the next line, {name[:-1]} = "..."',
        )
    return value


def _check(data: Mapping[str, Any], hints: Mapping[str, Any], where: str, also: Sequence[str] = ()) -> None:
    """Raise `UserError` for an unknown key, or a value of another type than its key's."""
    for key, value in data.items():
        if key not in hints:
            near = get_close_matches(key, [*hints, *also], n=1, cutoff=0.5)
            hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join([*hints, *also])}"
            raise UserError(f"`{key}` must be a key that is known, got: {key} in {where}", hint)
        is_word = isinstance(value, str) and value in WORDS_FOR_NUMBERS.get(key, {})
        if not is_word and not _fits(value, hints[key]):
            raise UserError(f"`{key}` must be {_expected(key, hints[key])}, got: {_shown(value)} in {where}")


def _fits(value: Any, hint: Any) -> bool:
    """Is this a value of the annotated type? One value stands for a list of one."""
    if get_origin(hint) is tuple:
        return all(_fits(each, get_args(hint)[0]) for each in (value if isinstance(value, list) else [value]))
    if get_origin(hint) is UnionType or isinstance(hint, UnionType):
        return any(_fits(value, each) for each in get_args(hint) if each is not type(None))
    if isinstance(value, bool):
        return hint is bool
    return isinstance(value, int | float if hint is float else hint)


def _expected(key: str, hint: Any) -> str:
    if get_origin(hint) is tuple:
        return "a list of numbers" if get_args(hint)[0] is float else "a list of words in quotes"
    kinds = [each for each in (get_args(hint) or (hint,)) if each is not type(None)]
    words = {int: "an integer", bool: "true or false", str: "text in quotes", float: "a number"}
    plain = " or ".join(words.get(kind, "a list") for kind in kinds)
    return " or ".join([plain, *(f'"{word}"' for word in WORDS_FOR_NUMBERS.get(key, {}))])


def _shown(value: Any) -> str:
    text = str(value) if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 60 else f"{text[:57]}..."


def _settings(data: Mapping[str, Any], hints: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The options of a study among these keys, as `Settings` takes them."""
    options = {}
    for key in hints.keys() & data.keys():
        value = data[key]
        if isinstance(value, str):
            value = WORDS_FOR_NUMBERS.get(key, {}).get(value, value)
        if get_origin(hints[key]) is tuple:
            value = tuple(value) if isinstance(value, list) else (value,)
        if key in _PATHS:
            value = str(folder / Path(value).expanduser())
        options[key] = _spec(value, folder) if key in _MODELS else value
    return options


def _models(entry: Mapping[str, Any], folder: Path, where: str) -> Iterator[ModelEntry]:
    """Yield the model of an entry, once with each of its heads."""
    _check(entry, _MODEL, where)
    if "model" not in entry:
        raise UserError(f"`model` must be in every entry of [[models]], got: {_shown(dict(entry))}")
    spec = entry["model"]
    weights = entry.get("weights")
    name = entry.get("name") or (spec.replace("\\", "/").rpartition("/")[2] if ".py:" in spec else spec)
    heads = entry.get("head") or None
    for head in heads if isinstance(heads, list) else [heads]:
        file = None if weights is None else folder / Path(weights).expanduser()
        yield ModelEntry(name, _spec(spec, folder), file, None if head is None else _head(head, folder))


def _head(head: str, folder: Path) -> str:
    """A head whose file is found from any folder."""
    _, file = split_head(head)
    return f"{head.partition('@')[0]}@{folder / Path(file).expanduser()}"


def _spec(spec: str, folder: Path) -> str:
    """A model's spec; the file that it names, if any, is found from any folder."""
    file, colon, factory = spec.rpartition(":")
    if file.endswith(".py"):
        return f"{folder / Path(file).expanduser()}{colon}{factory}"
    kind, at, file = spec.partition("@")
    if at and (folder / Path(file).expanduser()).is_file():
        return f"{kind}@{folder / Path(file).expanduser()}"
    return str(folder / spec) if (folder / spec).is_file() else spec


def _attacks(
    entries: Sequence[Mapping[str, Any]],
    defaults: Mapping[str, Any],
    hints: Mapping[str, Any],
    folder: Path,
    file: Path,
) -> tuple[AttackEntry, ...]:
    own = {"attack": str, "name": str, **hints}
    for entry in entries:
        _check(entry, own, f"[[attacks]] in {file}")
        if not {"attack", "name"} & entry.keys():
            raise UserError(f"`attack` must be in every entry of [[attacks]], got: {_shown(dict(entry))}")
    specs = [str(entry.get("attack", "")) for entry in entries]
    names = [str(entry.get("name", word)) for entry, word in zip(entries, attack_words(specs), strict=True)]
    attacks = []
    for entry, name in zip(entries, names, strict=True):
        attack = {"attack": entry["attack"]} if "attack" in entry else {}
        attacks.append(AttackEntry(name, Settings(**{**defaults, **_settings(entry, hints, folder), **attack})))
    return tuple(attacks)


def _images(value: Any, folder: Path) -> str | list[str] | None:
    if value is None:
        return None
    if isinstance(value, list):
        return [_image_source(each, folder) for each in value]
    return _image_source(value, folder)


def _image_source(source: str, folder: Path) -> str:
    """Images that are found from any folder; a data set that is not in the file's folder is one of the hub."""
    if not source.startswith(DATA_SET):
        return str(folder / Path(source).expanduser())
    name = source.removeprefix(DATA_SET)
    is_here = any((folder / path).exists() for path in (name, name.rpartition(":")[0]) if path)
    return f"{DATA_SET}{folder / name}" if is_here else source


def _check_different(grid: Grid) -> None:
    names = {"models": [entry.title for entry in grid.models], "attacks": [entry.name for entry in grid.attacks]}
    for option, words in names.items():
        counts = Counter(map(_slug, words))
        twice = [name for name in words if counts[_slug(name)] > 1]
        if twice:
            raise UserError(
                f"`{option}` must be different, got twice: {twice[0]}", 'name = "..." in an entry tells two apart'
            )
    folders = Counter(grid.folder(model, attack) for model in grid.models for attack in grid.attacks)
    for folder, count in folders.items():
        if count > 1:
            raise UserError(
                f"`name` of model and attack must make a folder of its own for every cell, got twice: {folder.name}",
                'name = "..." in an entry tells two apart',
            )


def _slug(name: str) -> str:
    """A name as a folder's name."""
    text = "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)
    return "-".join(part for part in text.split("-") if part).lstrip(".") or "unnamed"
