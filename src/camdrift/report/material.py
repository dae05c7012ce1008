"""The material of a study's page, as every section takes it."""

from dataclasses import dataclass
from functools import cached_property

from camdrift.figures.scope import Scope, reason_for_nothing
from camdrift.tables.arrays import Gallery
from camdrift.tables.reading import Tables
from camdrift.tables.run_json import Record


@dataclass(frozen=True)
class Material:
    """The material of a study's page.

    Attributes:
        tables: All tables of `tables.study.TABLES` by name, and those of `FURTHER_TABLES` that there are.
        record: The run record, as `run.json` holds it.
        gallery: Images and heatmaps of sample seeds; may be empty.
        scope: The scope of the study.
    """

    tables: Tables
    record: Record
    gallery: Gallery
    scope: Scope

    @cached_property
    def nothing(self) -> str:
        """The reason why no layer could be measured; empty if one could."""
        return "" if (self.tables["layers"]["n"] > 0).any() else reason_for_nothing(self.scope)

    @property
    def is_interactive(self) -> bool:
        """Is there anything that the views of the page can show?"""
        return not self.nothing
