import os

import pytest
import torch

if not torch.cuda.is_available():  # before anything imports triton, as parts of torch do
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser):
    parser.addoption("--artefacts", default=None, help="folder for the screenshots of the browser tests")
    parser.addoption("--seeds", type=int, default=10, help="seeds of hidden tests that wrong and honest answers meet")


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: runs notebooks or a browser; `make check` leaves it out")
    config.addinivalue_line("markers", "linux: needs make or another thing of Unix")


@pytest.fixture(scope="session")
def artefacts(request, tmp_path_factory):
    from pathlib import Path

    given = request.config.getoption("--artefacts")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(exist_ok=True, parents=True)
    return folder
