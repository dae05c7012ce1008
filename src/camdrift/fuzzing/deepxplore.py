"""An iteration of DeepXplore in a campaign: some seeds walk to where the models disagree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from camdrift.attacks.dlfuzz import normalised
from camdrift.coverage.neurons import NeuronObserver, NeuronRecord
from camdrift.fuzzing.budget import GRADIENT
from camdrift.fuzzing.candidates import Candidates, PassOutputs, join_outputs
from camdrift.fuzzing.gradients import joint_objective, neuron_batch
from camdrift.fuzzing.mutations import GRADIENT as STEP
from camdrift.fuzzing.mutations import Mutation
from camdrift.fuzzing.passes import in_groups
from camdrift.fuzzing.pixelwise import clipped
from camdrift.fuzzing.trial import Trial
from camdrift.layers import hooks
from camdrift.models.classifier import Classifier
from camdrift.models.replicas import by_all_threads
from camdrift.tensors import Images, Logits

# Seeds that walk side by side; coverage is that of before.
_WIDTH: Final = 8
_COVERED: Final = "covered"


@dataclass(frozen=True)
class Joint:
    """The step of DeepXplore: draw some seeds with replacement, and walk each until the models disagree.

    Attributes:
        iterations: Steps at most.
        step: Root mean square of a step, in pixel units.
        w_diff: Weight of the model that is to change its mind: the one that is fuzzed.
        w_nc: Weight of the neurons.
        threshold: Scaled output above which a neuron is covered.
    """

    iterations: int = 20
    step: float = 10 / 255
    w_diff: float = 1.0
    w_nc: float = 0.1
    threshold: float = 0.0

    def __call__(self, trial: Trial) -> None:
        """Draw seeds, walk, and take up what is met on the way."""
        rng, models = trial.rng(), trial.design.models
        least = GRADIENT * len(models) + trial.cost
        width = trial.affordable(least, _WIDTH)
        if not width:  # what is left of the budget is too little for any step
            trial.give_up()
            return
        places = [int(place) for place in rng.integers(len(trial.design.starts), size=width)]
        for place in places:
            trial.corpus.entries[place].times += 1
        walk, walking = trial.corpus.read(places), np.ones(width, dtype=np.bool_)
        neurons = [[self._uncovered(trial, number, rng) for number in range(len(models))] for _ in places]
        for step in range(self.iterations + 1):
            rows = np.flatnonzero(walking).tolist()
            affordable = trial.affordable(least, len(rows))
            if not rows or affordable < len(rows):
                break
            images = clipped(walk[rows])
            if step < self.iterations:
                observation, gradient, flags = self._differentiate(
                    trial, images, [places[r] for r in rows], neurons, rows
                )
                walk[rows] = walk[rows] + self.step * normalised(gradient)
            else:
                observation, flags = trial.observe(images), None
            if step > 0:
                walking[rows] &= ~self._take_up(trial, images, [places[row] for row in rows], observation, step, flags)

    def _uncovered(self, trial: Trial, number: int, rng: np.random.Generator) -> int:
        """A random neuron of a model that nothing has covered yet; any where all are."""
        flags = _covered(trial, number)
        candidates = np.flatnonzero(~flags)
        return int(rng.choice(candidates if len(candidates) else len(flags)))

    def _differentiate(
        self, trial: Trial, images: Images, places: Sequence[int], neurons: Sequence[Sequence[int]], rows: Sequence[int]
    ) -> tuple[PassOutputs, Tensor, list[Tensor]]:
        """All models at some images, the gradient of the joint objective, and the neurons that each model covers."""
        parts, gradients, flags = list[PassOutputs](), list[Tensor](), list[list[Tensor]]()
        classes, start = trial.seed_classes(places), 0
        for group, size in in_groups(images, trial.design.group):
            own = slice(start, start + size)
            # The copies that fill a group up have the classes and neurons of its last image.
            order = [*range(size), *([size - 1] * (len(group) - size))]
            with by_all_threads(trial.design.classifier):
                part, gradient, covered_flags = self._gradient(
                    trial, group, classes[own][order], [neurons[rows[start + number]] for number in order]
                )
            parts.append(PassOutputs(part.neurons.first(size), [logits[:size] for logits in part.others]))
            gradients.append(gradient[:size])
            flags.append([each[:size] for each in covered_flags])
            start += size
        trial.counts.passes += GRADIENT * len(trial.design.models) * len(images)
        columns = [torch.cat(column) for column in zip(*flags, strict=True)]
        return join_outputs(parts), torch.cat(gradients), columns

    def _gradient(
        self, trial: Trial, images: Images, classes: Tensor, neurons: Sequence[Sequence[int]]
    ) -> tuple[PassOutputs, Tensor, list[Tensor]]:
        """The same for one group of images, which have these classes and neurons."""
        points = images.detach().clone().requires_grad_()
        passes = list[tuple[Logits, NeuronRecord]]()
        with torch.enable_grad():
            for model in trial.design.models:
                passes.append(_recorded(model, points))
            outputs = [
                _outputs(model, record, [row[number] for row in neurons])
                for number, (model, (_, record)) in enumerate(zip(trial.design.models, passes, strict=True))
            ]
            scores = [logits.softmax(1) for logits, _ in passes]
            value = joint_objective(scores, outputs, classes, w_diff=self.w_diff, w_nc=self.w_nc).sum()
        gradient = torch.autograd.grad(value, points, materialize_grads=True)[0]
        (own, record), *others = passes
        batch = neuron_batch(trial.design.classifier, own.detach(), record)
        flags = [record.values > self.threshold for _, record in passes]
        return PassOutputs(batch, [logits.detach() for logits, _ in others]), gradient, flags

    def _take_up(
        self,
        trial: Trial,
        images: Images,
        places: Sequence[int],
        observation: PassOutputs,
        step: int,
        flags: Sequence[Tensor] | None,
    ) -> NDArray[np.bool_]:
        """Take up one step of every walk; return which walks end with it: they fail, or leave the constraint."""
        matrices = [trial.corpus.entries[place].matrix for place in places]
        use = trial.design.constraint.use(images, trial.seeds_of(places, matrices))
        mutations = [Mutation(STEP, {"steps": step}) for _ in places]
        trial.count_tries(mutations)
        verdicts = trial.take_up(Candidates(images, places, mutations, matrices, use), observation)
        # The published program counts the neurons of images alone on which the models disagree.
        are_credited = verdicts.are_failures if trial.design.as_released else np.ones(len(places), dtype=np.bool_)
        for number, row in enumerate(flags or ()):
            _covered(trial, number)[:] |= row.cpu().numpy()[are_credited].any(0)
        are_valid: NDArray[np.bool_] = trial.design.constraint.holds(use).cpu().numpy()
        return verdicts.are_failures | ~are_valid


def _recorded(model: Classifier, images: Images) -> tuple[Logits, NeuronRecord]:
    observer = NeuronObserver(model)
    with hooks.capturing({}, observer.receivers):
        logits = model(images)
    return logits, observer.record(logits)


def _outputs(model: Classifier, record: NeuronRecord, neurons: Sequence[int]) -> Tensor:
    """The output of one neuron per image."""
    outputs = torch.cat([record.outputs[group.name] for group in model.neuron_groups], 1)
    return outputs.gather(1, torch.tensor(neurons, device=outputs.device)[:, None])[:, 0]


def _covered(trial: Trial, number: int) -> NDArray[np.bool_]:
    """Which neurons of a model are covered so far, in this trial."""
    name = f"{_COVERED}_{number}"
    if name not in trial.state:
        size = sum(group.neurons for group in trial.design.models[number].neuron_groups)
        trial.state[name] = np.zeros(size, dtype=np.bool_)
    return trial.state[name]
