"""How often a program waits for the device: scalars that are read, and tensors that go to the host."""

from collections import Counter

import torch
from torch.utils._python_dispatch import TorchDispatchMode

# What makes the host wait: a value that Python reads, and a shape that depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero")


class Reads(TorchDispatchMode):
    """Counts, while it is entered, operations that wait for a device that computes on its own.

    On the processor nothing waits, and a copy to the host is no operation: `Tensor.cpu` and `tolist` are counted by
    their calls (`numpy` works on the host alone).
    """

    def __init__(self, monkeypatch):
        super().__init__()
        self.counts = Counter()
        for name in ("cpu", "tolist"):
            monkeypatch.setattr(torch.Tensor, name, self._counted(name, getattr(torch.Tensor, name)))

    @property
    def total(self):
        return sum(self.counts.values())

    def _counted(self, name, function):
        def counted(tensor, *args, **kwargs):
            self.counts[name] += 1
            with torch.utils._python_dispatch._disable_current_modes():
                return function(tensor, *args, **kwargs)

        return counted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name in WAITS:
            self.counts[name] += 1
        return function(*args, **(kwargs or {}))
