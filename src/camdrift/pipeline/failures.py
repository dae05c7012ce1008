"""Failures of code that is not ours, in the middle of a study: one line that names the images in hand."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from camdrift.errors import TRACEBACK_HINT, UserError, one_line, place_of
from camdrift.images.places import ImageFile

_SHOWN: Final = 5


@contextmanager
def naming(files: Sequence[ImageFile]) -> Iterator[None]:
    """Inside the block an error of a model, an attack or a library is one line with the images in hand.

    Such code may also end the program (`sys.exit`). A person's wish to stop goes through as it is.

    Args:
        files: The images in hand.

    Raises:
        UserError: The block failed.
    """
    try:
        yield
    except (KeyboardInterrupt, UserError):
        raise
    except BaseException as error:
        what = "tried to end the program" if isinstance(error, SystemExit | GeneratorExit) else "failed"
        raise UserError(
            f"`model` or `attack` {what} on {names(files)}: {one_line(error)}{place_of(error)}", TRACEBACK_HINT
        ) from error


def names(files: Sequence[ImageFile]) -> str:
    """The names of the first images, and the number of the others."""
    more = f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else ""
    return f"{', '.join(file.seed_id for file in files[:_SHOWN])}{more}"
