"""The words of the page, each with its meaning: a popover where it stands, and the list at the end of the page."""

from typing import Any, Final, NamedTuple

from camdrift.figures.scope import Scope
from camdrift.report.material import Material
from camdrift.report.story import caution, contrast, noise_times
from camdrift.statistics.ranks import LEAST_IMAGES
from camdrift.tables.measures import ACTIVATION
from camdrift.tables.reading import Tables


class Term(NamedTuple):
    """A word of the page.

    Attributes:
        name: Its name in templates and scripts.
        word: The word, or several.
        meaning: Its meaning, in a sentence or a few.
    """

    name: str
    word: str
    meaning: str


_TERMS: Final = (
    Term("layer", "Layer", "One step of the network. The first see edges and colours, the last whole objects."),
    Term("map", "Map", ""),
    Term(
        "target",
        "Explained class, target",
        "Whose class a map explains. seed: what the network says of the clean image, for all its variants. own: what "
        "it says of each image itself, which adds the change of class to every layer's displacement. label: the true "
        "class.",
    ),
    Term(
        "similarity",
        "Similarity, deviation",
        "",
    ),
    Term(
        "strength",
        "Strength",
        "Factor on the perturbation that the attack found: at 1 it is the attack's own, at 0.5 half of it. Noise has "
        "the same mean and standard deviation and is scaled alike.",
    ),
    Term("noise", "Noise", "Random noise of the same size as the attack's perturbation: what size alone does."),
    Term(
        "gain",
        "Noise-equivalent gain",
        "How many times stronger noise must be to move a layer's map as far as the attack does, both by L2 norm after "
        "clipping. At 1 the attack does no more than noise; at 8 noise must be eight times as strong. A gain with > or "
        "< is a bound: no noise that was tried moves the map as far, or as little.",
    ),
    Term(
        "rank",
        "Rank",
        "Place of a layer by gain, 1 the highest, at this strength. In brackets: where the place would lie with other "
        "images, in 95 % of cases. A layer measured on fewer than "
        f"{LEAST_IMAGES} images, or half of the best layer's, has none.",
    ),
    Term(
        "interval",
        "Interval",
        "Numbers in brackets: 95 % intervals. The same study on other images of the same kind would give a number "
        "within. The independent unit is the image.",
    ),
    Term(
        "compromised",
        "Threshold, compromised",
        "The threshold is the median similarity under noise of the same strength; a layer below it is compromised. "
        "About half of all noisy images are, by construction: half means no worse than noise.",
    ),
    Term(
        "floor",
        "Floor",
        "Similarity of the maps of unrelated images: what is left when a map keeps nothing.",
    ),
    Term(
        "ceiling",
        "Ceiling",
        "Similarity of a clean map and the same map computed again with other rounding. A layer whose map attack or "
        "noise moves no further than that has no gain (rounding).",
    ),
    Term(
        "difference",
        "Difference",
        "Similarity under noise minus similarity under the attack, image by image, on average.",
    ),
    Term(
        "auc",
        "AUC",
        "Probability that the attack lowers an image's similarity more than noise does: one half is no difference.",
    ),
    Term(
        "undefined",
        "Undefined",
        "A map that is zero everywhere has no direction, so that its similarity does not exist. It is left out of "
        "every statistic, not counted as 0 or 1.",
    ),
    Term(
        "focus",
        "Focus",
        "Where a map lies: its centre of mass, the spread around it, its entropy, its largest fifth of cells. Maps of "
        "more than 56 cells along a side are averaged down to 56. focus.parquet has them image by image.",
    ),
    Term(
        "coverage",
        "Neuron coverage",
        "Share of the neurons that at least one image so far has raised above the threshold, each layer's outputs "
        "scaled to 0 to 1.",
    ),
    Term(
        "flipped",
        "Flipped, fooled",
        "The network's prediction differs from what it said of the clean image.",
    ),
)


_OF_PAIRS: Final = (
    Term(
        "pair",
        "Pair",
        "Two sides are compared on the images that have an adversarial example in both, image by image: the same "
        "file by name and checksum. Where they share fewer than two, all images of either side count, as independent "
        "samples; the text above the charts says so.",
    ),
    Term(
        "aligned",
        "Aligned layers",
        "By name where at least half of the names are shared; otherwise every layer of the shallower network stands "
        "beside the layer of the deeper one that is nearest in relative depth.",
    ),
    Term(
        "ratio",
        "Gain ratio",
        "Both gains on the images of the pair, with a bootstrap interval in which both sides draw the same images. It "
        "has no value where a gain is only a bound.",
    ),
    Term(
        "deviation",
        "Difference of deviation",
        "Mean over the images of one minus similarity, second side minus first; a t interval, Welch's where the images "
        "differ. Left out where the metrics differ, since the scales do.",
    ),
    Term(
        "tau",
        "Kendall's tau",
        "Tau-b of two rankings of the aligned layers; uncertain rankings agree less, whatever they are rankings of.",
    ),
    Term(
        "rank",
        "Rank",
        "By gain among the layers of one study, 1 the highest; intervals by bootstrap over images.",
    ),
)
# Words of a study's page that a comparison needs, too.
_SHARED: Final = ("gain", "strength", "target", "interval")

# Words for statistics, which one image has not.
_OF_MANY: Final = ("rank", "interval", "compromised", "difference", "auc")


def terms_section(material: Material) -> dict[str, Any]:
    """Values of template `terms`, and the popovers of the page."""
    tables, scope = material.tables, material.scope
    terms = study_terms(*scope.measure.words)
    is_single = scope.analysed == 1
    number = [Term("times", words, _times(tables, scope))] if (words := noise_times(tables, scope)) else []
    return {"terms": number + [term for term in terms if not (is_single and term.name in _OF_MANY)]}


def _times(tables: Tables, scope: Scope) -> str:
    """What the headline's number is of: on a phone the words beside the headline have no place."""
    return f"{caution(tables, scope)} {contrast(tables, scope)}".rstrip()


def comparison_terms() -> list[Term]:
    """The words of the page of a comparison."""
    return [*_OF_PAIRS, *(term for term in _TERMS if term.name in _SHARED)]


def study_terms(explanation: str, metric: str) -> list[Term]:
    """The words of a study's page.

    Args:
        explanation: Its explanation, in words.
        metric: Its metric, in words.
    """
    what = (
        "how strongly it responds, place by place"
        if explanation == ACTIVATION
        else "where in the image that layer supports the explained class"
    )
    how = (
        "Cosine of two maps, enlarged to the size of the image, from 0 to 1: 1 where they are the same"
        if metric == "cosine"
        else f"{metric[0].upper()}{metric[1:]} of the clean and the perturbed image's attribution, 1 for the same"
    )
    meanings = {"map": f"{explanation} of one layer: {what}.", "similarity": f"{how}. Deviation is 1 minus similarity."}
    return [term._replace(meaning=meanings.get(term.name, term.meaning)) for term in _TERMS]
