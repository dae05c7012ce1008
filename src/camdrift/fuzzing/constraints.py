"""Constraints that say which mutants are valid: how far a mutant may lie from its seed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from camdrift.errors import UserError
from camdrift.explanations.metrics import picture_ssim
from camdrift.specs import nearest, parse_spec, write_spec
from camdrift.tensors import Images, Values

# Share of entries that a rejected mutant has changed, and its largest change, which DeepHunter 2.0 books on another.
Leak = tuple[float, float]
NO_LEAK: Final[Leak] = (0.0, 0.0)
# How much of a constraint an image uses: valid up to 1, or below 1 where `is_strict`.
_Use = Callable[[Images, Images, Mapping[str, float]], Values]


def _deephunter(images: Images, seeds: Images, settings: Mapping[str, float]) -> Values:
    """Few entries change, or none by much (Eq. 1, Xie et al., ISSTA 2019)."""
    change = (images - seeds).flatten(1).abs()
    entries = (change > 0).float().mean(1) / settings["alpha"]
    return torch.minimum(entries, change.amax(1) / settings["beta"])


def _linf(images: Images, seeds: Images, settings: Mapping[str, float]) -> Values:
    return (images - seeds).flatten(1).abs().amax(1) / settings["eps"]


def _l2(images: Images, seeds: Images, settings: Mapping[str, float]) -> Values:
    norm: Tensor = torch.linalg.vector_norm((images - seeds).flatten(1), dim=1)
    return norm / settings["eps"]


def _ratio(images: Images, seeds: Images, settings: Mapping[str, float]) -> Values:
    """L2 norm of the change over that of the seed less its mean (DLFuzz's, with the seed's own mean)."""
    rest = seeds - seeds.mean((2, 3), keepdim=True)
    norm: Tensor = torch.linalg.vector_norm(rest.flatten(1), dim=1).clamp_min(1e-12)
    change: Tensor = torch.linalg.vector_norm((images - seeds).flatten(1), dim=1)
    return change / (settings["most"] * norm)


def _ssim(images: Images, seeds: Images, settings: Mapping[str, float]) -> Values:
    return (1 - picture_ssim(images, seeds)) / (1 - settings["least"])


@dataclass(frozen=True)
class _Kind:
    """One kind of constraint.

    Attributes:
        use: How much of it an image uses.
        settings: Settings with their defaults.
        limits: Below this a setting is a number of its kind; none is below or at 0.
    """

    use: _Use
    settings: Mapping[str, float]
    limit: float = float("inf")
    is_strict: bool = False


CONSTRAINTS: Final[dict[str, _Kind]] = {
    "deephunter": _Kind(_deephunter, {"alpha": 0.02, "beta": 0.2}, limit=1.0, is_strict=True),
    "linf": _Kind(_linf, {"eps": 8 / 255}),
    "l2": _Kind(_l2, {"eps": 3.0}),
    "ratio": _Kind(_ratio, {"most": 0.02}),
    "ssim": _Kind(_ssim, {"least": 0.9}, limit=1.0),
}
# An image on the bound is not beyond it for being rounded to float32.
_SLACK: Final = 1e-5
# The smallest picture that has a structural similarity.
_LEAST_SIDE: Final = 6


@dataclass(frozen=True)
class Constraint:
    """A bound on the distance of a mutant from its seed, which moved as the picture was moved.

    Attributes:
        name: Its kind.
        settings: Its settings.
    """

    name: str
    settings: Mapping[str, float]

    @property
    def spec(self) -> str:
        """The constraint as a spec, complete."""
        return write_spec(self.name, self.settings)

    def use(self, images: Images, seeds: Images) -> Values:
        """Return how much of the bound each image uses: 1 is all of it.

        Args:
            images: Mutants, (batch, 3, height, width) in pixel space.
            seeds: Their seeds.
        """
        return CONSTRAINTS[self.name].use(images, seeds, self.settings)

    def use_with(self, leaks: Sequence[Leak], images: Images, seeds: Images) -> Values:
        """Return how much of DeepHunter's bound each image uses with a leak on its account.

        Args:
            leaks: The leak of each image.
            images: As for `use`.
            seeds: As for `use`.
        """
        own = torch.tensor([size_of_change(image, seed) for image, seed in zip(images, seeds, strict=True)])
        both = own + torch.tensor([[*leak] for leak in leaks])
        return torch.minimum(both[:, 0] / self.settings["alpha"], both[:, 1] / self.settings["beta"]).to(images.device)

    def holds(self, use: Values) -> Tensor:
        """Return which images are valid, by how much of the bound they use."""
        return use < 1 if CONSTRAINTS[self.name].is_strict else use <= 1 + _SLACK

    def project(self, images: Images, seeds: Images) -> Images:
        """Return the images brought back into the bound, where it is a box or a ball; else as they are."""
        change = images - seeds
        if self.name in ("linf", "deephunter"):
            most = self.settings["eps"] if self.name == "linf" else self.settings["beta"] * (1 - _SLACK)
            return seeds + change.clamp(-most, most)
        if self.name in ("l2", "ratio"):
            use = self.use(images, seeds).clamp_min(1).view(-1, 1, 1, 1)
            return seeds + change / use
        return images


def size_of_change(image: Tensor, seed: Tensor) -> Leak:
    """Return the share of the entries in which two images differ, and the largest difference.

    Args:
        image: (3, height, width) in pixel space.
        seed: The other one.
    """
    change = (image - seed).abs()
    return float((change > 0).float().mean()), float(change.max())


def paired_distances(images: Images, seeds: Images) -> tuple[list[float], list[float]]:
    """Return structural similarity and L2 distance of each image and its seed; the former NaN for tiny pictures.

    Args:
        images: (batch, 3, height, width) in pixel space.
        seeds: Their seeds.
    """
    is_tiny = min(images.shape[2:]) < _LEAST_SIDE
    similar = [float("nan")] * len(images) if is_tiny else picture_ssim(images, seeds).tolist()
    lengths: list[float] = torch.linalg.vector_norm((images - seeds).flatten(1).double(), dim=1).tolist()
    return similar, lengths


def parse_constraint(spec: str) -> Constraint:
    """Return a constraint.

    Args:
        spec: Such as `linf(eps=8/255)`; settings that are left out have the defaults of `CONSTRAINTS`.

    Raises:
        UserError: No such constraint or setting, or a value that it cannot have.

    Example:
        >>> parse_constraint("linf(eps=0.5)").spec
        'linf(eps=0.5)'
    """
    parts = parse_spec(spec, option="constraint")
    if parts.name not in CONSTRAINTS:
        names = ", ".join(CONSTRAINTS)
        raise UserError(f"`constraint` must be one of {names}, got: {spec}", nearest(parts.name, CONSTRAINTS).strip())
    kind = CONSTRAINTS[parts.name]
    for name, value in parts.settings.items():
        if name not in kind.settings:
            raise UserError(f"`constraint` {parts.name} takes {', '.join(kind.settings)}, got: {name}")
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 < value < kind.limit:
            below = "" if kind.limit == float("inf") else f" and below {kind.limit:g}"
            raise UserError(f"`constraint` setting `{name}` must be a number above 0{below}, got: {value}")
    return Constraint(parts.name, {**kind.settings, **{k: float(v) for k, v in parts.settings.items()}})
