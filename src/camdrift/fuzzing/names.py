"""Names of frameworks, oracles, constraints and operators, each with its sentence; nothing here imports torch.

Help, messages and the tables of docs/fuzzing.md are made from them.
"""

from typing import Final

FRAMEWORK_WORDS: Final = {
    "dlfuzz": "walks uphill on class confusion and neurons (Guo et al., ESEC/FSE 2018)",
    "deepxplore": "walks to where two or three models disagree (Pei et al., SOSP 2017); needs `--models`",
    "deephunter": "mutates images, and keeps those that raise coverage (Xie et al., ISSTA 2019)",
    "tensorfuzz": "adds white noise, and keeps images whose logits are far from all before (Odena et al., ICML 2019)",
    "random": "DeepHunter's mutants of the seeds alone; keeps nothing",
    "keep-all": "DeepHunter's mutants; keeps every valid one",
    "keep-random": "DeepHunter's mutants; keeps as many as a guided framework (`like`) does, by chance: the control",
    "margin": "DeepHunter's mutants; keeps those whose two best classes lie closer than their parent's",
    "gini": "DeepHunter's mutants; keeps those of larger Gini impurity than their parent (DeepGini, ISSTA 2020)",
}

PREDICTION, DISAGREE, NONFINITE, PRECISION = "prediction", "disagree", "nonfinite", "precision"
ORACLE_WORDS: Final = {
    PREDICTION: "the prediction is not that of the seed (its label, where that is known)",
    DISAGREE: "two or more models (`--models`), or an old and a new one, predict different classes",
    NONFINITE: "a logit is NaN or infinite",
    PRECISION: "float32 and bfloat16 of the same model predict different classes",
}

CONSTRAINT_WORDS: Final = {
    "deephunter": "few entries change (`alpha`, a share), or none by much (`beta`; Eq. 1, Xie et al., ISSTA 2019)",
    "linf": "no entry changes by more than `eps`, in pixel units",
    "l2": "the L2 norm of the change is at most `eps`, in pixel units",
    "ratio": "the L2 norm of the change is at most `most` times that of the seed less its mean",
    "ssim": "the structural similarity to the seed is at least `least`",
}

OPERATOR_WORDS: Final = {
    "translate": "moves the picture by up to a tenth of the side",
    "scale": "shrinks or enlarges it about the centre",
    "shear": "shifts its rows against each other",
    "rotate": "turns it about the centre by up to 15 degrees",
    "contrast": "multiplies every entry",
    "brightness": "adds to every entry",
    "blur": "blurs by a Gaussian",
    "pixels": "replaces up to 1.1 % of the entries by random values",
    "noise": "adds white noise",
    "white": "adds white noise of TensorFuzz's size",
}
IMAGE_OPERATORS: Final = tuple(name for name in OPERATOR_WORDS if name != "white")
