"""Writes docs/paper.md: every number in it comes from the stored tables in docs/paper/.

python docs/make_paper.py                       the page from the stored tables
python docs/make_paper.py vgg16=RUN lite0=RUN   first store the tables of these reproductions

`vgg16_five` is the attack of the paper with five iterations, so that more images are fooled.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import polars as pl

from camdrift.paper.claims import SUSCEPTIBLE
from camdrift.paper.ladder import rank_agreement
from camdrift.report.verdicts import claim_sentences
from camdrift.statistics.controls import CHANNELS, FOOLING, NOISE_AGAINST_NOISE, NORM, OWN_CLASS, SPECTRUM
from camdrift.tables.words import ARTEFACT, FAILS, HOLDS, UNDECIDED

FOLDER = Path(__file__).with_name("paper")
TABLES = ("claims", "ladder", "controls", "layers", "detection")
FIGURES = ("figure_11_ladder", "figure_12_released")
TITLES = {"vgg16": "VGG-16", "vgg16_five": "VGG-16 (five iterations)", "lite0": "EfficientNet-Lite0"}
IMAGES = {"vgg16": "of Imagenette, ten classes", "vgg16_five": "of Imagenette", "lite0": "photographs of ImageNet"}
WORDS = {HOLDS: "holds", ARTEFACT: "artefact", FAILS: "fails", UNDECIDED: "undecided"}
FINDINGS = {
    "half_one": "distance of the curves 0.5 and 1",
    "quarter_two_four": "distance of the curves 0.25, 2 and 4",
    "compromised_middle": "compromised at 0.5 and 1",
    "compromised_outer": "compromised elsewhere",
    "tau_deviation": "tau, ranking by deviation",
    "tau_gain": "tau, ranking by gain",
    "mean_deviation": "mean deviation",
}


def store(name: str, run: Path) -> None:
    """Copy what the page needs of a reproduction into docs/paper/."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    for table in TABLES:
        if (run / f"{table}.parquet").is_file():
            pl.read_parquet(run / f"{table}.parquet").write_parquet(folder / f"{table}.parquet", compression_level=19)
    for figure in FIGURES:
        shutil.copy(run / "figures" / f"{figure}.png", folder)
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    focus = pl.read_parquet(run / "focus.parquet")
    measures = ["centroid_shift", "top_overlap", "perturbation_correlation"]
    keys = ["condition", "strength", "target", "layer", "layer_label", "layer_index"]
    medians = focus.group_by(keys).agg(pl.col(measures).median(), pl.len().alias("n")).sort(keys)
    medians.write_parquet(folder / "focus.parquet", compression_level=19)
    effective = record["arguments"]["effective"]
    seeds = pl.read_parquet(run / "seeds.parquet")["status"].value_counts()
    facts = {
        "attack": effective["attack"],
        "images": record["images"]["n"],
        "analysed": dict(seeds.iter_rows()).get("analysed", 0),
        "minutes": round(record["timings"]["total"] / 60),
        "versions": {k: record["versions"][k] for k in ("torch", "camdrift") if k in record["versions"]},
    }
    (folder / "facts.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


class Run:
    """The stored tables of one reproduction."""

    def __init__(self, name: str) -> None:
        self.name, self.title, self.images = name, TITLES[name], IMAGES[name]
        self.facts: dict[str, Any] = json.loads((FOLDER / name / "facts.json").read_text(encoding="utf-8"))
        for table in (*TABLES, "focus"):
            setattr(self, table, pl.read_parquet(FOLDER / name / f"{table}.parquet"))
        self.agreement = rank_agreement(self.ladder)

    def claim(self, words: str, subject: str | None = None, measure: str = "") -> dict[str, Any]:
        """The one row of a claim."""
        rows = self.claims.filter(
            pl.col("claim").str.contains(words, literal=True), pl.col("measure").str.contains(measure, literal=True)
        )
        return rows.filter(pl.col("subject").eq_missing(subject) if subject else pl.lit(True)).row(0, named=True)

    def control(
        self, control: str, quantity: str, strength: float = 1.0, target: str | None = "seed"
    ) -> dict[str, Any]:
        """The row of a control over all layers."""
        return self.controls.filter(
            pl.col("control") == control,
            pl.col("quantity").str.contains(quantity, literal=True),
            pl.col("strength") == strength,
            pl.col("target").eq_missing(target),
            pl.col("layer").is_null(),
        ).row(0, named=True)


def number(value: float | None) -> str:
    """Three significant digits."""
    return "-" if value is None else f"{0.0 if abs(value) < 5e-4 else value:.3g}"


def interval(
    row: dict[str, Any], value: str = "corrected", low: str = "corrected_low", high: str = "corrected_high"
) -> str:
    """value [low, high]."""
    ends = "" if row[low] is None or row[high] is None else f" [{number(row[low])}, {number(row[high])}]"
    return number(row[value]) + ends


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def claims_table(run: Run) -> str:
    """Every claim; families over layers in one row."""
    rows = []
    labels = set(run.ladder["layer_label"])
    for (claim, measure), part in run.claims.group_by("claim", "measure", maintain_order=True):
        per_layer = part.filter(pl.col("subject").is_in(list(labels)))
        if per_layer.height > len(SUSCEPTIBLE):
            counts = dict(per_layer["verdict"].value_counts(sort=True).iter_rows())
            inside = per_layer.filter(pl.col("as_released") >= pl.col("holds_from")).height
            verdicts = ", ".join(f"{n} {WORDS[v]}" for v, n in counts.items())
            range_ = f"{number(per_layer['corrected'].min())} to {number(per_layer['corrected'].max())}"
            n = str(per_layer["n"].max())
            rows.append(
                [
                    f"{claim}, each of {per_layer.height} layers",
                    part["paper"][0],
                    f"so in {inside}",
                    range_,
                    n,
                    verdicts,
                ]
            )
            continue
        for row in part.to_dicts():
            about = f", {row['subject']}" if row["subject"] else ""
            tail = f" ({measure.removeprefix('rank by ')})" if measure.startswith("rank by") else ""
            numbers = [number(row["as_released"]), interval(row), str(row["n"])]
            rows.append([f"{claim}{about}{tail}", row["paper"], *numbers, WORDS[row["verdict"]]])
    return table(["claim", "paper", "as released", "corrected [95 %]", "n", "verdict"], rows)


def ladder_table(run: Run) -> str:
    """What each set of defects does."""
    rows = [[row["defects"], *(number(row[name]) for name in FINDINGS)] for row in run.agreement.to_dicts()]
    return table(["defects", *FINDINGS.values()], rows)


def culprit(run: Run, finding: str, bound: tuple[float, float]) -> str:
    """Which defects alone bring a number into the paper's range, and without which all others miss it."""
    low, high = bound
    values = dict(run.agreement.select("defects", finding).iter_rows())
    inside = {name for name, value in values.items() if value is not None and low <= value <= high}
    alone = [name for name in values if name in inside and not name.startswith("all") and name != "none"]
    needed = [name.removeprefix("all but ") for name in values if name.startswith("all but ") and name not in inside]
    words = [f"equations {number(values['none'])}, all defects {number(values['all'])}"]
    named = " or ".join(f"`{name}` ({number(values[name])})" for name in alone)
    words.append(f"alone it takes {named}" if alone else "no defect makes it alone")
    if "all" in inside:
        missing = " or ".join(f"`{name}`" for name in needed)
        words.append(f"without {missing} the others do not" if needed else "no single defect is needed for it")
    return "; ".join(words)


def verdict_list(runs: list[Run], verdict: str) -> str:
    """Claims with one verdict, each with the numbers of every run that has it."""
    numbers_of: dict[str, list[str]] = {}
    for run in runs:
        labels = run.layers.unique("layer").sort("layer_index")["layer_label"].to_list()
        for text in claim_sentences(run.claims, labels)[verdict]:
            # The list's head says the verdict. Networks differ in their number of layers.
            claim, numbers = re.fullmatch(r"[^:]*: (.*?\. [^:]*): (.*)", text).groups()
            where = re.search(r", in (?:each|\d+) of \d+ layers(?=\. )|(?<= )\(at most \d+ of \d+\)(?=\. )", claim)
            place = "" if where is None else where.group().strip(", ()")
            claim = claim if where is None else claim.replace(where.group(), "").replace(" .", ".")
            # A layer keeps its name.
            start = claim[:1] if re.match(r"\w*[\d_]", claim) else claim[:1].upper()
            lines = numbers_of.setdefault(f"- {start}{claim[1:]}:", [])
            lines.append(f"    - {run.title}{', ' if place else ''}{place}: {numbers}")
    return "\n".join(line for claim, lines in numbers_of.items() for line in (claim, *lines)) or "- none"


def place_of(run: Run, layer: str) -> str:
    """The rank of a layer by its gain at strength 0.25, with its interval."""
    return interval(run.claim("two most susceptible", layer, "noise-equivalent gain"))


def by_gain(run: Run, strength: float) -> pl.DataFrame:
    """The rows of layers with images enough, the highest gain first."""
    rows = run.layers.filter(pl.col("target") == "seed", pl.col("strength") == strength).drop_nulls("gain")
    return rows.filter(2 * pl.col("n_pairs") >= pl.col("n_pairs").max()).sort("rank", "layer_index")


def first_layer(run: Run) -> str:
    """The layer of highest gain at strength 0.25."""
    return str(by_gain(run, 0.25)["layer_label"][0])


def gains(run: Run, strength: float) -> str:
    """The layers of highest and lowest gain at one strength."""
    enough = by_gain(run, strength)
    sign = {"above": "> ", "below": "< "}
    words = []
    for row in (enough.row(0, named=True), enough.row(-1, named=True)):
        mark = sign.get(row["gain_censored"] or "", "")
        words.append(f"{row['layer_label']} {mark}{interval(row, 'gain', 'gain_low', 'gain_high')}")
    return f"highest {words[0]}, lowest {words[1]} (n = {enough['n'].max()})"


def detection(run: Run) -> str:
    """AUC of both references, all strengths together and the weakest."""
    target = pl.when(pl.col("reference") == "seed").then(pl.lit("seed")).otherwise(pl.lit("own"))
    rows = run.detection.filter(pl.col("target") == target)
    lines = []
    for row in rows.to_dicts():
        where = "all strengths" if row["strength"] is None else f"strength {row['strength']:g}"
        lines.append([
            "clean image" if row["reference"] == "seed" else "denoised copy", f"adversarial against {row['negative']}",
            where, interval(row, "auc", "auc_low", "auc_high"), str(row["n_seeds"]),
        ])  # fmt: skip
    return table(["reference", "question", "strength", "AUC [95 %]", "seeds"], lines)


def focus(run: Run) -> str:
    """Median over layers of how the focal point moves at strength 1, attack and noise."""
    at = run.focus.filter(pl.col("strength") == 1, pl.col("target") == "seed")
    words = {
        "centroid_shift": "shift of the centre (share of the image's side)",
        "top_overlap": "overlap of the top fifth",
        "perturbation_correlation": "correlation of the map's change with the perturbation",
    }
    rows = []
    for measure, name in words.items():
        medians = {c: at.filter(pl.col("condition") == c).drop_nulls(measure) for c in ("adversarial", "noise")}
        attack = medians["adversarial"].sort(measure)
        ends = [attack.row(i, named=True) for i in (0, -1)]
        span = " to ".join(f"{number(r[measure])} ({r['layer_label']})" for r in ends)
        rows.append([name, number(attack[measure].median()), number(medians["noise"][measure].median()), span])
    return table(["median over images, then layers", "attack", "noise", "attack, by layer"], rows)


def page() -> str:
    """docs/paper.md."""
    template = (FOLDER / "paper.md.jinja").read_text(encoding="utf-8")
    import jinja2

    runs = [Run(name) for name in TITLES if (FOLDER / name / "facts.json").is_file()]
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    names = (
        claims_table, ladder_table, culprit, verdict_list, place_of, first_layer, gains, detection, focus, number,
        interval,
    )  # fmt: skip
    constants = {
        "NULL": NOISE_AGAINST_NOISE, "SPECTRUM": SPECTRUM, "CHANNELS": CHANNELS, "OWN_CLASS": OWN_CLASS,
        "FOOLING": FOOLING, "NORM": NORM,
    }  # fmt: skip
    return environment.from_string(template).render(runs=runs, **{f.__name__: f for f in names}, **constants)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, _, run = argument.partition("=")
        store(name, Path(run))
    Path(__file__).with_name("paper.md").write_text(page(), encoding="utf-8")
