"""Small campaigns for tests: a tiny network, its pictures, and trials without a disk."""

import numpy as np
import torch

from camdrift.coverage.criteria import make_criterion
from camdrift.fuzzing.budget import parse_budget
from camdrift.fuzzing.campaign import new_trial, run_trial
from camdrift.fuzzing.constraints import parse_constraint
from camdrift.fuzzing.corpus import MemoryStack
from camdrift.fuzzing.design import CampaignDesign, FuzzSeed
from camdrift.fuzzing.frameworks import Setup, parse_framework
from camdrift.fuzzing.names import IMAGE_OPERATORS
from camdrift.fuzzing.oracles import make_oracle
from camdrift.images.pixels import read_image
from support.studies import picture


class _Bytes:
    def __init__(self, number):
        self._number = number

    def read(self):
        from io import BytesIO

        data = BytesIO()
        picture(self._number).save(data, "PNG")
        return data.getvalue()


def pixels_of(classifier, count=4):
    """Images of `count` pictures as a classifier takes them."""
    return [read_image(_Bytes(number), **classifier.geometry).pixels.numpy() for number in range(count)]


def design_of(classifier, images, *, others=(), oracle=None, **options):
    """A design on some images, each with the prediction of its clean image."""
    with torch.no_grad():
        classes = classifier(torch.as_tensor(np.stack(images))).argmax(1).tolist()
    starts = [FuzzSeed(f"seed {number}", seed_class) for number, seed_class in enumerate(classes)]
    values = {
        "constraint": "deephunter",
        "budget": "200-passes",
        "operators": IMAGE_OPERATORS,
        "criterion": "nc",
        "batch_size": 8,
        **options,
    }
    return CampaignDesign(
        classifier,
        starts,
        make_oracle(oracle, classifier, others),
        parse_constraint(values.pop("constraint")),
        parse_budget(values.pop("budget")),
        criterion=make_criterion(values.pop("criterion"), classifier),
        **values,
    )


def trial_of(framework, design, images, *, number=0, rates=None, after=lambda trial: None):
    """A trial that has run to the end of its budget."""
    choice = parse_framework(framework)
    setup = Setup(design, images, rates=rates or {})
    trial = new_trial(choice, number, setup, MemoryStack(), MemoryStack())
    run_trial(trial, choice, setup, after)
    return trial
