"""Studies on disk without a model, as tests of comparisons need them."""

import json

import polars as pl

from camdrift.statistics.layers import compromised_counts, layer_statistics
from camdrift.storage.run_directory import RunDirectory
from camdrift.tables.study import FLOOR, MEASURE, SEEDS, TABLES
from camdrift.tables.words import ANALYSED, NO_ADVERSARIAL, NOISE, SCHEMA_VERSION
from support.study_tables import random_study


def measured(table, explanation="gradcam", metric="cosine"):
    """The rows under a measure."""
    return table.with_columns(explanation=pl.lit(explanation), metric=pl.lit(metric))


def seeds_of(similarity, *, resistant=0, checksum="{}", **columns):
    """Table seeds: every seed of the similarities analysed, and some that resisted."""
    names = similarity["seed_id"].unique().sort().to_list()
    common = {"relative_l2": 0.01, "perturbation_linf": 8 / 255, **columns}
    rows = [{"seed_id": n, "sha256": checksum.format(n), "status": ANALYSED, **common} for n in names]
    rows += [{"seed_id": f"r{i}", "sha256": f"r{i}", "status": NO_ADVERSARIAL} for i in range(resistant)]
    return SEEDS.frame(rows)


def write_study(folder, similarity, variants, *, model="net", attack="dlfuzz", seeds=None, status="done", **more):
    """A run directory with these tables; measures are those of the similarities."""
    if similarity["explanation"].is_null().any():
        similarity = measured(similarity)
    directory = RunDirectory.create(folder)
    layers = layer_statistics(similarity, variants, FLOOR.frame(), rng_seed=0, n_bootstrap=40)
    made = {"similarity": similarity, "variants": variants, "layers": layers}
    made["seeds"] = seeds_of(similarity) if seeds is None else seeds
    made["counts"] = compromised_counts(similarity, layers)
    for name, table in TABLES.items():
        directory.write_table(name, made.get(name, table.frame()))
    measures = similarity.select(MEASURE).unique(maintain_order=True).rows()
    noise = similarity.filter(pl.col("condition") == NOISE)
    effective = {
        "model": model, "attack": attack, "rng_seed": 0, "measures": [list(m) for m in measures],
        "weights": "as passed", "strengths": sorted(set(layers["strength"])),
        "noise_ladder": noise["strength"].unique().sort().to_list(), "noise_draws": 1 + (noise["draw"].max() or 0),
        "targets": layers["target"].unique(maintain_order=True).to_list(), "explanations": ["gradcam"],
        "layers": layers["layer"].unique(maintain_order=True).to_list(), "batch_size": 4, "device": "cpu",
        "precision": "fp32",
    }  # fmt: skip
    model_record = {
        "spec": model, "name": "Net", "weights": "as passed", "weights_sha256": model * 4, "size": 32, "resize": 32,
        "interpolation": "bilinear", "mean": [0.0] * 3, "std": [1.0] * 3, "classes": 10, "labels": None,
    }  # fmt: skip
    record = {
        "camdrift": "0.1.0", "kind": "study", "status": status, "started": "2026-01-02T03:04:05+00:00",
        "arguments": {"passed": {"images": None}, "effective": {**effective, **more}}, "model": model_record,
        "attack": {"spec": attack, "threat": None, "images_sha256": None}, "surrogate": None,
        "layers": [], "images": {"n": made["seeds"].height, "listing_sha256": "0" * 64},
    }  # fmt: skip
    directory.write_record(record)
    return folder


def random_run(folder, *, rng_seed=0, n_seeds=8, n_layers=5, layer_names="l{}", measures=None, **options):
    """A random study on disk with layers l0, l1, ..., two targets and the strengths 0.5 and 1."""
    similarity, variants = random_study(n_seeds, n_layers, rng_seed=rng_seed)
    places = {f"l{i}": layer_names.format(i) for i in range(n_layers)}
    labels = {name: name.replace("l", "layer", 1) if name.startswith("l") else name for name in places.values()}
    similarity = similarity.with_columns(pl.col("layer").replace(places)).with_columns(
        pl.col("layer").replace_strict(labels).alias("layer_label")
    )
    parts = [measured(similarity, *measure) for measure in measures or [("gradcam", "cosine")]]
    # Measures that tell different stories: the layers change places.
    for i, part in enumerate(parts[1:], 1):
        parts[i] = part.with_columns(pl.col("similarity") ** (1 + 0.2 * i + 0.3 * pl.col("layer_index") * (-1) ** i))
    return write_study(folder, pl.concat(parts), variants, **options)


def skip_page(monkeypatch):
    """Let comparisons end without drawing: neither figures nor page are made."""
    monkeypatch.setattr("camdrift.comparison.compare.comparison_files", lambda *_: ())


def skip_figures(monkeypatch):
    """Let comparisons make their page, but no figure."""
    monkeypatch.setattr("camdrift.report.comparison.comparison_figures", lambda tables: {})


def break_schema(folder):
    """Make a run of an older schema of a run."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"schema_version": SCHEMA_VERSION - 1}))
