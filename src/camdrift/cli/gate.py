"""The command that holds a study against limits: check."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from camdrift.cli.terminal import UNTOLD, AsJson, print_json, print_text
from camdrift.cli.words import parse_words
from camdrift.errors import UserError

# 1 is what `verify` found differs, 2 a mistake of the user.
EXIT_CODES: Final = {"passed": 0, "failed": 3, "cannot be told": UNTOLD}


def _limits(help_text: str) -> Any:
    return typer.Option(help=help_text, metavar="LIMIT[@STRENGTH]", show_default=False)


def check_command(
    run: Annotated[str, typer.Argument(help="Folder or URL that `camdrift run` wrote.", metavar="RUN")],
    max_flips: Annotated[
        str, _limits("Share of predictions that the attack may change, such as 0.1@1; several with commas.")
    ] = "",
    max_gain: Annotated[str, _limits("Gain that no layer may exceed.")] = "",
    min_accuracy: Annotated[str, _limits("Accuracy under attack that must be left.")] = "",
    strict: Annotated[
        bool, typer.Option("--strict", help="Compare the worse end of the 95 % interval, not the estimate.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Also write a JUnit file.", metavar="FILE")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a study against limits; exit code 3 if one is exceeded, 4 if nobody can tell."""
    from camdrift.study.gate import check

    result = check(
        run,
        max_flips=_by_strength("max-flips", max_flips),
        max_gain=_by_strength("max-gain", max_gain),
        min_accuracy=_by_strength("min-accuracy", min_accuracy),
        is_strict=strict,
    )
    if junit is not None:
        result.write_junit(junit)
    if as_json:
        print_json(result.as_json())
    else:
        print_text("\n".join(result.lines()))
    raise typer.Exit(EXIT_CODES[result.state])


def _by_strength(flag: str, text: str) -> dict[float, float]:
    """Return limits by strength from words such as `0.1@1,0.3@2`."""
    limits: dict[float, float] = {}
    for word in parse_words(text):
        limit, at, strength = word.partition("@")
        try:
            place, value = float(strength if at else 1), float(limit)
        except ValueError as error:
            raise UserError(
                f"`{flag}` must be LIMIT or LIMIT@STRENGTH, got: {word}",
                "such as 0.1@1; 0.1 is 10 %",
            ) from error
        if place in limits:
            raise UserError(f"`{flag}` must have one limit for each strength, got: {text}", "strength 1 unless named")
        limits[place] = value
    return limits
