"""An iteration of DLFuzz in a campaign: some images of the queue walk uphill side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.attacks.dlfuzz import DLFuzz, normalised, ranked_classes, uphill
from camdrift.coverage.neurons import NeuronRecord
from camdrift.coverage.strategies import ChosenNeurons, neuron_table, select_neurons
from camdrift.fuzzing.budget import FORWARD, GRADIENT
from camdrift.fuzzing.candidates import Candidates, PassOutputs, join_outputs
from camdrift.fuzzing.gradients import Objective, differentiate
from camdrift.fuzzing.mutations import GRADIENT as STEP
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.passes import in_groups
from camdrift.fuzzing.pixelwise import clipped
from camdrift.fuzzing.trial import Trial
from camdrift.models.replicas import by_all_threads
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
                observation = trial.observe(images, is_scaled=True)
            if step > 0:
                self._take_up(trial, images, places, observation, step)

    def _differentiate(self, trial: Trial, images: Images, chooser: "_Chooser") -> tuple[PassOutputs, Tensor]:
        parts, gradients = list[PassOutputs](), list[Tensor]()
        for number, (group, size) in enumerate(in_groups(images, trial.design.group)):
            # One after the other: an objective chooses by random numbers.
            with by_all_threads(trial.design.classifier):
                neurons, gradient = differentiate(trial.design.classifier, group, chooser.objective(number, size))
            parts.append(PassOutputs(neurons.first(size), trial.other_logits([(group, size)])))
            gradients.append(gradient[:size])
        trial.counts.passes += (GRADIENT + trial.cost - FORWARD) * len(images)
        return join_outputs(parts), torch.cat(gradients)

    def _take_up(
        self, trial: Trial, images: Images, places: Sequence[int], observation: PassOutputs, step: int
    ) -> None:
        matrices = [trial.corpus.entries[place].matrix for place in places]
        use = trial.design.constraint.use(images, trial.seeds_of(places, matrices))
        mutations = [Mutation(STEP, {"steps": step}) for _ in places]
        trial.count_tries(mutations)
        trial.take_up(Candidates(images, places, mutations, matrices, use), observation)
        _times(trial)[:] += observation.neurons.above(self.attack.threshold).sum(0).cpu().numpy()


class _Chooser:
    """Chooses classes and neurons when an image is popped, for all steps of its walk."""

    def __init__(self, attack: DLFuzz, trial: Trial, rng: np.random.Generator) -> None:
        self._attack, self._trial, self._rng = attack, trial, rng
        self._table = neuron_table(trial.design.classifier)
        self._choices: dict[int, tuple[Tensor, list[ChosenNeurons]]] = {}

    def objective(self, group: int, size: int) -> Objective:
        """Return the objective of a group of images, the first `size` of which count."""

        def value(logits: Logits, record: NeuronRecord) -> Tensor:
            rankings, selections = self._choice(group, size, logits, record)
            return uphill(self._attack, self._trial.design.classifier, logits, record, rankings, selections)

        return value

    def _choice(
        self, group: int, size: int, logits: Logits, record: NeuronRecord
    ) -> tuple[Tensor, list[ChosenNeurons]]:
        """Return rankings and neurons of a group of images, chosen when they are first shown."""
        if group not in self._choices:
            times = _times(self._trial)
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
                for row in record.values[:size].double().cpu().numpy()
            ]
            selections += selections[-1:] * (len(logits) - size)
            self._choices[group] = ranked_classes(logits.detach(), self._attack.competitors), selections
        return self._choices[group]


def _times(trial: Trial) -> NDArray[np.int64]:
    """How often each neuron was covered so far, in this trial."""
    if _TIMES not in trial.state:
        size = sum(group.neurons for group in trial.design.classifier.neuron_groups)
        trial.state[_TIMES] = np.zeros(size, dtype=np.int64)
    return trial.state[_TIMES]
