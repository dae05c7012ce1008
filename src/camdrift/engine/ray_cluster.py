"""Ray, started here or joined: it is quiet, and leaves nothing behind."""

import logging
import os
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from camdrift.engine.interruption import Stopped
from camdrift.errors import UserError, one_line
from camdrift.processors import wanted_threads

ADDRESS: Final = "RAY_ADDRESS"
_MODE, _TOKEN, _NICENESS = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_worker_niceness"
_TEMPORARY: Final = "TMPDIR"
# At 0, Ray takes the loopback interface for that of the machine, and its servers listen on no other.
_CLUSTERS, _LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "127.0.0.1"
# Sockets lie in Ray's folder, and their paths have at most 107 bytes.
_LONGEST_FOLDER: Final = 40


@contextmanager
def cluster(address: str | None, processors: int) -> Iterator[Any]:
    """Yield the module `ray`, connected for as long as the block runs.

    A Ray that the program has started itself goes on running afterwards. One that is started here lies in a temporary
    folder, sends no statistics, lets in nobody else, and is gone after the block.

    Args:
        address: As in `Engine`.
        processors: Processors that a Ray started here has for its workers.

    Raises:
        UserError: No cluster answers there, or Ray cannot be started.
    """
    # Before the import, which reads it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():
        if address is not None:
            raise UserError(
                f"`address` must be left out where the program is connected to Ray already, got: {address}",
                "ray.shutdown() disconnects it",
            )
        yield ray
        return
    address = address or os.environ.get(ADDRESS) or "local"
    with ExitStack() as stack:
        stack.enter_context(_quiet(ray))
        stack.enter_context(_handlers())
        stack.callback(ray.shutdown)
        if address == "local":
            folder = stack.enter_context(tempfile.TemporaryDirectory(**_place(), ignore_cleanup_errors=True))
            stack.enter_context(_own_ray(folder))
            # Shut down before its folder is removed.
            stack.callback(ray.shutdown)
            options = {"num_cpus": processors, "include_dashboard": False, "_temp_dir": folder}
            options["_node_ip_address"] = _LOOPBACK
            try:
                _start(ray, address="local", **options)
            except UserError:  # Ray waits half a minute for its own processes, which a busy machine may exceed
                ray.shutdown()
                _start(ray, address="local", **options)
        else:
            _start(ray, address=address)
        yield ray


@dataclass(frozen=True)
class Team:
    """The workers of a study, and the share of each.

    Attributes:
        workers: Number of workers.
        threads: Threads of each.
        processors: Processors that Ray keeps for each.
        gpus: GPUs that it keeps for each.
        total: All that Ray has, in words.
    """

    workers: int
    threads: int
    processors: int
    gpus: int
    total: str

    def options(self) -> dict[str, Any]:
        """The options of a Ray actor; its second thread answers while the first computes."""
        return {
            "num_cpus": self.processors,
            "num_gpus": self.gpus,
            "max_concurrency": 2,
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": "SPREAD",
        }

    def demand(self) -> str:
        """The share that each asks for, in words."""
        return _in_words(self.processors, self.gpus)


def team(ray: Any, workers: int | None, chunks: int, *, is_gpu: bool) -> Team:
    """The workers of a study: without a number one per GPU, or one per two processors; never more than chunks.

    OMP_NUM_THREADS sets the threads of each; without it they are the worker's share of the processors.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    processors = [int(node.get("CPU", 0)) for node in nodes]
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    number = min(workers or max(1, gpus if is_gpu else sum(processors) // 2), chunks)
    # Workers do not span machines: this is the largest share of which the machines together have enough.
    shares = range(1, max([1, *processors]) + 1)
    share = max(n for n in shares if n == 1 or sum(count // n for count in processors) >= number)
    threads = wanted_threads() or share
    return Team(number, threads, min(threads, share), int(is_gpu), _in_words(sum(processors), gpus))


def _in_words(processors: int, gpus: int) -> str:
    return f"{processors} CPUs" + (f" and {gpus} GPUs" if gpus else "")


def _start(ray: Any, **options: Any) -> None:
    try:
        with _handlers():
            ray.init(log_to_driver=False, configure_logging=False, **options)
    except SystemExit as error:  # so ends Ray's own handler of SIGTERM
        raise Stopped(signal.SIGTERM) from error
    except Exception as error:
        where = options["address"]
        if where == "local":
            raise UserError(f"Ray cannot be started on this machine: {one_line(error)}") from error
        raise UserError(
            f"`address` must be that of a running Ray cluster, got: {where} ({one_line(error)})",
            "`ray status` on a machine of the cluster tells it; without --address Ray is started on this machine",
        ) from error


@contextmanager
def _handlers() -> Iterator[None]:
    """Keep our handler of SIGTERM, in whose place Ray sets its own."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        yield
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _quiet(ray: Any) -> Iterator[None]:
    """Silence Ray's own messages about dead workers; we report them."""
    logger = logging.getLogger("ray")
    level = logger.level
    printing = ray._private.worker
    was_printing = getattr(printing, "_worker_logs_enabled", None)
    try:
        logger.setLevel(logging.CRITICAL + 1)
        if was_printing is not None:
            printing._worker_logs_enabled = False
        yield
    finally:
        logger.setLevel(level)
        if was_printing is not None:
            printing._worker_logs_enabled = was_printing


@contextmanager
def _own_ray(folder: str) -> Iterator[None]:
    """Set the variables of a Ray of our own, but none that the user has set, and restore them after the block.

    This Ray listens on the loopback interface alone, and lets in nobody who does not know its token. Its workers
    compute with the priority of this process, where Ray would let every other program go first. What they leave when
    they are killed lies in its folder.
    """
    before = {name: os.environ.get(name) for name in (_NICENESS, _TOKEN, _MODE, _TEMPORARY, _CLUSTERS)}
    constants: Any = import_module("ray._private.ray_constants")
    has_clusters, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    os.environ[_CLUSTERS] = "0"
    is_open = before[_MODE] is None and before[_TOKEN] is None
    os.environ.setdefault(_NICENESS, "0")
    os.environ[_TEMPORARY] = folder
    if is_open:
        os.environ[_TOKEN] = secrets.token_hex(32)  # Ray itself sets the mode
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = has_clusters
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if is_open:  # Ray remembers the token
            loader: Any = import_module("ray._raylet").AuthenticationTokenLoader
            loader.instance().reset_cache()


def _place() -> dict[str, Any]:
    is_long = len(tempfile.gettempdir()) > _LONGEST_FOLDER
    return {"prefix": "camdrift-", "dir": "/tmp" if is_long and Path("/tmp").is_dir() else None}
