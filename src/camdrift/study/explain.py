"""One image: what the attack makes of it, and where every layer looks."""

from os import PathLike
from pathlib import Path
from typing import Any, Unpack

from camdrift.errors import UserError
from camdrift.models.classifier import Classifier
from camdrift.pipeline.settings import Settings
from camdrift.study.launch import Launch, StudyKeywords, spelled_out
from camdrift.study.run import run
from camdrift.study.study import Study


@spelled_out(Launch, Settings)
def explain(
    classifier: Classifier,
    image: str | PathLike[str],
    *,
    settings: Settings | None = None,
    surrogate: Classifier | None = None,
    **options: Unpack[StudyKeywords],
) -> Study:
    """Attack one image, and return a study of it: how far the map of every layer moves, and the maps themselves.

    `study.plot("layer_grid")` draws the maps, where the attack succeeds.

    Args:
        classifier: What `load_model` or `wrap` returned.
        image: The image's file.
        settings: Options of the study; or give fields of `Settings` by name.
        surrogate: As in `run`.
        **options: As in `run`.

    Raises:
        UserError: What is no image file, or options that cannot be studied.

    Example:
        >>> study = camdrift.explain(classifier, "cat.jpg", attack="pgd(eps=2/255)")  # doctest: +SKIP
        >>> study.headline()  # doctest: +SKIP
        'PGD (L-inf 2/255) makes the network see “fox” in place of “cat”; the map of the last layer is moved most'
    """
    return run(classifier, _file(image), settings=settings, surrogate=surrogate, **options)


def _file(image: Any) -> str:
    """The path of an image, where it is one.

    Raises:
        UserError: It is a folder, or no path at all.
    """
    if not isinstance(image, str | PathLike):
        raise UserError(
            f"`image` must be the path of a file, got: {type(image).__name__}",
            "a picture in memory can be saved first: PIL.Image.Image.save, torchvision.utils.save_image",
        )
    if Path(image).is_dir():
        raise UserError(
            f"`image` must be one image, got: {image} (a folder)",
            "`camdrift run`, in Python camdrift.run, studies many",
        )
    return str(image)
