"""The public interface: what `import uprnet` offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import uprnet

NAMES = [
    "Interpolator",
    "InvalidInputError",
    "MediaError",
    "ModelConfig",
    "UPRNet",
    "UprnetError",
    "WeightsError",
    "cost_volume",
    "interpolate_images",
    "interpolate_video",
    "load_model",
    "save_model",
    "splat_average",
]


def test_public_names_are_sorted_and_these():
    assert sorted(uprnet.__all__) == uprnet.__all__ == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_name_is_there(name: str):
    assert getattr(uprnet, name).__name__ == name
    assert name in dir(uprnet)


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match="has no attribute 'interpolate_everything'"):
        uprnet.interpolate_everything  # noqa: B018


def test_importing_the_package_imports_no_torch():
    script = "import sys, uprnet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
