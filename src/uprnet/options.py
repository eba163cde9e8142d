"""Which network is used, where it runs, and how: asked the same way by every command, benchmark and measurement.

Nothing here imports torch, so that the command line can show its help at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from uprnet.network.config import Engine, Precision

if TYPE_CHECKING:
    from uprnet.interpolate import Interpolator


@dataclass(frozen=True)
class ComputeOptions:
    """Where a network runs, and how.

    Attributes:
        device: auto, cpu, cuda, cuda:1, mps, ...
        engine: What runs the convolutions; auto takes the fastest. The last three need pip install uprnet[fast].
        precision: Type of the convolutions; auto is fp16 on CUDA devices with tensor cores, and fp32 elsewhere.
        memory: Memory that the work may take, such as 4GiB; a lean share of what is free if left out.
    """

    device: str = "auto"
    engine: Engine = "auto"
    precision: Precision = "auto"
    memory: str | None = None


@dataclass(frozen=True)
class NetworkOptions(ComputeOptions):
    """Which network, where it runs, and how.

    Attributes:
        model: base (better), small (faster), or the path of a weights file.
        compile: Compile the network first, which takes half a minute or more: for long videos on a GPU.
    """

    model: str = "base"
    compile: bool = False

    def interpolator(self, **details: Any) -> Interpolator:
        """Load the network.

        Args:
            details: Further arguments of `Interpolator`: levels, padding.
        """
        from uprnet.interpolate import Interpolator  # torch takes seconds to import: only when it is needed

        return Interpolator(
            self.model,
            self.device,
            engine=self.engine,
            precision=self.precision,
            memory=self.memory,
            compile=self.compile,
            **details,
        )
