"""Starting weights from which motion is learned soon.

With PyTorch's own initialisation the network did not start to learn motion in a thousand steps: features of all
pixels look alike, so the cost volume says nothing. Here the features differ from pixel to pixel from the start.
"""

import torch
from torch import Tensor, nn

from uprnet.network.boxes import LEAKY_SLOPE
from uprnet.network.model import UPRNet

FLOW_FACTOR = 0.1  # on the flow head: start near zero motion
SYNTHESIS_FACTOR = 0.01  # on the last synthesis convolution: start with plain blending, residuals below a grey level


@torch.no_grad()
def initialize_for_matching(model: UPRNet, images: Tensor, generator: torch.Generator) -> None:
    """Give a network weights whose features tell pixels apart.

    All convolutions get He weights and zero biases. In the encoder, the mean of each filter is subtracted, so
    that brightness alone does not pass, and each filter is rescaled so that its output has unit deviation on
    ``images``. The flow head and the last synthesis convolution start small.

    Args:
        model: The network, changed in place.
        images: Some real images, ``(B, 3, H, W)`` RGB in [0, 1].
        generator: Source of all randomness.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            slope = 0.25 if _inside(module, model.synthesis) else LEAKY_SLOPE  # PReLU starts at 0.25
            nn.init.kaiming_normal_(module.weight, a=slope, generator=generator)
            if isinstance(module, nn.ConvTranspose2d):
                module.weight *= 2.0  # stride 2: each output pixel is reached by a quarter of the taps
            if module.bias is not None:
                module.bias.zero_()
    model.flow_estimator.head.weight *= FLOW_FACTOR
    model.synthesis.head.weight *= SYNTHESIS_FACTOR
    activation = images
    for stage in (model.encoder.stage0, model.encoder.stage1, model.encoder.stage2):
        for layer in stage:
            if isinstance(layer, nn.Conv2d):
                layer.weight -= layer.weight.mean(dim=(1, 2, 3), keepdim=True)
                deviation = layer(activation).std(dim=(0, 2, 3)).clamp(min=1e-6)
                layer.weight /= deviation.view(-1, 1, 1, 1)
            activation = layer(activation)


def _inside(module: nn.Module, parent: nn.Module) -> bool:
    return any(module is child for child in parent.modules())
