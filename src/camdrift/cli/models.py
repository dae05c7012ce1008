"""The models that a command names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from camdrift.errors import UserError

if TYPE_CHECKING:
    from camdrift.models.classifier import Classifier, Precision


@dataclass(frozen=True)
class Models:
    """The model to study, and the surrogate to attack in its place.

    Attributes:
        model: Spec of the model.
        weights: Its state dict; None for the weights of the spec.
        device: auto, cpu, cuda or cuda:N.
        precision: fp32, tf32 or bf16.
        surrogate: Spec of the surrogate; None for none.
        surrogate_weights: Its state dict.
        others: Specs of models that are asked beside the first.
    """

    model: str = "efficientnet-lite0"
    weights: Path | None = None
    device: str = "auto"
    precision: "Precision" = "fp32"
    surrogate: str | None = None
    surrogate_weights: Path | None = None
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.surrogate is None and self.surrogate_weights is not None:
            raise UserError(f"`surrogate-weights` must come with `surrogate`, got: {self.surrogate_weights}")

    def classifier(self) -> "Classifier":
        """Load the model."""
        return self._load(self.model, self.weights)

    def surrogate_classifier(self) -> "Classifier | None":
        """Load the surrogate, if there is one."""
        return None if self.surrogate is None else self._load(self.surrogate, self.surrogate_weights)

    def other_classifiers(self) -> "list[Classifier]":
        """Load the models that are asked beside the first."""
        return [self._load(spec, None) for spec in self.others]

    def _load(self, spec: str, weights: Path | None) -> "Classifier":
        # Here and not above, so that --help comes at once: torch takes seconds to import.
        from camdrift.models.loading import load_model

        return load_model(spec, weights=weights, device=self.device, precision=self.precision)
