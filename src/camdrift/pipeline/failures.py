"""Failures of code that is not ours, in the middle of a study: one line that names the images in hand."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, ParamSpec

from camdrift.errors import TRACEBACK_HINT, UserError, one_line, place_of
from camdrift.images.places import ImageFile

_SHOWN: Final = 5
_P = ParamSpec("_P")


@contextmanager
def naming(files: Sequence[ImageFile], callers: Sequence[BaseException] = ()) -> Iterator[None]:
    """Inside the block an error of a model, an attack or a library is one line with the images in hand.

    Such code may also end the program (`sys.exit`). A person's wish to stop goes through as it is.

    Args:
        files: The images in hand.
        callers: Errors of the caller's own functions, which go through as they are.

    Raises:
        UserError: The block failed.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:
        if any(error is own for own in callers):
            raise
        what = "tried to end the program" if isinstance(error, SystemExit | GeneratorExit) else "failed"
        raise UserError(
            f"`model` or `attack` {what} on {names(files)}: {one_line(error)}{place_of(error)}", TRACEBACK_HINT
        ) from error


def noting(function: Callable[_P, None], errors: list[BaseException]) -> Callable[_P, None]:
    """Return a function of the caller's that notes its own errors."""

    def noted(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except BaseException as error:
            errors.append(error)
            raise

    return noted


def names(files: Sequence[ImageFile]) -> str:
    """The names of the first images, and the number of the others."""
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"{', '.join(file.seed_id for file in files[:_SHOWN])}{more}"
