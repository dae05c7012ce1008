"""The engine of a study, which computes its chunks: this process, or workers that Ray starts and watches."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final, Literal, get_args

from camdrift.errors import UserError, install_hint

EngineName = Literal["local", "ray"]
LOCAL: Final = "local"
RAY: Final = "ray"
ENGINES: Final = get_args(EngineName)
_CLIENT: Final = "ray://"


@dataclass(frozen=True)
class Engine:
    """The engine that computes the chunks. It changes where a study is computed, not its results.

    Attributes:
        name: `local` for this process, `ray` for workers.
        address: HOST:PORT of a running Ray cluster, or `auto` for the one on this machine; None for the one that the
            variable RAY_ADDRESS names, or else for workers on this machine alone.
        workers: Number of workers; None for a number that suits the machines.
    """

    name: EngineName = LOCAL
    address: str | None = None
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise UserError(f"`engine` must be one of {', '.join(ENGINES)}, got: {self.name}")
        for option in ("address", "workers"):
            value = getattr(self, option)
            if self.name == LOCAL and value is not None:
                raise UserError(f"`{option}` must come with `engine` ray, got: {value}", "add --engine ray")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise UserError(f"`workers` must be an integer of at least 1, got: {self.workers}")
        if self.address is not None and (not self.address or self.address.startswith(_CLIENT)):
            raise UserError(
                f"`address` must be HOST:PORT of a running Ray cluster, or auto, got: {self.address or 'nothing'}",
                "start the command on a machine of the cluster, by hand or with `ray job submit`",
            )
        if self.name == RAY and find_spec("ray") is None:
            raise UserError("`engine` ray needs Ray, which is not installed", install_hint("ray"))

    def as_record(self) -> dict[str, Any]:
        """The engine as JSON values."""
        return {"name": self.name, "address": self.address, "workers": self.workers}


def engine_of(engine: EngineName | Engine, address: str | None = None, workers: int | None = None) -> Engine:
    """The engine that the arguments of a function mean: a name with its options, or an engine alone.

    Raises:
        UserError: There is no such engine, or its options do not go together.
    """
    if isinstance(engine, Engine):
        if address is not None or workers is not None:
            raise UserError(f"`engine` must come alone where it is an Engine, got also: {address or workers}")
        return engine
    return Engine(engine, address, workers)
