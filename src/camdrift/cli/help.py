"""The help of the commands: options in groups, and examples."""

from typing import Any, Final

from typer.core import TyperCommand

# Behind the mark, lines stay as they are.
_AS_IT_IS: Final = "\b\n"
EXAMPLES: Final = {
    "run": _AS_IT_IS
    + """Examples:
  camdrift run photos/ --attack "pgd(eps=4/255)" --name first --limit 20
  camdrift run photos/ --attack "pgd(eps=4/255)" --name first --resume --limit 40""",
    "check": _AS_IT_IS
    + """Examples:
  camdrift check runs/first --max-flips 0.1@0.5 --max-gain 20
  camdrift check runs/first --max-flips 0.1 --strict --json --junit gate.xml""",
}
_OTHERS: Final = "Options"


class GroupedCommand(TyperCommand):
    """A command whose help lists options by their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments, then each group of options under its name."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                is_argument = parameter.param_type_name == "argument"
                group = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or _OTHERS
                groups.setdefault(group, []).append(record)
        for group in sorted(groups, key=_OTHERS.__eq__):
            with formatter.section(group):
                formatter.write_dl(groups[group])
