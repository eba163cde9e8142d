"""OpenVINO brings a thread library that does not go with others in one process; its tests have one of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
FILES = ("engines/test_engines.py", "network/test_engine_parity.py", "network/test_striping.py")


@pytest.mark.skipif("UPRNET_TEST_OPENVINO" in os.environ, reason="this is the process of its own")
def test_openvino_passes_in_a_process_of_its_own():
    command = [sys.executable, "-m", "pytest", "-k", "openvino", "-p", "no:cacheprovider", *FILES]
    environment = {**os.environ, "UPRNET_TEST_OPENVINO": "1"}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
