"""The command line: arguments, progress, exit codes; no computation."""

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from camdrift.cli.coverage import coverage_command
from camdrift.cli.defaults import source_of, value_of
from camdrift.cli.defend import defend_command
from camdrift.cli.fuzz import fuzz_command
from camdrift.cli.gate import check_command
from camdrift.cli.help import EXAMPLES, GroupedCommand
from camdrift.cli.layers import layers_command
from camdrift.cli.options import OPTIONS, defaults_by_command
from camdrift.cli.progress import INTERRUPTED
from camdrift.cli.results import compare_command, detect_command, report_command, sweep_command, verify_command
from camdrift.cli.runs import cite_command, list_command, open_command
from camdrift.cli.studies import explain_command, reproduce_command, run_command
from camdrift.cli.terminal import tolerant_streams
from camdrift.errors import FOREIGN, TRACEBACK, TRACEBACK_HINT, UserError, escaped, is_foreign, one_line, place_of
from camdrift.study.provenance import camdrift_version

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Show where inside an image classifier an adversarial attack takes hold.",
)

# A shell that completes a command line sets it.
_COMPLETION: Final = "_CAMDRIFT_COMPLETE"
_STOPPED: Final = {INTERRUPTED: "interrupted", 143: "terminated"}


def _version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"camdrift {camdrift_version()}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Show where inside an image classifier an adversarial attack takes hold."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
    elif any(context.invoked_subcommand in row.commands for row in OPTIONS):
        # Here, so that a settings file that is wrong stops no command that takes nothing from it.
        context.default_map = defaults_by_command()


# Each with its line in the list of commands.
_COMMANDS: Final[dict[str, tuple[Callable[..., Any], str]]] = {
    "run": (run_command, "Study a classifier under an attack."),
    "explain": (explain_command, "Attack one image, and show the maps of every layer."),
    "list": (list_command, "List runs."),
    "open": (open_command, "Open a run's report."),
    "cite": (cite_command, "Print a methods paragraph and BibTeX for a run."),
    "check": (check_command, "Hold a run against limits, for a CI."),
    "compare": (compare_command, "Compare runs layer by layer."),
    "sweep": (sweep_command, "Study several models under several attacks."),
    "detect": (detect_command, "Tell adversarial images from noisy ones."),
    "defend": (defend_command, "Judge defences on a run."),
    "reproduce": (reproduce_command, "Run the paper of 2022, and judge its claims."),
    "fuzz": (fuzz_command, "Fuzz a classifier with one or several frameworks."),
    "report": (report_command, "Make a run's report again from its tables."),
    "verify": (verify_command, "Check a run's files, and compute some of it again."),
    "layers": (layers_command, "List the layers of a model."),
    "coverage": (coverage_command, "Measure coverage criteria of images."),
}


for _name, (_command, _line) in _COMMANDS.items():
    app.command(_name, cls=GroupedCommand, short_help=_line, epilog=EXAMPLES.get(_name))(_command)


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 what `verify` found differs, 2 the user's mistake, 3 a limit of `check` is exceeded, 4 nobody
    can tell whether, 130 interrupted, 143 terminated.
    """
    if _COMPLETION in os.environ:
        app(prog_name="camdrift")
    with tolerant_streams() as output:
        code = _code()
        if code in _STOPPED:
            typer.echo(_STOPPED[code], err=True)
        if output.failure is not None:
            message = f"standard output could not be written: {output.failure.strerror}"
            code = _complain(message, "free some space; what was computed is kept")
    sys.exit(code)


def _code() -> int:
    """Run the command and return its exit code; whatever stops it is told in a line."""
    try:
        code: int = app(prog_name="camdrift", standalone_mode=False) or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as error:
        _show_traceback(error)
        return _complain(error.message, error.hint)
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        command = "camdrift" if context is None else context.command_path
        message, hint = _lowered(error.format_message()), f"`{command} --help` shows what it takes"
        return _complain(f"{message}{value_of(error)}", f"{source_of(error)}{hint}")
    except FOREIGN as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise  # by typer: whoever read the output has gone
        _show_traceback(error)
        prefix = "" if is_foreign(error) else "unexpected: "
        return _complain(f"{prefix}{one_line(error)}{place_of(error)}", TRACEBACK_HINT)
    return code


def _show_traceback(error: BaseException) -> None:
    """Raise an error that is no mistake in the input, or comes from one, if its traceback is asked for."""
    if os.environ.get(TRACEBACK) and (error.__cause__ is not None or not isinstance(error, UserError)):
        raise error


def _complain(message: str, hint: str) -> int:
    typer.echo(f"error: {escaped(message)}", err=True)
    typer.echo(f"hint: {escaped(hint) or '`camdrift COMMAND --help` shows what it takes'}", err=True)
    return 2


def _lowered(message: str) -> str:
    return " ".join((message[:1].lower() + message[1:].rstrip(".")).split())
