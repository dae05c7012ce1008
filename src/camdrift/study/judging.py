"""Detectors for a run: with the profile that they are fitted to, which holds none of the run's seeds."""

from collections.abc import Collection, Sequence
from pathlib import Path

from torch import Tensor

from camdrift.coverage.profile import Profile
from camdrift.detectors.making import profile_layers
from camdrift.detectors.opening import Detectors, check_profile_images, open_detectors
from camdrift.models.classifier import Classifier
from camdrift.study.launch import ImageSource
from camdrift.study.profiling import NamedProfile, profile_of
from camdrift.study.suites import OnImages


def detectors_of(
    specs: Sequence[str],
    classifier: Classifier,
    layers: Sequence[str],
    profile: Profile | ImageSource | Tensor = None,
    *,
    seeds: Collection[str] = (),
    folder: Path | None = None,
    show: OnImages = lambda name, done, total: None,
) -> tuple[Detectors, NamedProfile]:
    """The detectors of a run, and the profile that they are fitted to.

    Args:
        specs: Detectors, such as `mahalanobis` or `knn(k=10)`.
        classifier: The model.
        layers: Layers of the run.
        profile: Ordinary images, the file of a profile, or a profile; None for none. It is left alone where no
            detector needs it.
        seeds: SHA-256 of the files of the run's seed images.
        folder: Where the profile is stored, and looked for first; None for nowhere.
        show: Called with `profile`, images done and all images.

    Raises:
        UserError: An unknown detector or setting, a missing library, no profile where one is needed, a profile of
            another model or with seeds of the run.
        StoreError: A file that is no profile.
    """
    features = profile_layers(specs, classifier, layers)
    reference = NamedProfile()
    if features and profile is not None:
        reference = profile_of(classifier, profile, features, folder=folder, batch_size=0, show=show)
    if reference.profile is not None:
        check_profile_images(reference.profile, seeds)
    return open_detectors(specs, classifier, layers=layers, profile=reference.profile), reference
