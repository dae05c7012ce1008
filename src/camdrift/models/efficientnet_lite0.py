"""EfficientNet-Lite0, layer by layer what timm calls tf_efficientnet_lite0, without timm's seconds of imports."""

from typing import Final

import torch.nn.functional as F
from torch import Tensor, nn

# Blocks of a stage, size of their filters, stride of the first, channels that they return.
_STAGES: Final = (
    (1, 3, 1, 16),
    (2, 3, 2, 24),
    (2, 5, 2, 40),
    (3, 3, 2, 80),
    (3, 5, 1, 112),
    (4, 5, 2, 192),
    (1, 3, 1, 320),
)
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
# How many times as many channels a block has inside.
_EXPANSION: Final = 6
# TensorFlow's, in which it was trained.
_EPSILON: Final = 1e-3


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for 1,000 classes (Tan and Le 2019, without squeeze and excitation, with ReLU6)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = _convolution(3, _STEM, 3, stride=2)
        self.bn1 = BatchNormAct2d(_STEM)
        channels, stages = _STEM, []
        for number, (blocks, kernel, stride, outputs) in enumerate(_STAGES):
            stage: list[nn.Module] = []
            for block in range(blocks):
                make = InvertedResidual if number else DepthwiseSeparableConv
                stage.append(make(channels, outputs, kernel, 1 if block else stride))
                channels = outputs
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.conv_head = _convolution(channels, _HEAD, 1)
        self.bn2 = BatchNormAct2d(_HEAD)
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(_HEAD, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (batch, 1000) of images (batch, 3, height, width)."""
        activation = self.bn2(self.conv_head(self.blocks(self.bn1(self.conv_stem(images)))))
        logits: Tensor = self.classifier(self.global_pool(activation).flatten(1))
        return logits


class Conv2dSame(nn.Conv2d):
    """A convolution of larger steps that pads as TensorFlow does: where one side gets more, it is the end."""

    def forward(self, activation: Tensor) -> Tensor:
        """The filtered activation, (batch, outputs, ceil(height / stride), ceil(width / stride))."""
        pads = [_padding(size, self.kernel_size[0], self.stride[0]) for size in activation.shape[-2:]]
        (top, bottom), (left, right) = pads
        return super().forward(F.pad(activation, (left, right, top, bottom)))


def _convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    if stride > 1:
        return Conv2dSame(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)


def _padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    missing = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return missing // 2, missing - missing // 2


class BatchNormAct2d(nn.BatchNorm2d):
    """Batch norm, and ReLU6 unless it is left out."""

    def __init__(self, channels: int, *, is_linear: bool = False) -> None:
        super().__init__(channels, eps=_EPSILON)
        self.act = nn.Identity() if is_linear else nn.ReLU6(inplace=True)

    def forward(self, activation: Tensor) -> Tensor:
        """The activation, normed and rectified."""
        normed: Tensor = self.act(super().forward(activation))
        return normed


class DepthwiseSeparableConv(nn.Module):
    """Filters of each channel, then a mixture of channels."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv_dw = _convolution(inputs, inputs, kernel, stride=stride, groups=inputs)
        self.bn1 = BatchNormAct2d(inputs)
        self.conv_pw = _convolution(inputs, outputs, 1)
        self.bn2 = BatchNormAct2d(outputs, is_linear=True)

    def forward(self, activation: Tensor) -> Tensor:
        """What the block makes of an activation."""
        normed: Tensor = self.bn2(self.conv_pw(self.bn1(self.conv_dw(activation))))
        return normed


class InvertedResidual(nn.Module):
    """More channels, filters of each, and fewer channels again; added to what came in where that has their shape."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__()
        inside = _EXPANSION * inputs
        self.is_added = stride == 1 and inputs == outputs
        self.conv_pw = _convolution(inputs, inside, 1)
        self.bn1 = BatchNormAct2d(inside)
        self.conv_dw = _convolution(inside, inside, kernel, stride=stride, groups=inside)
        self.bn2 = BatchNormAct2d(inside)
        self.conv_pwl = _convolution(inside, outputs, 1)
        self.bn3 = BatchNormAct2d(outputs, is_linear=True)

    def forward(self, activation: Tensor) -> Tensor:
        """What the block makes of an activation."""
        narrow = self.bn3(self.conv_pwl(self.bn2(self.conv_dw(self.bn1(self.conv_pw(activation))))))
        added: Tensor = narrow + activation if self.is_added else narrow
        return added
