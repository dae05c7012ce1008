"""The command about a model: layers."""

import typer

from camdrift.cli.models import Models
from camdrift.cli.options import Options, takes_options
from camdrift.cli.terminal import print_table
from camdrift.errors import escaped
from camdrift.pipeline.settings import Settings


@takes_options("layers")
def layers_command(options: Options) -> None:
    """List the layers of a model: name, label, type, shape, where it is tapped, and why it is left out."""
    classifier, globs = options.record(Models).classifier(), options.record(Settings).layers
    from camdrift.cli.listing import layer_summary, layer_table

    print_table(*layer_table(classifier, globs))
    typer.echo(escaped("\n" + "\n".join(layer_summary(classifier, globs))))
