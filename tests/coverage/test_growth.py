"""How neuron coverage grows: plain Python sets as oracle, chunks cut anywhere, seeds without an example."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from camdrift.coverage.growth import coverage_growth, merged, newly_covered
from camdrift.tables.further import NEWLY_COVERED
from camdrift.tables.study import COVERAGE
from camdrift.tables.words import ADVERSARIAL, CLEAN, NOISE

NEURONS, STRENGTHS = 30, (0.5, 2.0)
KEYS = [(CLEAN, 0.0), *((condition, s) for condition in (ADVERSARIAL, NOISE) for s in STRENGTHS)]


def flags(*neurons, total=NEURONS):
    found = np.zeros(total, dtype=np.bool_)
    found[list(neurons)] = True
    return found


def random_study(rng_seed, seeds=12):
    """Covered neurons of every clean image and variant, as sets; about a third of the seeds have no variants."""
    rng = np.random.default_rng(rng_seed)

    def some():
        return set(rng.choice(NEURONS, size=rng.integers(0, 6), replace=False).tolist())

    clean = [some() for _ in range(seeds)]
    variants = [{key: some() for key in KEYS[1:]} if rng.random() < 0.67 else {} for _ in range(seeds)]
    return [f"s{i}" for i in range(seeds)], clean, variants


def chunked(study, *cuts):
    """The study's tables of newly covered neurons, one per chunk."""
    ids, clean, variants = study
    edges = [0, *cuts, len(ids)]
    return [
        newly_covered(
            ids[a:b],
            [flags(*covered) for covered in clean[a:b]],
            [{key: flags(*covered) for key, covered in changed.items()} for changed in variants[a:b]],
            STRENGTHS,
        )
        for a, b in pairwise(edges)
    ]


def naive(study):
    """Rows of the coverage table from sets of neurons."""
    ids, clean, variants = study
    rows = []
    seen = {key: set() for key in KEYS}
    for step, (seed_id, own, changed) in enumerate(zip(ids, clean, variants, strict=True), start=1):
        for condition, strength in KEYS:
            seen[condition, strength] |= own
            seen[condition, strength] |= changed.get((condition, strength), set())
            covered = len(seen[condition, strength])
            rows.append((step, seed_id, condition, strength, covered, NEURONS))
    return rows


class TestNewlyCovered:
    def test_worked_by_hand(self):
        found = newly_covered(
            ["a", "b"],
            [flags(1, 2), flags(2, 3)],
            [{(ADVERSARIAL, 1.0): flags(2, 7), (NOISE, 1.0): flags(1)}, {}],
            [1.0],
        )
        assert found.schema == NEWLY_COVERED.schema
        assert found.rows() == [
            ("a", CLEAN, 0.0, [1, 2]),
            ("a", ADVERSARIAL, 1.0, [1, 2, 7]),
            ("a", NOISE, 1.0, [1, 2]),
            ("b", CLEAN, 0.0, [3]),
            ("b", ADVERSARIAL, 1.0, [3]),
            ("b", NOISE, 1.0, [3]),
        ]

    @pytest.mark.parametrize("rng_seed", range(3))
    def test_each_neuron_is_new_once(self, rng_seed):
        (chunk,) = chunked(random_study(rng_seed))
        new = chunk.explode("neurons").drop_nulls()
        assert new.unique(["condition", "strength", "neurons"]).height == new.height

    def test_noise_of_other_strengths_does_not_count(self):
        # The noise ladder goes further than the attack; coverage compares both at the study's strengths.
        found = newly_covered(["a"], [flags(1)], [{(NOISE, 8.0): flags(5)}], [1.0])
        assert found.rows() == [("a", c, s, [1]) for c, s in ((CLEAN, 0.0), (ADVERSARIAL, 1.0), (NOISE, 1.0))]

    def test_caller_keeps_its_flags(self):
        clean, changed = flags(1), {(ADVERSARIAL, 1.0): flags(2), (NOISE, 1.0): flags(3)}
        newly_covered(["a", "b"], [clean, flags(4)], [changed, {}], [1.0])
        assert np.flatnonzero(clean).tolist() == [1]
        assert [np.flatnonzero(covered).tolist() for covered in changed.values()] == [[2], [3]]

    def test_chunk_without_readable_seed(self):
        assert newly_covered([], [], [], STRENGTHS).schema == NEWLY_COVERED.schema
        assert newly_covered([], [], [], STRENGTHS).is_empty()


class TestCoverageGrowth:
    @pytest.mark.parametrize("rng_seed", range(4))
    @pytest.mark.parametrize("cuts", [(), (1,), (5, 6), tuple(range(1, 12)), (0, 4, 4, 12)])
    def test_equals_sets_however_it_is_chunked(self, rng_seed, cuts):
        study = random_study(rng_seed)
        found = coverage_growth(chunked(study, *cuts), NEURONS)
        assert found.schema == COVERAGE.schema
        assert found.rows() == naive(study)
        assert coverage_growth([merged(chunked(study, *cuts), NEURONS)], NEURONS).rows() == naive(study)
        assert merged(chunked(study, *cuts), NEURONS).equals(*chunked(study))

    @pytest.mark.parametrize("rng_seed", range(3))
    def test_never_falls_and_never_under_clean(self, rng_seed):
        found = coverage_growth(chunked(random_study(rng_seed), 5), NEURONS)
        curves = {
            key: found.filter(pl.col("condition") == key[0], pl.col("strength") == key[1])["covered"].to_numpy()
            for key in KEYS
        }
        for curve in curves.values():
            assert np.all(np.diff(curve) >= 0)
            assert np.all(curve >= curves[CLEAN, 0.0])

    def test_seed_without_example_adds_the_same_everywhere(self):
        ids, clean, variants = random_study(0)
        found = coverage_growth(chunked((ids, clean, [{} for _ in variants])), NEURONS)
        per_step = found.group_by("step").agg(pl.col("covered").n_unique())
        assert per_step["covered"].to_list() == [1] * len(ids)

    def test_survives_storage(self, tmp_path):
        study = random_study(2)
        stored = []
        for number, chunk in enumerate(chunked(study, 3, 8)):
            chunk.write_parquet(tmp_path / f"{number}.parquet")
            stored.append(pl.read_parquet(tmp_path / f"{number}.parquet"))
        assert coverage_growth(stored, NEURONS).rows() == naive(study)

    def test_nothing_to_merge(self):
        assert coverage_growth([], NEURONS).schema == COVERAGE.schema
        assert coverage_growth([newly_covered([], [], [], STRENGTHS)], NEURONS).is_empty()
