"""Ray without processes: the workers of a study take turns in this one, and die when a test says so."""

from contextlib import contextmanager
from types import SimpleNamespace

from camdrift.engine.actor import Actor


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class Call:
    """What a worker was told to do; done when it is asked for."""

    def __init__(self, fake, handle, name, arguments):
        self.fake, self.handle, self.name, self.arguments = fake, handle, name, arguments

    def remote(self, *arguments):
        return Call(self.fake, self.handle, self.name, arguments)

    def result(self):
        if self.handle.is_dead:
            raise RayError("The actor died.\n\tWorker exit detail: its process was killed. Some common causes include")
        self.fake.before(self)
        try:
            return self.fake.after(self, getattr(self.handle.actor, self.name)(*self.arguments))
        except RayError:
            self.handle.is_dead = True
            raise


class Handle:
    def __init__(self, fake, number, threads):
        self.fake, self.number, self.actor, self.is_dead = fake, number, Actor(threads), False

    def __getattr__(self, name):
        return Call(self.fake, self, name, ())


class FakeRay:
    """As much of the module `ray` as a study uses.

    Attributes:
        handles: Every worker that was started.
        idle: So many times waiting ends without anything done.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *, processors=(4,), gpus=(0,), idle=0):
        self.handles, self.idle, self.options_seen = [], idle, {}
        self._nodes = [
            {"Alive": True, "Resources": {"CPU": float(c), "GPU": float(g)}}
            for c, g in zip(processors, gpus, strict=True)
        ]

    def before(self, call):
        """Raise `RayError` to let the worker die before what it was told to do."""

    def after(self, call, said):
        """What the worker answers; raise `RayError` to let it die after what it was told to do."""
        return said

    def put(self, value):
        return value

    def nodes(self):
        return self._nodes

    def remote(self, _):
        return self

    def options(self, **options):
        self.options_seen = options
        return SimpleNamespace(remote=self._start)

    def _start(self, threads):
        self.handles.append(Handle(self, len(self.handles), threads))
        return self.handles[-1]

    def wait(self, calls, *, num_returns=1, timeout=None):
        if self.idle and num_returns == 1 and calls[0].name != "look":
            self.idle -= 1
            return [], calls
        return calls[:num_returns], calls[num_returns:]

    def get(self, call):
        return call.result()

    def kill(self, handle):
        handle.is_dead = True

    @contextmanager
    def cluster(self, address, processors):
        """In place of `camdrift.engine.ray_cluster.cluster`."""
        yield self
