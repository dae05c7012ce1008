"""Records of options that belong to commands alone."""

from dataclasses import dataclass

from camdrift.comparison.alignment import AUTO, Way
from camdrift.tables.criteria import ALL


@dataclass(frozen=True)
class Ending:
    """What a command does once a study is there.

    Attributes:
        open: Open the report in the browser.
        json: Print the result as JSON.
        study: Study the failures of a campaign layer by layer.
    """

    open: bool = False
    json: bool = False
    study: bool = False


@dataclass(frozen=True)
class Comparing:
    """How `camdrift compare` compares.

    Attributes:
        align: How layers of different networks are paired.
        cross: Does every model see the perturbations of the others?
        trust: Is Python code run that the records name?
    """

    align: Way = AUTO
    cross: bool = False
    trust: bool = False


@dataclass(frozen=True)
class Criteria:
    """What `camdrift coverage` measures.

    Attributes:
        criteria: Specs of coverage criteria.
        profile: Where ordinary images lie, or the file of a profile; None for none.
        meaning: Ask a finished campaign whether coverage is meaningful there.
        judge: Spec of a model that judges how natural images are; None for none.
    """

    criteria: tuple[str, ...] = (ALL,)
    profile: str | None = None
    meaning: bool = False
    judge: str | None = None
