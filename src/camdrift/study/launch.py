"""The start of a study: its launch and its settings, made of a caller's keywords."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from inspect import Parameter, signature
from os import PathLike
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar, get_args, get_type_hints

from camdrift.engine.engine import LOCAL, Engine, EngineName, engine_of
from camdrift.engine.progress import OnProgress, Progress
from camdrift.errors import UserError
from camdrift.images.protocol import ProtocolDataSet
from camdrift.pipeline.settings import Settings, SettingsKeywords

PAPER_ATTACK: Final = "dlfuzz:paper"
RUNS: Final = Path("runs")
# Bytes that the name of a folder may have.
_LONGEST_NAME: Final = 255

# Seed images as `run`, `reproduce` and `verify` take them.
ImageSource = str | PathLike[str] | Sequence[str | PathLike[str]] | ProtocolDataSet | None

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Launch:
    """The start of a study: its directory, its engine, its listeners. The study's tables do not depend on it.

    Attributes:
        out: Run directory or its URL; None for a new folder under `runs/`.
        name: Name of the run directory under `runs/`, in place of `out`.
        resume: Continue the run in `out`, or give a run that is complete more images.
        overwrite: Replace the run in `out`.
        engine: What computes the chunks.
        progress: Is progress shown, on standard error or below a notebook's cell?
        on_progress: Called whenever there is something to show, in place of that.
        on_start: Called once with the run directory's path or URL, before the first chunk.
        command: The command line, for the record.

    Raises:
        UserError: `resume` without `out`, or with `overwrite`.
    """

    out: str | PathLike[str] | None = None
    name: str | None = None
    resume: bool = False
    overwrite: bool = False
    engine: Engine = Engine()  # noqa: RUF009
    progress: bool = True
    on_progress: OnProgress | None = None
    on_start: Callable[[Path | str], None] | None = None
    command: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            object.__setattr__(self, "out", _named(self.name, self.out))
        if self.resume and (self.overwrite or self.out is None):
            options = "--resume and --overwrite" if self.overwrite else "--resume without --out"
            raise UserError(
                f"`resume` must come with a run directory and without `overwrite`, got: {options}",
                "--resume --out RUN (or --name NAME) continues a run, --overwrite in its place starts again",
            )

    @property
    def is_among_runs(self) -> bool:
        """Does the run directory lie in the folder that camdrift makes, where nobody has chosen another?

        A run that was stopped there goes on by its path.
        """
        is_resumed_there = self.resume and self.out is not None and Path(self.out).parent == RUNS
        return self.out is None or self.name is not None or is_resumed_there

    def begin(self, place: Path | str) -> None:
        """Tell the caller where the run is written."""
        if self.on_start is not None:
            self.on_start(place)

    def show(self, progress: Progress) -> None:
        """Tell the caller how far the run is."""
        if self.on_progress is not None:
            self.on_progress(progress)

    @contextmanager
    def displayed(self) -> Iterator["Launch"]:
        """Yield this launch with a display of its progress, unless the caller has one or wants none."""
        if self.on_progress is not None or not self.progress:
            yield self
            return
        # The terminal's libraries are for whoever looks at one.
        from camdrift.engine.display import library_display

        with library_display() as display:
            yield replace(self, on_progress=display)


def _named(name: str, out: str | PathLike[str] | None) -> Path:
    """The run directory of a name under `runs/`."""
    if out is not None and Path(out) != RUNS / name:
        raise UserError(f"`name` must come without `out`, got: {name} and {out}", "--out takes a whole path")
    is_plain = Path(name).name == name.strip() == name and name.isprintable() and name[:1] not in ("", ".")
    if not is_plain or len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"`name` must be the name of a folder, got: {name.strip() or 'nothing'}", "--out takes a whole path"
        )
    return RUNS / name


class EngineKeywords(TypedDict, total=False):
    """An engine as keywords: whole, or its name with its options."""

    engine: EngineName | Engine
    address: str | None
    workers: int | None


class LaunchKeywords(EngineKeywords, total=False):
    """A launch as keywords."""

    out: str | PathLike[str] | None
    name: str | None
    resume: bool
    overwrite: bool
    progress: bool
    on_progress: OnProgress | None
    on_start: Callable[[Path | str], None] | None
    command: str | None


class StudyKeywords(LaunchKeywords, SettingsKeywords, total=False):
    """The keywords of `camdrift.run`: a launch, and the options of a study."""


def launch_from(keywords: Mapping[str, Any]) -> tuple[Launch, dict[str, Any]]:
    """Return the launch that some keywords describe, and the keywords that are about something else.

    Raises:
        UserError: The engine is not known, or `resume` and the others do not go together.
    """
    engine = engine_of(keywords.get("engine", LOCAL), keywords.get("address"), keywords.get("workers"))
    own = {field.name: keywords[field.name] for field in fields(Launch) if field.name in keywords}
    others = {name: value for name, value in keywords.items() if name not in LaunchKeywords.__annotations__}
    return Launch(**{**own, "engine": engine}), others


def settings_from(
    settings: Settings | None, options: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
) -> Settings:
    """Return the settings that a caller gives as a record or by name.

    Args:
        settings: The record.
        options: Fields of `Settings` by name.
        defaults: Values of fields that a caller without a record need not name.

    Raises:
        UserError: Both a record and names, or a name that is no field.
    """
    if settings is not None and options:
        raise UserError(f"`settings` must come alone, got also: {', '.join(options)}")
    check_known(options, Settings.names())
    return settings or Settings(**{**(defaults or {}), **options})


def check_known(options: Iterable[str], names: Sequence[str]) -> None:
    """Raise `UserError` for options that are not among the names."""
    unknown = [name for name in options if name not in names]
    if unknown:
        raise UserError(f"no such option: {', '.join(unknown)}", f"options: {', '.join(names)}")


def fresh_folder(name: str, time: str) -> Path:
    """Return a folder under `runs/` that does not exist yet, named after its content and an ISO 8601 time."""
    stem = f"{name}-{time[:19].replace(':', '').replace('T', '-')}"
    folders = (RUNS / (stem if not number else f"{stem}-{number}") for number in range(10_000))
    return next(folder for folder in folders if not folder.exists())


def spelled_out(*records: type) -> Callable[[_Function], _Function]:
    """Let `help` and completion show the keywords of `**options: Unpack[...]` one by one.

    Args:
        records: Records whose fields have the defaults; that of other keywords is None.
    """
    defaults = {field.name: field.default for record in records for field in fields(record)}

    def spell_out(function: _Function) -> _Function:
        plain = signature(function)
        *parameters, options = plain.parameters.values()
        (keywords,) = get_args(get_type_hints(function)[options.name])
        for name, hint in get_type_hints(keywords).items():
            default = defaults.get(name)
            parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=hint))
        function.__signature__ = plain.replace(parameters=parameters)  # type: ignore[attr-defined]
        return function

    return spell_out
