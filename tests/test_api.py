"""The public interface: what `import uprnet` offers."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import uprnet

NAMES = [
    "Interpolator",
    "InvalidInputError",
    "MediaError",
    "ModelConfig",
    "OutputExistsError",
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


def test_a_type_checker_knows_which_names_there_are():
    """With a `__getattr__` that it sees, it would take any name for one of ours."""
    tree = ast.parse(Path(uprnet.__file__).read_text())
    assert not [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "__getattr__"]


def test_importing_the_package_imports_no_torch():
    script = "import sys, uprnet; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
