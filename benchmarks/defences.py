"""What defences keep on real networks: the tables of docs/defences.md.

    python benchmarks/defences.py OUT [--train FOLDER] [--images FOLDER --model SPEC] [--limit N]

Each attack is run and each defence judged on it; both go on where they were stopped. Without `--model` the network is
EfficientNet-Lite0 on the twenty photographs that foolbox ships.
"""

import argparse
import time
from pathlib import Path

import polars as pl

import camdrift
from camdrift.report.numbers import times, times_between

DEFENCES = ("jpeg(quality=75)", "median(window=3)", "bits(depth=3)", "dae(train='{train}', steps={steps})")
DETECTORS = ("softmax", "energy", "squeeze", "denoised")
ATTACKS = {
    "pgd": "pgd(eps=1/255, steps=10, rel_stepsize=0.25)",
    "dlfuzz": "dlfuzz(scores='logit', step=1/255)",
}


def judged(classifier, images, attack, defences, out, **options):
    """Seconds of the study and of `defend`, and what `defend` found."""
    start = time.perf_counter()
    done = (out / "run.json").is_file() and camdrift_is_done(out)
    study = (
        camdrift.open(out)
        if done
        else camdrift.run(classifier, images, attack=attack, out=out, resume=out.exists(), **options)
    )
    middle = time.perf_counter()
    defending = camdrift.defend(study, defences, detectors=DETECTORS, model=classifier, adaptive=())
    static = time.perf_counter() - middle
    defending = camdrift.defend(study, defences, detectors=DETECTORS, model=classifier)
    study.report()
    return study.record["timings"].get("total", middle - start), static, defending


def camdrift_is_done(out):
    """Is there a finished run?"""
    try:
        camdrift.open(out)
    except camdrift.StoreError:
        return False
    return True


def lines(defending):
    """Rows of a Markdown table."""
    rows = defending.restoration.filter(pl.col("returned").is_null())
    for row in defending.cells()[1]:
        part = rows.filter(defence=row[0]).sort("layer_index")
        last = part.filter(pl.col("restoration").is_not_null()).tail(1)
        value = "" if last.is_empty() else f"{last['restoration'][0]:.2f} [{last['low'][0]:.2f}, {last['high'][0]:.2f}]"
        left = "" if last.is_empty() else gain_left(last.row(0, named=True))
        yield f"| `{row[0]}` | {row[1]} | {row[2]} | {row[3]} | {row[4]} | {value} | {left} |"


def gain_left(row):
    """The gain of a layer under the attack, and what is left of it behind a defence."""
    attack = times(row["gain"], row["gain_censored"])
    left = times(row["residual_gain"], row["residual_gain_censored"])
    return f"{attack}, {left} {times_between(row, 'residual_gain')}"


def main():
    """Print a table for each attack."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", default=None, help="folder that the autoencoder learns from")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--images", default=None)
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--limit", type=int, default=None)
    parser.add_argument("--attacks", default=",".join(ATTACKS))
    parser.add_argument("--eps", default="1/255", help="bound of PGD")
    options = parser.parse_args()
    classifier = camdrift.load_model(options.model)
    names = DEFENCES if options.train else DEFENCES[:-1]
    defences = [name.format(train=options.train, steps=options.steps) for name in names]
    for name in options.attacks.split(","):
        attack = ATTACKS[name].replace("eps=1/255", f"eps={options.eps}")
        seconds, static, defending = judged(
            classifier, options.images, attack, defences, options.out / name, limit=options.limit
        )
        times = f"study {seconds:.0f} s, static {static:.0f} s ({static / seconds:.2f} times)"
        print(f"\n{options.model}, {attack}: {times}\n")
        print("| defence | keeps clean | static | adaptive | comes back from | last layer | its gain, before, behind |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(lines(defending)))
        print()
        heads, rows = defending.detector_cells()
        print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
        print("\n".join("| " + " | ".join(row) + " |" for row in rows))
        for note in defending.notes()[1:]:
            print(note)


if __name__ == "__main__":
    main()
