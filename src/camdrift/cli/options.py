"""The options of the commands, each declared once: a row of `OPTIONS`, and the field of a record that it fills.

A row says what an option is called, how its words are read, which commands take it, and what its help says. Its default
is the field's, so that commands and Python calls agree.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, Final, TypeVar

import typer

from camdrift.attacks.registry import FORMS, NAMES
from camdrift.cli.defaults import settings, variable
from camdrift.cli.groups import GROUPS
from camdrift.cli.models import Models
from camdrift.cli.records import Comparing, Criteria, Ending
from camdrift.cli.words import FILE, INTEGER, NUMBER_LIST, SPEC_LIST, SPECS, SWITCH, TEXT, WORD_LIST, Kind, count_of
from camdrift.engine.engine import Engine
from camdrift.fuzzing.names import CONSTRAINT_WORDS, FRAMEWORK_WORDS, ORACLE_WORDS
from camdrift.fuzzing.settings import FuzzSettings
from camdrift.models.registry import MODEL_FORMS
from camdrift.perturbations.registry import PERTURBATION_FORMS
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import PAPER_ATTACK, RUNS, Launch
from camdrift.tables.criteria import ALL, CRITERION_WORDS
from camdrift.tables.measures import CAPTUM, EXPLANATIONS, MAP_METRICS, METRICS

_Record = TypeVar("_Record")
_Command = Callable[..., None]

_STUDIES: Final = ("run", "explain", "reproduce")
_MANY_IMAGES: Final = ("run", "reproduce")
_ONE_READING: Final = ("run", "explain")
_ENGINES: Final = ("run", "reproduce", "sweep", "fuzz")
_COVERAGE: Final = ("coverage",)
_FUZZ: Final = ("fuzz",)
_COMPARE: Final = ("compare",)
_HEAD: Final = ("head",)
_MODELS: Final = (*_STUDIES, "layers", *_COVERAGE, *_FUZZ, *_HEAD)
_OUTPUTS: Final = (*_STUDIES, *_FUZZ)
_LIMITED: Final = (*_MANY_IMAGES, *_FUZZ, *_COVERAGE, *_HEAD)
_MANY_SEEDS: Final = (*_MANY_IMAGES, *_FUZZ)


@dataclass(frozen=True, eq=False)
class Option:
    """An option of some commands.

    Attributes:
        flag: Its name, without the dashes.
        record: The record of which it fills a field.
        kind: The way its words are read.
        metavar: Stands for its value in the help; None for the name of its type.
        commands: Names of the commands that take it.
        help: Its sentence in the help.
        fills: Name of the field, where it is not that of the flag.
        defaults: By command, a default that is not the field's.
        aliases: Further names, without the dashes.
    """

    flag: str
    record: type
    kind: Kind
    metavar: str | None
    commands: tuple[str, ...]
    help: str
    fills: str = ""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Name of the command's parameter."""
        return self.flag.replace("-", "_")

    @property
    def target(self) -> str:
        """Name of the field that it fills."""
        return self.fills or self.name

    def parameter(self, command: str) -> Parameter:
        """Return the parameter of a command from which typer makes the option."""
        defaults = {each.name: each.default for each in fields(self.record)}
        default = self.kind.write(self.defaults.get(command, defaults[self.target]))
        kind: Any = self.kind.type if default is not None else self.kind.type | None
        annotation: Any = Annotated[kind, self.info(shows_default=default not in (None, "", []), is_settable=True)]
        return Parameter(self.name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def info(self, *, shows_default: bool = False, is_settable: bool = False) -> Any:
        """Return the option as typer describes it.

        Args:
            shows_default: Does the help show its default?
            is_settable: May a variable of the environment set its default?
        """
        (group,) = (group for group, flags in GROUPS.items() if self.flag in flags)
        return typer.Option(
            *(f"--{name}" for name in (self.flag, *self.aliases)),
            help=self.help,
            metavar=self.metavar,
            show_default=shows_default,
            rich_help_panel=group,
            envvar=variable(self.flag) if is_settable else None,
            show_envvar=False,
        )


# In the order in which the help lists them.
OPTIONS: Final = (
    Option(
        "model", Models, TEXT, "SPEC", _MODELS,
        f"{MODEL_FORMS[0]} (embedded), {', '.join(MODEL_FORMS[1:-1])} or {MODEL_FORMS[-1]}.",
    ),
    Option(
        "weights", Models, FILE, "FILE", _MODELS,
        "State dict for the model: .safetensors, or .pt/.pth read without unpickling code.",
    ),
    Option(
        "head", Models, TEXT, "KIND@FILE", _ONE_READING,
        "Head in the place of the model's last linear layer, from a file that `camdrift head` wrote.",
    ),
    Option(
        "attack", Settings, TEXT, "SPEC", _STUDIES,
        f"{', '.join([*NAMES, *FORMS])} or path/to/file.py:function, with settings if wanted: "
        "'pgd(eps=4/255, target_class=\"second\")'.",
        defaults={"reproduce": PAPER_ATTACK},
    ),
    Option(
        "adversarial", Settings, TEXT, "PATH", _ONE_READING,
        "Adversarial images that you have, in place of an attack: a folder with the names of the seed images, or "
        "a .csv file with the header seed,adversarial.",
    ),
    Option(
        "surrogate", Models, TEXT, "SPEC", _ONE_READING,
        "Attack this model instead, and study how that transfers: a spec as for --model.",
    ),
    Option(
        "surrogate-weights", Models, FILE, "FILE", _ONE_READING,
        "State dict for the surrogate, as for --weights.",
    ),
    Option(
        "models", Models, SPEC_LIST, "LIST", _FUZZ,
        "One or two further models of the same classes: a failure is what they disagree on.",
        fills="others",
    ),
    Option(
        "frameworks", FuzzSettings, SPEC_LIST, "LIST", _FUZZ,
        f"{', '.join(FRAMEWORK_WORDS)}, with settings if wanted. All get the same seeds and budget.",
        aliases=("framework",),
    ),
    Option(
        "criterion", FuzzSettings, TEXT, "SPEC", _FUZZ,
        "Coverage that guides and is reported: docs/coverage.md lists them. Left out: kmnc with a profile, else nc.",
    ),
    Option(
        "budget", FuzzSettings, TEXT, "NUMBER-UNIT", _FUZZ,
        "Of each trial: passes (1 an image forward, 3 with the gradient, per model), iterations or minutes.",
    ),
    Option(
        "trials", FuzzSettings, INTEGER, "N", _FUZZ,
        "Trials of each framework, each with its own random numbers.",
    ),
    Option(
        "constraint", FuzzSettings, TEXT, "SPEC", _FUZZ,
        f"Which mutants are valid: {', '.join(CONSTRAINT_WORDS)}.",
    ),
    Option(
        "oracle", FuzzSettings, TEXT, None, _FUZZ,
        f"What a failure is: {', '.join(ORACLE_WORDS)}. Left out: disagree with --models, else prediction.",
    ),
    Option(
        "mutators", FuzzSettings, WORD_LIST, "LIST", _FUZZ,
        "Operators that mutate images.",
    ),
    Option(
        "as-released", FuzzSettings, SWITCH, None, _FUZZ,
        "Switch on published defects that change results.",
    ),
    Option(
        "criteria", Criteria, SPEC_LIST, "LIST", _COVERAGE,
        f"What is counted: {', '.join(CRITERION_WORDS)}, with settings if wanted: 'kmnc(k=100)'; or {ALL}.",
    ),
    Option(
        "profile", Criteria, TEXT, "PATH", (*_COVERAGE, *_FUZZ),
        "Ordinary images, a thousand or more, such as some of the training set: a folder or another source, or the "
        "profile.npz of an earlier measurement. Left out: only nc, tknc, tknp and nlc have values.",
    ),
    Option(
        "meaning", Criteria, SWITCH, None, _COVERAGE,
        "Is coverage meaningful in the finished campaign that IMAGES names? It asks with controls, and writes the "
        "answers into the campaign. Model and seeds are the campaign's.",
    ),
    Option(
        "judge", Criteria, TEXT, "SPEC", _COVERAGE,
        "With --meaning: another model of the same classes and input size, which judges how natural images are.",
    ),
    Option(
        "strengths", Settings, NUMBER_LIST, "LIST", _STUDIES,
        "Factors on the perturbation, for attack and noise.",
    ),
    Option(
        "target", Settings, WORD_LIST, "LIST", _ONE_READING,
        "Whose class is explained: own prediction, the seed's, the true label.",
        fills="targets",
    ),
    Option(
        "explain", Settings, SPEC_LIST, "LIST", _ONE_READING,
        f"How layers are explained: {', '.join([*EXPLANATIONS, f'{CAPTUM}:CLASS'])}. All that are made of gradients "
        "share one pass.",
        fills="explanations",
    ),
    Option(
        "similarity", Settings, WORD_LIST, "LIST", _ONE_READING,
        f"How attributions are compared: {', '.join(MAP_METRICS)}; "
        f"{', '.join(metric for metric in METRICS if metric not in MAP_METRICS)} for activations.",
        fills="similarities",
    ),
    Option(
        "layers", Settings, WORD_LIST, "GLOBS", (*_STUDIES, "layers"),
        "conv, block, stage (the last of each resolution), all, or globs over layer names, separated by commas. "
        "Left out: every 2-d convolution; the blocks of transformers and the like.",
    ),
    Option(
        "out", Launch, TEXT, "DIRECTORY", (*_OUTPUTS, *_COVERAGE),
        "Run directory, or a URL such as s3://BUCKET/run (whatever fsspec can write to). "
        "Left out: a new folder under runs/.",
    ),
    Option(
        "name", Launch, TEXT, "NAME", _OUTPUTS,
        f"Name of the run directory under {RUNS}/, in place of --out.",
    ),
    Option(
        "limit", Settings, INTEGER, "N", _LIMITED,
        "Study N images, spread over the sorted list.",
    ),
    Option(
        "sample", Settings, TEXT, "N-per-class", _MANY_IMAGES,
        "Study N images of every class, drawn by --rng-seed, as the paper did with 5-per-class.",
    ),
    Option(
        "rng-seed", Settings, INTEGER, "N", (*_OUTPUTS, *_HEAD),
        "Seed of every random draw.",
    ),
    Option(
        "noise-draws", Settings, INTEGER, "N", ("run",),
        "Noise draws per image.",
    ),
    Option(
        "noise-ladder", Settings, NUMBER_LIST, "LIST", _MANY_IMAGES,
        "Further strengths of the noise, to measure gains with.",
    ),
    Option(
        "gallery", Settings, count_of("gallery", least=0), "N", _MANY_IMAGES,
        "Images whose pictures and heatmaps are kept: N from the largest deviation to the smallest, or all.",
    ),
    Option(
        "chunk-size", Settings, count_of("chunk_size"), "N", _MANY_IMAGES,
        "Images that share one coverage table and are stored together; or all.",
    ),
    Option(
        "batch-size", Settings, count_of("batch_size"), "N", _LIMITED,
        "Images per pass, or auto.",
    ),
    Option(
        "device", Models, TEXT, None, _MODELS,
        "auto, cpu, cuda or cuda:N.",
        defaults={"layers": "cpu"},
    ),
    Option(
        "precision", Models, TEXT, None, _STUDIES,
        "fp32, tf32 or bf16.",
    ),
    Option(
        "denoised", Settings, SWITCH, None, ("run",),
        "Also hold every image against a denoised copy of itself, so that `detect` needs no clean image.",
    ),
    Option(
        "lime", Settings, SWITCH, None, ("run",),
        "Also explain every image on its input by LIME, clean, attacked and noisy: thousands of passes an image.",
    ),
    Option(
        "lime-design", Settings, TEXT, "SPEC", ("run",),
        "How: lime, lime:paper, or one of them with settings: 'lime(grid=8, samples=500)'.",
    ),
    Option(
        "perturb", Settings, SPECS, "SPEC", ("run",),
        f"A natural change to hold beside the attack, on the same scale: {' or '.join(PERTURBATION_FORMS)}, such as "
        "'nrtk:BrightnessPerturber(factor=1.4)' (extra `nrtk`). It may be given several times.",
    ),
    Option(
        "align", Comparing, TEXT, "WAY", _COMPARE,
        "How layers of different networks are paired: auto, name, depth.",
    ),
    Option(
        "cross", Comparing, SWITCH, None, _COMPARE,
        "Also show every model the perturbations of the others, which attacks every run again.",
    ),
    Option(
        "trust", Comparing, SWITCH, None, _COMPARE,
        "With --cross, also run Python code that run.json names: a model's factory, an attack.",
    ),
    Option(
        "engine", Engine, TEXT, None, _ENGINES,
        "local: this process; ray: workers, here or on a Ray cluster (extra `ray`).",
        fills="name",
    ),
    Option(
        "address", Engine, TEXT, "HOST:PORT", _ENGINES,
        "Ray cluster that the workers run on, or auto for the one on this machine. Left out: workers on this "
        "machine alone, or where RAY_ADDRESS says.",
    ),
    Option(
        "workers", Engine, INTEGER, "N", _ENGINES,
        "Workers of the engine ray. Left out: one per GPU, or one per two processors.",
    ),
    Option(
        "resume", Launch, SWITCH, None, _MANY_SEEDS,
        "Continue the run in --out, or add images to one that is complete.",
    ),
    Option(
        "overwrite", Launch, SWITCH, None, _OUTPUTS,
        "Replace the run in --out.",
    ),
    Option(
        "study", Ending, SWITCH, None, _FUZZ,
        "Study the closest failure of each seed layer by layer, at the end.",
    ),
    Option(
        "open", Ending, SWITCH, None, _OUTPUTS,
        "Open the report in the browser at the end.",
    ),
    Option(
        "json", Ending, SWITCH, None, (*_OUTPUTS, *_COVERAGE, *_HEAD),
        "Print the result as JSON.",
    ),
)  # fmt: skip


def option(flag: str) -> Any:
    """Return an option of the table as typer describes it."""
    (row,) = (row for row in OPTIONS if row.flag == flag)
    return row.info()


@dataclass(frozen=True)
class Options:
    """The options of one command line.

    Attributes:
        words: The value of every option as typer read it.
    """

    words: Mapping[Option, Any]

    def record(self, kind: type[_Record], **others: Any) -> _Record:
        """Return a record with the fields that options fill, and `others`.

        Raises:
            UserError: Words that cannot be read, or that the record refuses.
        """
        rows = {row: words for row, words in self.words.items() if row.record is kind}
        return kind(**{row.target: row.kind.parse(row.flag, words) for row, words in rows.items()}, **others)


def defaults_by_command() -> dict[str, dict[str, Any]]:
    """Return what the settings file says, by command and name of the parameter.

    Raises:
        UserError: The file cannot be read, or has other keys.
    """
    values = settings({row.flag: row.kind.type for row in OPTIONS})
    rows = [row for row in OPTIONS if row.name in values]
    commands = {command for row in rows for command in row.commands}
    return {name: {row.name: values[row.name] for row in rows if name in row.commands} for name in commands}


def takes_options(command: str) -> Callable[[_Command], _Command]:
    """Give a function the options of a command behind its own parameters; it gets them as its argument `options`."""
    rows = [row for row in OPTIONS if command in row.commands]

    def decorate(body: _Command) -> _Command:
        @wraps(body)
        def take(**words: Any) -> None:
            options = Options({row: words.pop(row.name) for row in rows})
            body(**words, options=options)

        *own, _ = signature(body).parameters.values()
        parameters = [*own, *(row.parameter(command) for row in rows)]
        take.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        take.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return take

    return decorate
