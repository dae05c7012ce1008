"""Names of the files and folders of a run and of a comparison, beside their tables."""

from typing import Final

RECORD: Final = "run.json"
REPORT: Final = "report.html"
# The page of all runs, beside their directories.
INDEX: Final = "index.html"
FIGURES: Final = "figures"
GALLERY: Final = "gallery.npz"
CHUNKS: Final = "chunks"
# Pictures behind defences, and what defences have learnt: defence-KEY.safetensors.
DEFENCE_PICTURES: Final = "defences.npz"
# How a page finds them beside the arrays of the gallery.
DEFENCE_KEYS: Final = "defences/{}"
LEARNT: Final = "defence-{}.safetensors"

COMPARISON_RECORD: Final = "comparison.json"
COMPARISON_PAGE: Final = "comparison.html"

MEASUREMENT_RECORD: Final = "coverage.json"
PROFILE: Final = "profile.npz"
