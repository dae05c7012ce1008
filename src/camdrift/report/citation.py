"""The methods paragraph of a study, ready to paste, with the publications it names and its layers as a table."""

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from camdrift.figures.scope import Scope, scope_of
from camdrift.report import threat, verdicts
from camdrift.report.latex import latex_code, latex_layers, latex_text
from camdrift.report.literature import (
    ATTACK_SOURCES,
    EXPLANATION_SOURCES,
    LIBRARY_SOURCES,
    METRIC_SOURCES,
    PAPER_SOURCE,
    Publication,
    bibtex,
    software,
    toolkit,
)
from camdrift.report.numbers import spec_text
from camdrift.report.perturbations import change_name
from camdrift.tables.measures import CAPTUM, EXPLANATION_ROWS, METRIC_ROWS
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record, effective, model_name
from camdrift.tables.words import count, strength_text

_TARGETS: Final = {
    "seed": "the class that the network predicts for the clean image",
    "own": "the class that it predicts for each image itself",
    "label": "the true class",
}
# Packages that every number passes through.
_PACKAGES: Final = {
    "python": "Python", "torch": "PyTorch", "torchvision": "torchvision", "timm": "timm", "numpy": "NumPy",
    "scipy": "SciPy", "scikit-learn": "scikit-learn", "pillow": "Pillow", "polars": "polars",
}  # fmt: skip
# Libraries of attacks whose package has another name than specs have.
_LIBRARY_PACKAGES: Final = {"art": "adversarial-robustness-toolbox", "advlib": "adv-lib"}
_NRTK: Final = "nrtk"
# Digits of a checksum that tell files apart.
_DIGITS: Final = 16


class Citation(NamedTuple):
    """What a paper needs of a study.

    Attributes:
        methods: The methods paragraph as plain text.
        latex: The same as LaTeX, with `cite` where it names a publication.
        table: The layers at the strength of the headline as a LaTeX table.
        bibtex: The publications that the paragraph names.
    """

    methods: str
    latex: str
    table: str
    bibtex: str


class _Style(NamedTuple):
    """A way to write: what a text, a name or spec, and a publication become."""

    text: Callable[[str], str]
    code: Callable[[str], str]
    cite: Callable[[Publication], str]


class _Study(NamedTuple):
    tables: Tables
    record: Record
    scope: Scope


def citation(tables: Tables, record: Record) -> Citation:
    """The methods paragraph of a study, its publications, and its layers as a table.

    Args:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
    """
    study, publications = _Study(tables, record, scope_of(tables, record)), list[Publication]()

    def cite(publication: Publication) -> str:
        publications.append(publication)
        return rf"\cite{{{publication.key}}}"

    return Citation(
        methods=_paragraph(study, _Style(str, str, lambda publication: f"({publication.words})")),
        latex=_paragraph(study, _Style(latex_text, latex_code, cite)),
        table=_table(study),
        bibtex=bibtex(publications),
    )


def _paragraph(study: _Study, style: _Style) -> str:
    sentences = (
        _network,
        _images,
        _attack,
        _success,
        _conditions,
        _changes,
        _maps,
        _comparison,
        _gain,
        _tests,
        _making,
    )
    return " ".join(text for sentence in sentences if (text := sentence(study, style)))


def _network(study: _Study, style: _Style) -> str:
    model, version = study.record["model"], str(study.record["camdrift"])
    weights = _without_folders(str(model["weights"] or ""))
    checksum = f"SHA-256 begins with {style.code(model['weights_sha256'][:_DIGITS])}"
    provenance = f"weights: {style.text(weights)}; their {checksum}" if weights else f"weights whose {checksum}"
    return (
        f"We studied the network {style.code(model_name(study.record))} ({provenance}) with camdrift "
        f"{style.text(version)} {style.cite(software(version))}, an implementation of a published "
        f"method {style.cite(PAPER_SOURCE)}."
    )


def _images(study: _Study, style: _Style) -> str:
    images, model = study.record["images"], study.record["model"]
    source = _without_folders(str(images["source"]))
    crop = f"{model['size']} by {model['size']} pixels"
    sizes = model["resize"] if isinstance(model["resize"], list) else [model["resize"]]
    geometry = f"to {sizes[0]} pixels on the short side and cropped" if len(sizes) == 1 else "without a crop"
    readable = study.scope.readable
    text = f"We took {count(images['n'], 'image')} from {style.text(source)}"
    text += f", of which {readable:,} could be used" if readable != images["n"] else ""
    return (
        f"{text}. Images were resized {geometry} to {crop} ({style.text(model['interpolation'])} interpolation), with "
        "pixels in [0, 1]."
    )


def _attack(study: _Study, style: _Style) -> str:
    record, spec = study.record, _without_folders(str(effective(study.record)["attack"]))
    if record["attack"].get("images_sha256"):
        return f"Adversarial images were not made but given: {style.text(spec)}."
    defaults = "" if "(" in spec else ", settings left at their defaults"
    surrogate = record.get("surrogate")
    origin = f", made on the network {style.code(_without_folders(surrogate['spec']))}" if surrogate else ""
    return (
        f"The attack was {_attack_words(record, spec.partition('(')[0], style)} ({style.code(spec_text(spec))}"
        f"{defaults}){origin}; random draws were seeded with {effective(record)['rng_seed']}."
    )


def _attack_words(record: Record, name: str, style: _Style) -> str:
    """An attack by its name, with its source if that is certain."""
    library, colon, attack = name.partition(":")
    if name in ATTACK_SOURCES:
        return f"{style.text(threat.attack_title(record))} {style.cite(ATTACK_SOURCES[name])}"
    if not colon or record["attack"].get("code"):
        return "a function of our own"
    source = f" {style.cite(LIBRARY_SOURCES[library])}" if library in LIBRARY_SOURCES else ""
    return f"{style.text(attack)} of {style.text(_with_version(record, library))}{source}"


def _success(study: _Study, style: _Style) -> str:
    scope = study.scope
    if not scope.readable:
        return ""
    change = threat.change(study.tables)
    rest = " Images with an adversarial example were analysed." if scope.analysed else ""
    return f"The attack {change} for {scope.analysed:,} of {count(scope.readable, 'image')}.{rest}"


def _conditions(study: _Study, style: _Style) -> str:
    arguments = effective(study.record)
    ladder = [strength for strength in arguments["noise_ladder"] if strength not in arguments["strengths"]]
    further = f"; noise also by {_listed(ladder)}" if ladder else ""
    draws = count(int(arguments["noise_draws"]), "draw")
    return (
        "From each perturbation (adversarial image minus seed image) we took the mean and standard deviation of white "
        f"Gaussian noise ({draws} per image). Perturbation and noise were scaled by {_listed(arguments['strengths'])}"
        f"{further}, added to the seed image, and clipped to [0, 1]."
    )


def _changes(study: _Study, style: _Style) -> str:
    """The natural changes beside the attack; empty for none."""
    specs = (study.record.get("perturbations") or {}).get("specs") or ()
    if not specs:
        return ""
    *first, last = [_change(study.record, str(spec), style) for spec in specs]
    changes = f"{', '.join(first)} and {last}" if first else last
    return (
        f"Beside the attack, the same images underwent {count(len(specs), 'natural change')}: {changes}. The "
        "difference of a changed image and its seed image then took the place of the perturbation, with its own noise."
    )


def _change(record: Record, spec: str, style: _Style) -> str:
    """A natural change by its name, with its settings and its source."""
    code = style.code(spec_text(_without_folders(spec)))
    if not spec.startswith(f"{_NRTK}:"):
        return f"a function of our own ({code})"
    name, version = change_name(spec).partition("(")[0], str((record.get("versions") or {}).get(_NRTK) or "")
    return f"{style.text(name)} of {style.text(_with_version(record, _NRTK))} {style.cite(toolkit(version))} ({code})"


def _maps(study: _Study, style: _Style) -> str:
    specs, layers = effective(study.record)["explanations"], study.scope.layers
    names = " and ".join(_explanation(study.record, spec, style) for spec in specs)
    classes = " and, separately, ".join(_TARGETS[target] for target in study.scope.targets)
    return (
        f"For every clean, attacked and noisy image, {names} maps of {count(len(layers), 'layer')} were computed for "
        f"the logit of {classes}. Maps were compared raw, without normalisation."
    )


def _comparison(study: _Study, style: _Style) -> str:
    metrics = dict.fromkeys(metric for _, metric in effective(study.record)["measures"])
    words = " and ".join(
        f"{style.text(METRIC_ROWS[name].title)}"
        + (f" {style.cite(METRIC_SOURCES[name])}" if name in METRIC_SOURCES else "")
        for name in metrics
    )
    return (
        f"The similarity of the maps of a seed image and its variant is measured by {words}; a map that is zero "
        "everywhere has none and was left out. A layer is compromised where the similarity under the attack is "
        "below the median under noise of the same strength."
    )


def _gain(study: _Study, style: _Style) -> str:
    if study.scope.analysed < 2:
        return ""
    return (
        "A layer's noise-equivalent gain says how many times stronger noise must be to lower the median similarity "
        "as far as the attack does, by the L2 norms that clipping leaves; where no noise that was tried does, it is "
        "given as a bound."
    )


def _tests(study: _Study, style: _Style) -> str:
    if study.scope.analysed < 2:
        return ""
    share = style.text("95 %")
    return (
        f"The independent unit is the seed image. {share} intervals of gains and ranks come from a bootstrap of 1,000 "
        "resamples of the seed images, the same for all layers; those of shares are Wilson intervals. Differences "
        "between attack and noise were tested by the Wilcoxon signed-rank test, Holm-corrected over the layers."
    )


def _making(study: _Study, style: _Style) -> str:
    record, versions = study.record, study.record.get("versions") or {}
    packages = [f"{words} {style.text(str(versions[name]))}" for name, words in _PACKAGES.items() if versions.get(name)]
    device, precision = record.get("device") or effective(record)["device"], effective(record)["precision"]
    paper = (
        " The same images were also studied as the code released with that method computes."
        if verdicts.is_reproduction(study.tables)
        else ""
    )
    return f"Computations ran on {style.text(device)} in precision {precision}, with {', '.join(packages)}.{paper}"


def _table(study: _Study) -> str:
    """The layers at the strength and for the class of the headline, by the first measure."""
    scope = study.scope
    rows = study.tables["layers"].filter(strength=scope.reference, target=scope.headline.target).sort("layer_index")
    explanation, metric = map(latex_text, scope.measure.words)
    strength = strength_text(scope.reference)
    caption = (
        f"Layers of {latex_code(model_name(study.record))} under {latex_text(threat.attack_title(study.record))} at "
        rf"strength {strength}, in execution order, for {_TARGETS[scope.headline.target]}: noise-equivalent gain with "
        rf"95\,\% interval, rank by gain with interval, median {metric} similarity of {explanation} maps under attack "
        rf"and noise, share of compromised examples with interval, and images ($n$)."
    )
    return latex_layers(rows.to_dicts(), caption)


def _explanation(record: Record, spec: str, style: _Style) -> str:
    """An explanation by its name, with its source."""
    if spec in EXPLANATION_ROWS:
        row = EXPLANATION_ROWS[spec]
        return f"{style.text(row.title)} {style.cite(EXPLANATION_SOURCES[row.source])}"
    library = f"{style.text(_with_version(record, CAPTUM))} {style.cite(LIBRARY_SOURCES[CAPTUM])}"
    return f"{style.code(spec.partition(':')[2])} of {library}"


def _with_version(record: Record, library: str) -> str:
    """A library by its package, with its version."""
    package = _LIBRARY_PACKAGES.get(library, library)
    return f"{package} {(record.get('versions') or {}).get(package) or ''}".strip()


def _listed(numbers: Sequence[float]) -> str:
    """Numbers as a sentence names them."""
    *first, last = map(strength_text, numbers)
    return f"{', '.join(first)} and {last}" if first else last


def _without_folders(text: str) -> str:
    """A text whose absolute path, if it holds one, is its last part alone.

    Example:
        >>> _without_folders("factory /home/me/nets/net.py:build"), _without_folders("pgd(eps=4/255)")
        ('factory net.py:build', 'pgd(eps=4/255)')
    """
    path, mark, rest = text.rstrip("/\\").partition(".py:")
    return re.sub(r"(^|\s)(?:[A-Za-z]:)?[\\/].*[\\/]", r"\1", path) + mark + rest
