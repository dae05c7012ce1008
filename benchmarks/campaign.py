"""The table of docs/fuzzing.md from a finished campaign: what each framework finds, and who beats `keep-random`.

    python benchmarks/campaign.py RUN

RUN is the run directory of `camdrift fuzz` with several frameworks and trials.
"""

import sys

import polars as pl

import camdrift

COUNTS = ("seed_classes", "unmoved_seed_classes", "failing_seeds", "failures")
BASELINE = "keep-random"


def cell(row):
    """median [low, high]."""
    return f"{row['median']:g} [{row['low']:g}, {row['high']:g}]"


def main():
    """Print the tables as Markdown."""
    campaign = camdrift.open_campaign(sys.argv[1])
    ends = campaign.growth.filter(pl.col("mark") == 100).group_by("framework").agg(pl.col("criterion").median())
    reached = dict(ends.iter_rows())
    order = campaign.frameworks.filter(count=COUNTS[0]).sort("median", descending=True)["framework"].to_list()
    print("| framework | pairs of seed and wrong class | of those not moved | seeds that fail | failures | criterion |")
    print("|---|---|---|---|---|---|")
    for name in order:
        rows = [campaign.frameworks.filter(framework=name, count=each).row(0, named=True) for each in COUNTS]
        print(f"| `{name}` | " + " | ".join(map(cell, rows)) + f" | {reached[name]:.3f} |")
    print()
    for row in campaign.pairs.filter(pl.col("count").is_in(COUNTS)).iter_rows(named=True):
        if BASELINE in (row["framework"], row["other"]):
            print(*(f"{row[key]}" for key in ("framework", "other", "count", "a12", "p_value", "p_holm")), sep="\t")
    print()
    print(campaign.clusters.group_by("layer").agg(pl.col("failures").sum()).sort("failures", descending=True))


if __name__ == "__main__":
    main()
