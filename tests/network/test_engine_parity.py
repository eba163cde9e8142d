"""Every engine against the golden cases of the reference."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch

from uprnet import load_model
from uprnet.engines import LIBRARIES, attach
from uprnet.network.config import Engine


@pytest.mark.parametrize("engine", [name for name in get_args(Engine) if name != "auto"])
def test_engine_equals_the_reference(golden_case: dict[str, Any], official_file: Any, engine: Any):
    for library in LIBRARIES.get(engine, ()):
        pytest.importorskip(library)
    model = attach(load_model(official_file("base", "module.")), engine)
    settings = {name: golden_case[name] for name in ("t", "num_levels", "skip_finest")}
    with torch.inference_mode():
        result = model(golden_case["img0"], golden_case["img1"], **settings)
    torch.testing.assert_close(result.frame, golden_case["frame"], rtol=0, atol=1e-4)
    flow = torch.cat([result.flow_01, result.flow_10], dim=1)
    torch.testing.assert_close(flow, golden_case["flow"], rtol=0, atol=1e-3)
