"""An iteration of DLFuzz in a campaign: some images of the queue walk uphill side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.attacks.dlfuzz import DLFuzz, normalised, ranked_classes, uphill
from camdrift.coverage.criteria import NeuronBatch
from camdrift.coverage.neurons import NeuronRecord
from camdrift.coverage.strategies import ChosenNeurons, neuron_table, select_neurons
from camdrift.fuzzing.budget import FORWARD, GRADIENT
from camdrift.fuzzing.candidates import Candidates, Observation
from camdrift.fuzzing.gradients import Objective, differentiate
from camdrift.fuzzing.mutations import GRADIENT as STEP
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.pixelwise import clipped
from camdrift.fuzzing.trial import Trial
from camdrift.tensors import Images, Logits

# Images that walk side by side; coverage is that of before.
_WIDTH: Final = 8
_TIMES: Final = "times"


@dataclass(frozen=True)
class Uphill:
    """The step of DLFuzz: pop some images, and walk each uphill.

    Where its queue is empty the published program ends; here it is walked through again, until the budget is spent.

    Attributes:
        attack: Its settings.
    """

    attack: DLFuzz

    def __call__(self, trial: Trial) -> None:
        """Pop some images, walk, and take up what is met on the way."""
        steps, others = self.attack.iterations, trial.cost - FORWARD
        width = trial.affordable(steps * (GRADIENT + others) + FORWARD + others, _WIDTH)
        if not width:  # what is left of the budget is too little for any walk
            trial.give_up()
            return
        places = [(trial.counts.cursor + number) % len(trial.corpus) for number in range(width)]
        trial.counts.cursor = (places[-1] + 1) % len(trial.corpus)
        for place in places:
            trial.corpus.entries[place].times += 1
        walk = trial.corpus.read(places)
        chooser = _Chooser(self.attack, trial, trial.rng())
        for step in range(steps + 1):
            images = clipped(walk)
            if step < steps:
                observation, gradient = self._differentiate(trial, images, chooser)
                walk = walk + self.attack.step * normalised(gradient)
            else:
                observation = trial.observe(images)
            if step > 0:
                self._take_up(trial, images, places, observation, step)

    def _differentiate(self, trial: Trial, images: Images, chooser: "_Chooser") -> tuple[Observation, Tensor]:
        batches, gradients = list[NeuronBatch](), list[Tensor]()
        size = trial.design.batch_size
        for start in range(0, len(images), size):
            part = images[start : start + size]
            batch, gradient = differentiate(trial.design.classifier, part, chooser.objective(start))
            batches.append(batch)
            gradients.append(gradient)
        trial.counts.passes += (GRADIENT + trial.cost - FORWARD) * len(images)
        with torch.no_grad():
            others = [other(images) for other in trial.design.oracle.others]
        neurons = NeuronBatch(
            *(torch.cat([getattr(each, name) for each in batches]) for name in ("scaled", "raw", "logits"))
        )
        return Observation(neurons, others), torch.cat(gradients)

    def _take_up(
        self, trial: Trial, images: Images, places: Sequence[int], observation: Observation, step: int
    ) -> None:
        matrices = [trial.corpus.entries[place].matrix for place in places]
        use = trial.design.constraint.use(images, trial.seeds_of(places, matrices))
        mutations = [Mutation(STEP, {"steps": step}) for _ in places]
        trial.count_tries(mutations)
        trial.take_up(Candidates(images, places, mutations, matrices, use), observation)
        _times(trial)[:] += (observation.neurons.scaled > self.attack.threshold).sum(0).cpu().numpy()


class _Chooser:
    """Chooses classes and neurons when an image is popped, for all steps of its walk."""

    def __init__(self, attack: DLFuzz, trial: Trial, rng: np.random.Generator) -> None:
        self._attack, self._trial, self._rng = attack, trial, rng
        self._table = neuron_table(trial.design.classifier)
        self._chosen: dict[int, tuple[Tensor, list[ChosenNeurons]]] = {}

    def objective(self, start: int) -> Objective:
        """Return the objective of the images from a place on."""

        def value(logits: Logits, record: NeuronRecord) -> Tensor:
            rankings, selections = self._choice(start, logits, record)
            return uphill(self._attack, self._trial.design.classifier, logits, record, rankings, selections)

        return value

    def _choice(self, start: int, logits: Logits, record: NeuronRecord) -> tuple[Tensor, list[ChosenNeurons]]:
        """Return rankings and neurons of the images from a place on, chosen when they are first shown."""
        if start not in self._chosen:
            times = _times(self._trial)
            values = record.values.double().cpu().numpy()
            selections = [
                select_neurons(
                    self._attack.strategies,
                    self._attack.neurons,
                    table=self._table,
                    times=times,
                    values=row,
                    threshold=self._attack.threshold,
                    rng=self._rng,
                )
                for row in values
            ]
            self._chosen[start] = ranked_classes(logits.detach(), self._attack.competitors), selections
        return self._chosen[start]


def _times(trial: Trial) -> NDArray[np.int64]:
    """How often each neuron was covered so far, in this trial."""
    if _TIMES not in trial.state:
        size = sum(group.neurons for group in trial.design.classifier.neuron_groups)
        trial.state[_TIMES] = np.zeros(size, dtype=np.int64)
    return trial.state[_TIMES]
