"""The image classifiers of torchvision."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from lrfind.errors import unknown

WITH_SIDE_OUTPUTS = ("googlenet", "inception_v3")


def torchvision_model(architecture: str, out_features: int, in_channels: int = 3) -> nn.Module:
    """An image classifier of torchvision by its name, such as resnet18 or mobilenet_v3_small.

    Nothing is downloaded: the weights are new. To start from trained weights, download a file of them
    yourself and name it in the config's `model.init_from`. If your head has another size, set
    `init_strict: false`; the head then stays new. GoogLeNet and Inception v3 come without their side outputs,
    which would need losses of their own. Images must be large enough: 224x224 for vit_* and maxvit_t, at
    least 75x75 for inception_v3.

    Args:
        architecture: one of `torchvision.models.list_models(module=torchvision.models)`.
        out_features: the number of classes; taken from the data when omitted.
        in_channels: the number of channels of the image: 3, or 1, which is then repeated three times; taken
            from the data when omitted.

    Raises:
        UsageError: if torchvision has no classifier of that name.
        ValueError: if the image has neither 1 nor 3 channels.
    """
    from torchvision import models  # slow to import, and only this model needs it

    names = models.list_models(module=models)
    if architecture not in names:
        raise unknown("torchvision classifier", architecture, names)
    if in_channels not in (1, 3):
        raise ValueError(
            f"torchvision's classifiers take images of 3 channels or 1 channel; found {in_channels}"
        )
    options = {"aux_logits": False, "init_weights": True} if architecture in WITH_SIDE_OUTPUTS else {}
    model: nn.Module = models.get_model(architecture, weights=None, num_classes=out_features, **options)
    if in_channels == 1:
        model.register_forward_pre_hook(_repeat_grey)  # a module around the model would rename its weights
    return model


def _repeat_grey(model: nn.Module, inputs: tuple[Any, ...]) -> Tensor:
    grey: Tensor = inputs[0]
    return grey.expand(-1, 3, -1, -1)  # (B, 1, H, W) -> (B, 3, H, W)
