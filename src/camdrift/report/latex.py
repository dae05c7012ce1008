"""Texts as LaTeX, and the layers of a study as a table for it."""

from typing import Final

from camdrift.report.numbers import UNDEFINED, fraction, percent, percent_between, times, times_between
from camdrift.tables.table import Row

_SPECIAL: Final = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    '"': "''",
    "`": r"\textasciigrave{}",
    "\N{NO-BREAK SPACE}": "~",
    UNDEFINED: "--",
    "\N{MINUS SIGN}": "$-$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
}
_ESCAPES: Final = str.maketrans(_SPECIAL)
# Behind them a long name may go on in the next line.
_BREAKS: Final = "/.:,("

# Rows that fit a page; a longer table runs over several.
_PAGE: Final = 40
_HEADS: Final = ("Layer", "Gain", "95 % interval", "Rank", "Attack", "Noise", "Compr., %", "$n$")
_ALIGNMENT: Final = "lrlrrrrr"
# The table fits the width of an article in one column.
_SMALL: Final = r"\footnotesize\setlength{\tabcolsep}{3pt}"


def latex_text(text: str) -> str:
    r"""A text with LaTeX's own characters escaped, in one line.

    Example:
        >>> latex_text("50 % of a_b > 32")
        '50 \\% of a\\_b $>$ 32'
    """
    return " ".join(text.split(" ")).translate(_ESCAPES).replace("\n", " ")


def latex_code(text: str) -> str:
    """A name or spec in a typewriter's letters; lines may break behind its slashes, dots and commas."""
    with_breaks = "".join(f"{letter}\0" if letter in _BREAKS else letter for letter in text)
    return rf"\texttt{{{latex_text(with_breaks)}}}".replace("\0", r"\allowbreak{}")


def latex_layers(rows: list[Row], caption: str) -> str:
    """The layers as a table of the package `booktabs`; more than a page of them needs `longtable`, too.

    Args:
        rows: Rows of table `layers`, of one measure, target and strength, in the order of the network.
        caption: The caption, as LaTeX.
    """
    heads = " & ".join(head.replace("%", r"\%") for head in _HEADS) + r" \\"
    body = "\n".join(_line(row) for row in rows)
    label = r"\label{tab:camdrift-layers}"
    if len(rows) <= _PAGE:
        return "\n".join([
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            rf"\centering{_SMALL}",
            rf"\caption{{{caption}}}",
            label,
            rf"\begin{{tabular}}{{{_ALIGNMENT}}}",
            *(r"\toprule", heads, r"\midrule", body, r"\bottomrule"),
            r"\end{tabular}",
            r"\end{table}",
        ])  # fmt: skip
    return "\n".join([
        r"% \usepackage{booktabs,longtable}",
        rf"{{{_SMALL}\begin{{longtable}}{{{_ALIGNMENT}}}",
        rf"\caption{{{caption}}}",
        rf"{label}\\",
        *(r"\toprule", heads, r"\midrule", r"\endfirsthead"),
        *(r"\toprule", heads, r"\midrule", r"\endhead"),
        *(r"\bottomrule", r"\endfoot"),
        body,
        r"\end{longtable}}",
    ])  # fmt: skip


def _line(row: Row) -> str:
    """One layer: its gain with interval and rank, its similarities, its share of compromised examples."""
    compromised = percent(row["compromised_fraction"]).removesuffix("\N{NO-BREAK SPACE}%")
    between = percent_between(row["compromised_low"], row["compromised_high"])
    numbers = (
        times(row["gain"], row["gain_censored"]),
        times_between(row),
        _rank(row),
        fraction(row["adversarial_median"], 2),
        fraction(row["noise_median"], 2),
        f"{compromised} {between}".strip(),
        f"{row['n']:,}",
    )
    # A cell breaks nowhere: an ordinary space will do.
    name = rf"\texttt{{{latex_text(row['layer_label'])}}}"
    cells = [name, *(latex_text(text.replace("\N{NO-BREAK SPACE}", " ")) for text in numbers)]
    return " & ".join(cells) + r" \\"


def _rank(row: Row) -> str:
    """A layer's rank with its interval."""
    if row["rank"] is None:
        return UNDEFINED
    low, high = row["rank_low"], row["rank_high"]
    return f"{row['rank']}" if low is None or high is None else f"{row['rank']} [{low}, {high}]"
