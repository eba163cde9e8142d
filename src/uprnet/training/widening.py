"""A wider network that computes the same function: train small and cheap, then go on with more channels.

Every channel inside the network is copied; a copy's outgoing weights are shared out among the copies. LeakyReLU,
PReLU, splatting and resizing act on each channel alone and scale with it, so the output stays what it was. The
cost volume is a mean over channels: where some channels have more copies than others, copies are scaled so that
each old channel keeps its part in the mean.

Copies that are equal would stay equal for ever, because they receive equal gradients. The shares are uneven and
differ from filter to filter, which breaks the symmetry without changing the function.

Reference:
    Chen et al., "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uprnet.errors import InvalidInputError
from uprnet.network.config import ModelConfig
from uprnet.network.model import UPRNet
from uprnet.network.ops.cpu_kernels import NUM_DISPLACEMENTS

SHARE_SPREAD = 0.4  # largest relative deviation of a copy's share before shares are normalised


@dataclass(frozen=True)
class _Channels:
    """What the channels of a tensor of the wide network are.

    ``origin[i]`` is the channel of the narrow network that channel ``i`` copies, ``scale[i]`` the factor on it.
    """

    origin: Tensor
    scale: Tensor


def widen(model: UPRNet, config: ModelConfig, seed: int = 0) -> UPRNet:
    """Make a wider network that computes the same frames and flows.

    Args:
        model: The trained network.
        config: The wider architecture; its channels need not be a multiple.
        seed: Seed of the uneven shares.

    Returns:
        A new network, in the mode of ``model``; its outputs equal those of ``model`` up to rounding.

    Raises:
        InvalidInputError: If ``config`` is narrower than ``model``.

    Example:
        >>> widen(UPRNet(ModelConfig(2)), ModelConfig(3)).config
        ModelConfig(base_channels=3)
    """
    old, new = model.config.base_channels, config.base_channels
    if new < old:
        raise InvalidInputError(f"the wider network must have at least {old} base channels, got {new}")
    wide = UPRNet(config)
    generator = torch.Generator().manual_seed(seed)
    narrow_layers, wide_layers = dict(model.named_modules()), dict(wide.named_modules())
    with torch.no_grad():
        for name, (inputs, outputs) in _wiring(old, new).items():
            _widen_convolution(narrow_layers[name], wide_layers[name], inputs, outputs, generator)
            stage, _, index = name.rpartition(".")
            follower = f"{stage}.{int(index) + 1}" if index.isdigit() else ""
            narrow, broad = narrow_layers.get(follower), wide_layers.get(follower)
            if isinstance(narrow, nn.PReLU) and isinstance(broad, nn.PReLU):
                broad.weight.copy_(narrow.weight[outputs.origin])
    return wide.train(model.training)


def _wiring(old: int, new: int) -> dict[str, tuple[_Channels, _Channels]]:
    """What each convolution reads and writes, by its name in `UPRNet`."""

    def copies(width: int) -> _Channels:
        origin = torch.arange(width * new) % (width * old)
        return _Channels(origin, torch.ones(len(origin)))

    d = 2  # width of the synthesis, in base channels
    c0, c1, c2 = copies(1), copies(2), _keeping_mean(copies(4), 4 * old)
    wiring = {}
    below = _image_channels(3)
    for stage, channels, last in (("stage0", copies(1), c0), ("stage1", copies(2), c1), ("stage2", copies(4), c2)):
        for index in (0, 2, 4, 6):
            above = last if index == 6 else channels
            wiring[f"encoder.{stage}.{index}"] = (below, above)
            below = above
    context = copies(4)
    below = _joined(_image_channels(NUM_DISPLACEMENTS), c2, c2, context, _image_channels(4))
    for index, width in ((0, 10), (2, 8), (4, 7), (6, 6), (8, 4)):
        wiring[f"flow_estimator.layers.{index}"] = (below, copies(width))
        below = copies(width)
    wiring["flow_estimator.head"] = (context, _image_channels(4))

    stages = {
        "encode0": (_image_channels(19), d, 2),
        "encode1": (_joined(copies(d), c0, c0), 2 * d, 3),
        "encode2": (_joined(copies(2 * d), c1, c1), 4 * d, 3),
        "decode1": (_joined(copies(4 * d), c2, c2), 2 * d, 2),
        "decode2": (_joined(copies(2 * d), copies(2 * d)), d, 2),
        "decode3": (_joined(copies(d), copies(d)), d, 2),
    }
    for name, (inputs, width, depth) in stages.items():
        for index in range(depth):
            wiring[f"synthesis.{name}.{2 * index}"] = (inputs if index == 0 else copies(width), copies(width))
    wiring["synthesis.head"] = (copies(d), _image_channels(5))
    return wiring


def _image_channels(count: int) -> _Channels:
    """Channels that every size has: colours, flow, costs, masks."""
    return _Channels(torch.arange(count), torch.ones(count))


def _keeping_mean(channels: _Channels, old_count: int) -> _Channels:
    """Scale copies so that the mean of products over all channels is that of the narrow network."""
    number = torch.bincount(channels.origin, minlength=old_count)[channels.origin]
    return _Channels(channels.origin, (len(channels.origin) / old_count / number).sqrt())


def _joined(*parts: _Channels) -> _Channels:
    """Channels of a concatenation."""
    origins, start = [], 0
    for part in parts:
        origins.append(part.origin + start)
        start += int(part.origin.max()) + 1
    return _Channels(torch.cat(origins), torch.cat([part.scale for part in parts]))


def _widen_convolution(
    narrow: nn.Module, wide: nn.Module, inputs: _Channels, outputs: _Channels, generator: torch.Generator
) -> None:
    """Copy the filters of a convolution; each input's weight is shared among its copies."""
    assert isinstance(narrow, nn.Conv2d | nn.ConvTranspose2d)
    assert isinstance(wide, nn.Conv2d | nn.ConvTranspose2d)
    transposed = isinstance(narrow, nn.ConvTranspose2d)
    old = narrow.weight.transpose(0, 1) if transposed else narrow.weight
    spread = torch.rand(len(outputs.origin), len(inputs.origin), generator=generator) * 2 - 1
    parts = 1 + SHARE_SPREAD * spread
    sums = torch.zeros(len(outputs.origin), old.shape[1]).index_add_(1, inputs.origin, parts)
    # An input that carries a factor is divided by it; an output that shall carry one is multiplied.
    shares = parts / sums[:, inputs.origin] / inputs.scale * outputs.scale[:, None]
    new = old[outputs.origin][:, inputs.origin] * shares[:, :, None, None]
    wide.weight.copy_(new.transpose(0, 1) if transposed else new)
    if narrow.bias is not None and wide.bias is not None:
        wide.bias.copy_(narrow.bias[outputs.origin] * outputs.scale)
