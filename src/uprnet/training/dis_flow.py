"""A teacher of motion where nobody knows the true one: OpenCV's DIS flow, where both its directions agree."""

from dataclasses import replace

import cv2
import numpy as np

from uprnet.training.sample import Flow, Sample

AGREEMENT = (0.5, 0.05)  # pixels, and share of the motion, by which flow there and back may differ


def with_dis_flow(sample: Sample) -> Sample:
    """Add DIS flow both ways; NaN where following it and then the other way does not lead back.

    Args:
        sample: Frames of one size; flow that it has is replaced.

    Returns:
        The sample with ``flow_01`` and ``flow_10``, ``(H, W, 2)`` float32.

    Reference:
        Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016; for teaching by the flow of another
        method: Kong et al., "IFRNet", CVPR 2022.
    """
    first, second = (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in (sample.img0, sample.img1))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    zero = np.zeros((*first.shape, 2), np.float32)
    forth = np.asarray(search.calc(first, second, zero.copy()), np.float32)
    back = np.asarray(search.calc(second, first, zero.copy()), np.float32)
    return replace(sample, flow_01=_agreed(forth, back), flow_10=_agreed(back, forth))


def _agreed(flow: Flow, other: Flow) -> Flow:
    """Keep flow where the ``other`` one leads back to the start, within `AGREEMENT`; NaN elsewhere."""
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    to_x, to_y = x + flow[..., 0], y + flow[..., 1]
    returned = flow + cv2.remap(other, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    is_inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    limit = AGREEMENT[0] + AGREEMENT[1] * np.hypot(flow[..., 0], flow[..., 1])
    is_agreed = is_inside & (np.hypot(returned[..., 0], returned[..., 1]) <= limit)
    return np.where(is_agreed[..., None], flow, np.float32(np.nan))
