"""Randomised smoothing: the radius within which the class that noise predicts most often cannot change (Cohen 2019)."""

from typing import Final, NamedTuple

import polars as pl
import scipy.stats

from camdrift.tables.defences import ABSTAINED, CERTIFIED

# Probability that a certificate is wrong.
ALPHA: Final = 0.001


class Certificate(NamedTuple):
    """A certificate of one image.

    Attributes:
        p_low: Lower bound of the probability that noise gives the class, at confidence 1 - alpha.
        radius: L2 radius in pixel units within which the smoothed class cannot change; None for an abstention.
    """

    p_low: float
    radius: float | None


def certificate(hits: int, draws: int, sigma: float, alpha: float) -> Certificate:
    """The certificate of a class that some of the draws of noise give.

    The bound is Clopper and Pearson's (1934), one-sided; the radius is sigma Phi^-1(p_low), Cohen 2019, Eq. 3. Where
    the bound is not above one half there is none: an abstention.

    Args:
        hits: Draws that give the class.
        draws: All draws, one or more.
        sigma: Standard deviation of the noise, in pixel units.
        alpha: Probability that the certificate is wrong.

    Example:
        >>> certificate(100, 100, 0.25, 0.001).radius
        0.3751...
    """
    p_low = float(scipy.stats.beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0
    return Certificate(p_low, sigma * float(scipy.stats.norm.ppf(p_low)) if p_low > 0.5 else None)


def with_certificates(rows: pl.DataFrame) -> pl.DataFrame:
    """Table `certified` with the bound and the radius of every image.

    Args:
        rows: The same without them.
    """
    results = [
        certificate(hits, draws, sigma, ALPHA)
        for hits, draws, sigma in rows.select("hits", "draws", "sigma").iter_rows()
    ]
    columns = {
        "p_low": [result.p_low for result in results],
        "radius": [result.radius for result in results],
        "undefined_reason": [ABSTAINED if result.radius is None else None for result in results],
    }
    return CERTIFIED.frame({**rows.drop(*columns).to_dict(as_series=False), **columns})


def certified_share(rows: pl.DataFrame, radius: float) -> tuple[int, int]:
    """Images that are certified to keep their clean class within a radius, and all images.

    Args:
        rows: Rows of table `certified` of one noise.
        radius: L2 radius in pixel units.
    """
    is_right = (pl.col("predicted_class") == pl.col("clean_class")) & (pl.col("radius") >= radius)
    return rows.filter(is_right).height, rows.height
