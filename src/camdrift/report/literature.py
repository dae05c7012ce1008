"""The publications that a study rests on, as BibTeX entries: only what is certain, no page, no DOI."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple


class Publication(NamedTuple):
    """One publication.

    Attributes:
        key: Its key in BibTeX.
        kind: Its BibTeX type.
        words: How a sentence names it, such as `Renkhoff et al., 2022`.
        fields: Its BibTeX fields, as BibTeX writes them.
    """

    key: str
    kind: str
    words: str
    fields: Mapping[str, str]

    def bibtex(self) -> str:
        """The entry."""
        lines = [f"  {name} = {{{value}}}," for name, value in self.fields.items()]
        return "\n".join([f"@{self.kind}{{{self.key},", *lines, "}"])


def _talk(key: str, words: str, author: str, title: str, venue: str) -> Publication:
    """A paper in proceedings; the year ends its words."""
    fields = {"author": author, "title": title, "booktitle": venue, "year": words[-4:]}
    return Publication(key, "inproceedings", words, fields)


def _article(key: str, words: str, author: str, title: str, journal: str) -> Publication:
    """A paper in a journal, or on arXiv; the year ends its words."""
    return Publication(
        key, "article", words, {"author": author, "title": title, "journal": journal, "year": words[-4:]}
    )


PAPER_SOURCE: Final = Publication(
    "renkhoff2022exploring",
    "misc",
    "Renkhoff et al., 2022",
    {
        "author": "Renkhoff, Justus and Tan, Wenkai and Velasquez, Alvaro and Wang, William Yichen and Liu, Yongxin "
        "and Wang, Jian and Niu, Shuteng and Fazlic, Lejla Begic and Dartmann, Guido and Song, Houbing",
        "title": "Exploring Adversarial Attacks on Neural Networks: An Explainable Approach",
        "year": "2022",
        "note": "arXiv:2303.06032",
        "url": "https://arxiv.org/abs/2303.06032",
    },
)

_GRAD_CAM: Final = _talk(
    "selvaraju2017gradcam",
    "Selvaraju et al., 2017",
    "Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and Parikh, Devi and "
    "Batra, Dhruv",
    "{Grad-CAM}: Visual Explanations from Deep Networks via Gradient-Based Localization",
    "Proceedings of the IEEE International Conference on Computer Vision (ICCV)",
)
_LSA: Final = _article(
    "khalooei2022layerwise",
    "Khalooei et al., 2022",
    "Khalooei, Mohammad and Homayounpour, Mohammad Mehdi and Amirmazlaghani, Maryam",
    "Layer-wise Regularized Adversarial Training using Layers Sustainability Analysis ({LSA}) framework",
    "arXiv:2202.02626",
)
_DLFUZZ: Final = _talk(
    "guo2018dlfuzz",
    "Guo et al., 2018",
    "Guo, Jianmin and Jiang, Yu and Zhao, Yue and Chen, Quan and Sun, Jiaguang",
    "{DLFuzz}: Differential Fuzzing Testing of Deep Learning Systems",
    "Proceedings of the 2018 26th ACM Joint Meeting on European Software Engineering Conference and Symposium on the "
    "Foundations of Software Engineering (ESEC/FSE)",
)
_AUTO_ATTACK: Final = _talk(
    "croce2020reliable",
    "Croce and Hein, 2020",
    "Croce, Francesco and Hein, Matthias",
    "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks",
    "International Conference on Machine Learning (ICML)",
)

# By the name that an attack's spec begins with; attacks of libraries are their libraries'.
ATTACK_SOURCES: Final[Mapping[str, Publication]] = {
    "dlfuzz": _DLFUZZ,
    "dlfuzz:paper": _DLFUZZ,
    "fgsm": _talk(
        "goodfellow2015explaining",
        "Goodfellow et al., 2015",
        "Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian",
        "Explaining and Harnessing Adversarial Examples",
        "International Conference on Learning Representations (ICLR)",
    ),
    "pgd": _talk(
        "madry2018towards",
        "Madry et al., 2018",
        "Madry, Aleksander and Makelov, Aleksandar and Schmidt, Ludwig and Tsipras, Dimitris and Vladu, Adrian",
        "Towards Deep Learning Models Resistant to Adversarial Attacks",
        "International Conference on Learning Representations (ICLR)",
    ),
    "mifgsm": _talk(
        "dong2018boosting",
        "Dong et al., 2018",
        "Dong, Yinpeng and Liao, Fangzhou and Pang, Tianyu and Su, Hang and Zhu, Jun and Hu, Xiaolin and Li, Jianguo",
        "Boosting Adversarial Attacks with Momentum",
        "Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    ),
    "apgd": _AUTO_ATTACK,
    "autoattack": _AUTO_ATTACK,
    "deepfool": _talk(
        "moosavidezfooli2016deepfool",
        "Moosavi-Dezfooli et al., 2016",
        "Moosavi-Dezfooli, Seyed-Mohsen and Fawzi, Alhussein and Frossard, Pascal",
        "{DeepFool}: A Simple and Accurate Method to Fool Deep Neural Networks",
        "Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition (CVPR)",
    ),
    "cw": _talk(
        "carlini2017towards",
        "Carlini and Wagner, 2017",
        "Carlini, Nicholas and Wagner, David",
        "Towards Evaluating the Robustness of Neural Networks",
        "IEEE Symposium on Security and Privacy (SP)",
    ),
}

# By the word before the colon in a spec.
LIBRARY_SOURCES: Final[Mapping[str, Publication]] = {
    "foolbox": _talk(
        "rauber2017foolbox",
        "Rauber et al., 2017",
        "Rauber, Jonas and Brendel, Wieland and Bethge, Matthias",
        "Foolbox: A {Python} Toolbox to Benchmark the Robustness of Machine Learning Models",
        "Reliable Machine Learning in the Wild Workshop, International Conference on Machine Learning (ICML)",
    ),
    "torchattacks": _article(
        "kim2020torchattacks",
        "Kim, 2020",
        "Kim, Hoki",
        "Torchattacks: A {PyTorch} Repository for Adversarial Attacks",
        "arXiv:2010.01950",
    ),
    "art": _article(
        "nicolae2018adversarial",
        "Nicolae et al., 2018",
        "Nicolae, Maria-Irina and Sinn, Mathieu and others",
        "Adversarial Robustness Toolbox v1.0.0",
        "arXiv:1807.01069",
    ),
    "captum": _article(
        "kokhlikyan2020captum",
        "Kokhlikyan et al., 2020",
        "Kokhlikyan, Narine and Miglani, Vivek and others",
        "Captum: A Unified and Generic Model Interpretability Library for {PyTorch}",
        "arXiv:2009.07896",
    ),
}

# By the column `source` of the explanations in `tables/measures.py`.
EXPLANATION_SOURCES: Final[Mapping[str, Publication]] = {
    "Selvaraju 2017": _GRAD_CAM,
    "Chattopadhay 2018": _talk(
        "chattopadhay2018gradcampp",
        "Chattopadhay et al., 2018",
        "Chattopadhay, Aditya and Sarkar, Anirban and Howlader, Prantik and Balasubramanian, Vineeth N.",
        "{Grad-CAM++}: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks",
        "IEEE Winter Conference on Applications of Computer Vision (WACV)",
    ),
    "Fu 2020": _talk(
        "fu2020axiom",
        "Fu et al., 2020",
        "Fu, Ruigang and Hu, Qingyong and Dong, Xiaohu and Guo, Yulan and Gao, Yinghui and Li, Biao",
        "Axiom-based {Grad-CAM}: Towards Accurate Visualization and Explanation of {CNN}s",
        "British Machine Vision Conference (BMVC)",
    ),
    "Draelos 2020": _article(
        "draelos2020hirescam",
        "Draelos and Carin, 2020",
        "Draelos, Rachel Lea and Carin, Lawrence",
        "Use {HiResCAM} Instead of {Grad-CAM} for Faithful Explanations of Convolutional Neural Networks",
        "arXiv:2011.08891",
    ),
    "Jiang 2021": _article(
        "jiang2021layercam",
        "Jiang et al., 2021",
        "Jiang, Peng-Tao and Zhang, Chang-Bin and Hou, Qibin and Cheng, Ming-Ming and Wei, Yunchao",
        "{LayerCAM}: Exploring Hierarchical Class Activation Maps for Localization",
        "IEEE Transactions on Image Processing",
    ),
    "Muhammad 2020": _talk(
        "muhammad2020eigencam",
        "Muhammad and Yeasin, 2020",
        "Muhammad, Mohammed Bany and Yeasin, Mohammed",
        "{Eigen-CAM}: Class Activation Map using Principal Components",
        "International Joint Conference on Neural Networks (IJCNN)",
    ),
    "Ramaswamy 2020": _talk(
        "desai2020ablationcam",
        "Desai and Ramaswamy, 2020",
        "Desai, Saurabh and Ramaswamy, Harish G.",
        "{Ablation-CAM}: Visual Explanations for Deep Convolutional Network via Gradient-free Localization",
        "IEEE Winter Conference on Applications of Computer Vision (WACV)",
    ),
    "Khalooei 2022": _LSA,
}

# By the name of a metric; the others need no source.
METRIC_SOURCES: Final[Mapping[str, Publication]] = {
    "ssim": _article(
        "wang2004image",
        "Wang et al., 2004",
        "Wang, Zhou and Bovik, Alan C. and Sheikh, Hamid R. and Simoncelli, Eero P.",
        "Image Quality Assessment: From Error Visibility to Structural Similarity",
        "IEEE Transactions on Image Processing",
    ),
    "relative-error": _LSA,
    "cka": _talk(
        "kornblith2019similarity",
        "Kornblith et al., 2019",
        "Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey",
        "Similarity of Neural Network Representations Revisited",
        "International Conference on Machine Learning (ICML)",
    ),
}


def toolkit(version: str) -> Publication:
    """nrtk, in a version; it names no publication of its own."""
    fields = {"author": "{Kitware, Inc.}", "title": "{nrtk}: Natural Robustness Toolkit"}
    note = f"Python package, version {version}" if version else "Python package"
    return Publication("nrtk", "misc", "Kitware", {**fields, "note": note})


def software(version: str) -> Publication:
    """camdrift itself, in a version."""
    fields = {"author": "{The camdrift authors}", "title": "{camdrift}", "note": f"Python package, version {version}"}
    return Publication("camdrift", "misc", "The camdrift authors", fields)


def bibtex(publications: Iterable[Publication]) -> str:
    """The entries of some publications, each once."""
    return "\n\n".join(each.bibtex() for each in {each.key: each for each in publications}.values())
