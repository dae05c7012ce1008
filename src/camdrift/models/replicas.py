"""Batches side by side on a processor: one thread each, on copies of the classifier that share its weights.

With more than one thread torch adds in another order, and a network whose layers are small waits for its threads. So
each batch is computed by one thread, and as many batches at once as torch has threads: the numbers are the same for any
number of cores.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from copy import copy, deepcopy
from functools import partial
from math import prod
from queue import SimpleQueue
from typing import Any, Final, TypeVar

import torch

from camdrift.layers.state import Inventory
from camdrift.models.classifier import Classifier

_T = TypeVar("_T")
_R = TypeVar("_R")

# Values of all layers of an image, below which Python's work for a pass is most of it (docs/benchmarks.md).
_FEWEST_VALUES: Final = 2**18
# A pass with gradients holds some three numbers of four bytes for each value, and all passes a quarter of the memory.
_BYTES: Final = 12
_SHARE: Final = 4
_USUAL_MEMORY: Final = 2**33
_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@contextmanager
def replicated(*classifiers: Classifier, batch_size: int) -> Iterator[None]:
    """Inside the block torch computes with one thread, and `on_replicas` on as many replicas as it had threads.

    A classifier on a card stays as it is, and so does one whose layers are small. Where one cannot be copied, or
    batches leave no room for two, all threads go on working at one batch.

    Args:
        classifiers: The classifiers.
        batch_size: Images of a batch.
    """
    if torch.get_num_threads() == 1 or any(each.device.type != "cpu" or each.replicas for each in classifiers):
        yield
        return
    with ExitStack() as stack:
        stack.enter_context(classifiers[0].numerics())  # before there are threads: it is the process's
        for classifier in dict.fromkeys(classifiers):
            values = sum(prod(info.shape) for info in classifier.layer_infos)
            if values < _FEWEST_VALUES:
                continue
            stack.enter_context(classifier.undisturbed())
            copies = _copies(classifier, _count(values * batch_size))
            if not copies:
                yield
                return
            for replica in copies:
                stack.enter_context(replica.undisturbed())
            classifier.replicas = stack.enter_context(_Team(copies))
            stack.callback(setattr, classifier, "replicas", None)
        stack.enter_context(_threads(1))
        yield


@contextmanager
def by_all_threads(classifier: Classifier) -> Iterator[None]:
    """Inside the block torch computes with one thread for each replica, for passes that follow one another."""
    with _threads(torch.get_num_threads() if classifier.replicas is None else len(classifier.replicas)):
        yield


@contextmanager
def on_replicas(
    classifier: Classifier, compute: Callable[[Classifier, _T], _R], items: Sequence[_T]
) -> Iterator[Iterator[_R]]:
    """Yield the results of `compute`, in the order of the items.

    Args:
        classifier: The classifier.
        compute: Called with the classifier, or a replica of it, and an item, in a thread of its own where there are
            replicas. Gradients are enabled there if they are here.
        items: What to compute with.
    """
    if classifier.replicas is None:
        yield (compute(classifier, item) for item in items)
        return
    with classifier.replicas.computing(compute, items) as results:
        yield results


class _Team:
    """Replicas of a classifier, and a thread for each."""

    def __init__(self, replicas: Sequence[Classifier]) -> None:
        self._count = len(replicas)
        self._free: SimpleQueue[Classifier] = SimpleQueue()
        for replica in replicas:
            self._free.put(replica)
        self._pool = ThreadPoolExecutor(self._count, initializer=partial(torch.set_num_threads, 1))

    def __len__(self) -> int:
        return self._count

    def __enter__(self) -> "_Team":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    @contextmanager
    def computing(self, compute: Callable[[Classifier, _T], _R], items: Sequence[_T]) -> Iterator[Iterator[_R]]:
        """Yield results in the order of the items, while so many more are computed as there are replicas."""
        is_enabled, waiting = torch.is_grad_enabled(), deque[Future[_R]]()

        def one(item: _T) -> _R:
            replica = self._free.get()
            try:
                with torch.set_grad_enabled(is_enabled):
                    return compute(replica, item)
            finally:
                self._free.put(replica)

        def results() -> Iterator[_R]:
            for item in items:
                waiting.append(self._pool.submit(one, item))
                if len(waiting) > self._count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

        try:
            yield results()
        finally:
            for future in waiting:
                future.cancel()
            wait(waiting)


def _count(values: int) -> int:
    """Batches of so many values that go side by side: as many as torch has threads, as far as memory allows."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else _USUAL_MEMORY
    return min(torch.get_num_threads(), memory // (_SHARE * _BYTES * values))


def _copies(classifier: Classifier, count: int) -> tuple[Classifier, ...]:
    """Copies that share the weights and give the same logits; none where there are no such, or it is only one."""
    inventory = Inventory(classifier.module)
    # What a hook refers to may be the network itself.
    if count < 2 or any(vars(part).get(name) for part in inventory.parts for name in _HOOKS):
        return ()
    image = torch.full((1, 3, classifier.size, classifier.size), 0.5)
    try:
        copies = [_copy(classifier, inventory) for _ in range(count)]
        with torch.no_grad():
            is_same = torch.equal(copies[0](image), classifier(image))  # the others are made alike
    except Exception:
        return ()
    return tuple(copies) if is_same else ()


def _copy(classifier: Classifier, inventory: Inventory) -> Classifier:
    memo: dict[int, Any] = {id(tensor): tensor for tensor in inventory.tensors}
    module, layers = deepcopy((classifier.module, classifier._layers), memo)
    replica = copy(classifier)
    replica.module, replica._inventory = module, None
    vars(replica)["_layers"] = layers
    if {id(tensor) for tensor in Inventory(module).tensors} != {id(tensor) for tensor in inventory.tensors}:
        raise ValueError("a copy has tensors of its own")
    return replica


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(count)
        yield
    finally:
        torch.set_num_threads(before)
