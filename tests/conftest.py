import os

import pytest
import torch

if not torch.cuda.is_available():  # before anything imports triton, as parts of torch do
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_addoption(parser):
    parser.addoption("--artefacts", default=None, help="folder for the screenshots of the browser tests")
    parser.addoption("--long", action="store_true", help="the exhaustive sweeps, too: `make test-long`")
    parser.addoption("--seeds", type=int, help="seeds of hidden tests that wrong and honest answers meet (2, long 50)")
    parser.addoption("--positions", type=int, help="random positions of each explorer that are drawn (1, long 20)")


def pytest_configure(config):
    long = config.option.long
    if config.option.seeds is None:
        config.option.seeds = 50 if long else 2
    if config.option.positions is None:
        config.option.positions = 20 if long else 1
    config.addinivalue_line("markers", "long: an exhaustive sweep; only `make test-long` runs it")
    config.addinivalue_line(
        "markers",
        "slow: takes seconds each or many together, or runs notebooks or a browser; `make check` leaves it out",
    )
    config.addinivalue_line("markers", "gpu: needs a CUDA GPU, or says most on one; `make gpu` runs these")
    config.addinivalue_line("markers", "linux: needs make or another thing of Unix")


def pytest_collection_modifyitems(config, items):
    if not config.option.long:
        left_out = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def artefacts(request, tmp_path_factory):
    from pathlib import Path

    given = request.config.getoption("--artefacts")
    folder = Path(given) if given else tmp_path_factory.mktemp("artefacts")
    folder.mkdir(exist_ok=True, parents=True)
    return folder


@pytest.fixture
def notebook_with(monkeypatch):
    """A function that runs cells in a new notebook and gives its shell."""

    def run(*cells):
        from IPython.core.interactiveshell import InteractiveShell
        from traitlets.config import Config

        shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
        monkeypatch.setattr("IPython.get_ipython", lambda: shell)
        for cell in cells:
            result = shell.run_cell(cell, store_history=True)
            assert result.success, (cell, result.error_in_exec)
        return shell

    return run
