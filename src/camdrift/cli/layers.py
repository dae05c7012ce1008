"""The command about a model: layers."""

import typer

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.terminal import AsJson, print_json, print_table, print_text
from camdrift.pipeline.settings import Settings


@takes_options("layers")
def layers_command(as_json: AsJson = False, *, options: Options) -> None:
    """List the layers of a model: name, label, type, shape, where it is tapped, and why it is left out."""
    classifier, globs = options.record(Models).classifier(), options.record(Settings).layers
    from camdrift.cli.listing import layer_summary, layer_table

    heads, rows = layer_table(classifier, globs)
    if as_json:
        layers = [dict(zip(heads, row, strict=True)) for row in rows]
        print_json({"layers": layers, "summary": layer_summary(classifier, globs)})
        return
    print_table(heads, rows)
    typer.echo()
    print_text("\n".join(layer_summary(classifier, globs)))
