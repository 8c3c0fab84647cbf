"""`make test-colab`: every notebook and exercise as Colab runs them, every explorer driven as Colab drives it.

Colab's versions (colab.txt), an empty folder, nothing of the repository but the wheel, which the first cell installs.
What Colab's page does is done here over the same messages: a control's new value goes to the kernel, and whatever the
kernel sends before it reports idle is shown. What it sends later from a thread never arrives there, so there must be
none.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

from . import ROOT, version
from .build_colab import build

WHEEL = ROOT / "dist" / f"normcourse-{version()}-py3-none-any.whl"
CELL = 600  # seconds, on a slow and busy machine
PAUSE = 1.5  # seconds in which a late picture would come: longer than drawing one ahead takes


class Page:
    """The page's side of one kernel: runs cells, keeps the state of the widgets, moves controls."""

    def __init__(self, folder, fake):
        environment = {**os.environ, "PYTHONPATH": str(fake), "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(WHEEL.parent)}
        self.manager, self.client = start_new_kernel(kernel_name="python3", cwd=str(folder), env=environment)
        self.models = {}

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def until_idle(self, sent):
        """The messages up to the end of the handler of the message `sent`, those for the widgets applied."""
        found = []
        while True:
            message = self.client.get_iopub_msg(timeout=CELL)
            self._apply(message)
            found.append(message)
            idle = message["msg_type"] == "status" and message["content"]["execution_state"] == "idle"
            if idle and message["parent_header"].get("msg_id") == sent:
                return found

    def later(self, seconds):
        """What still comes after the handler's end, from threads."""
        found, until = [], time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                message = self.client.get_iopub_msg(timeout=left)
            except Exception:  # queue.Empty, under whatever name this version raises it
                break
            self._apply(message)
            found.append(message)
        return found

    def run(self, source):
        return self.until_idle(self.client.execute(source))

    def send(self, model, data):
        message = self.client.session.msg("comm_msg", {"comm_id": model, "data": data})
        self.client.shell_channel.send(message)
        return self.until_idle(message["header"]["msg_id"])

    def right(self, image):
        """Whether the image shows what belongs to where the controls stand."""
        explorers = f"[e for e in gc.get_objects() if isinstance(e, Explorer) and e.image.model_id == {image!r}]"
        messages = self.run(
            "import gc; from normcourse.explore import Explorer\n"
            f"print('right:', *(e.image.value == e.render() for e in {explorers}))"
        )
        printed = "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")
        return "right: True" in printed

    def _apply(self, message):
        content = message["content"]
        if message["msg_type"] == "comm_open" and "state" in content["data"]:
            self.models[content["comm_id"]] = dict(content["data"]["state"])
        elif message["msg_type"] == "comm_msg" and content["data"].get("method") == "update":
            self.models.get(content["comm_id"], {}).update(content["data"]["state"])
        elif message["msg_type"] == "comm_close":
            self.models.pop(content["comm_id"], None)

    def children(self, model):
        return [name.removeprefix("IPY_MODEL_") for name in self.models[model].get("children", ())]

    def explorers(self):
        """(image, [controls]) of every explorer: a VBox of panel, status and image. A Play button moves its slider in
        the page and says nothing to the kernel."""
        button = {model for model, state in self.models.items() if state.get("_model_name") == "PlayModel"}
        for model, state in list(self.models.items()):
            inside = self.children(model) if state.get("_model_name") == "VBoxModel" else []
            if len(inside) == 3 and self.models.get(inside[2], {}).get("_model_name") == "ImageModel":
                yield (
                    inside[2],
                    [
                        next(part for part in self.children(row) if part not in button)
                        for row in self.children(inside[0])
                    ],
                )

    def next_value(self, control):
        """The neighbouring position of a control, as the page would send it."""
        state = self.models[control]
        if "_options_labels" in state:
            return {"index": (state["index"] + 1) % len(state["_options_labels"])}
        if isinstance(state["value"], bool):
            return {"value": not state["value"]}
        if "base" in state:
            factor = state["base"] ** state["step"]
            return {
                "value": state["value"]
                * (factor if state["value"] * factor <= state["base"] ** state["max"] else 1 / factor)
            }
        up = state["value"] + state["step"] <= state["max"] + 1e-9
        return {"value": state["value"] + (state["step"] if up else -state["step"])}


def pictures(messages, image):
    """How often a picture was sent to this image."""
    sent = [m["content"] for m in messages if m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == image]
    return sum(["value"] in content["data"].get("buffer_paths", ()) for content in sent)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A folder with the notebooks in English, and one with a module google.colab; normcourse is not installed."""
    subprocess.run([sys.executable, "-m", "pip", "uninstall", "-q", "-y", "normcourse"], check=True)
    folder, fake = tmp_path_factory.mktemp("colab"), tmp_path_factory.mktemp("fake")
    (fake / "google" / "colab").mkdir(parents=True)
    (fake / "google" / "colab" / "__init__.py").write_text("")
    build(folder, None, WHEEL)
    return folder, fake


BOOKS = sorted(
    p.relative_to(ROOT) for pattern in ("notebooks/*.ipynb", "exercises/*/*.ipynb") for p in ROOT.glob(pattern)
)


@pytest.mark.parametrize("name", BOOKS, ids=lambda name: f"{name.parts[0]}-{name.stem}")
def test_in_colab(name, place, tmp_path):
    folder, fake = place
    book = nbformat.read(folder / "en" / name, as_version=4)
    page, failed = Page(tmp_path, fake), []
    try:
        page.run("import google.colab")
        for cell in book.cells:
            if cell.cell_type == "code":
                errors = [m["content"] for m in page.run(cell.source) if m["msg_type"] == "error"]
                failed += [(e["ename"], e["evalue"], cell.source) for e in errors]
        assert not failed, failed  # in a fresh exercise neither: what is not written yet is said, not raised
        page.run("import normcourse; print(normcourse.__file__)")
        explorers = list(page.explorers())
        shown = sum(
            "explore(" in cell.source and "def " not in cell.source.split("explore(")[-1] for cell in book.cells
        )
        assert explorers or not shown or name.parts[0] == "exercises"
        page.later(PAUSE)
        for image, controls in explorers:
            for control in controls:
                messages = page.send(
                    control, {"method": "update", "state": page.next_value(control), "buffer_paths": []}
                )
                late = page.later(PAUSE)
                where = f"{page.models[control].get('description')!r}"
                shown = pictures(messages, image) or page.right(image)  # the same picture is not sent again
                assert shown, f"{where}: no picture before the handler ended"
                assert not [m for m in late if m["msg_type"].startswith("comm")], f"{where}: something came afterwards"
        print(f"{name.stem}: {len(explorers)} explorers, {sum(len(c) for _, c in explorers)} controls")
    finally:
        page.close()


def test_a_picture_that_comes_too_late_would_be_seen(place, tmp_path):
    """Without a module google.colab a picture not drawn ahead is sent by a thread, after the handler's end."""
    _, fake = place
    page = Page(tmp_path, fake)
    code = """
import time
import pandas
from normcourse.explore import explore

def slow(far=0):
    time.sleep(0.5)
    return pandas.DataFrame({"y": [far]})

explore(slow, lambda frame, ax: ax.plot(frame["y"]), far=(0, 1000))
"""
    try:
        page.run(code)
        ((image, (control,)),) = page.explorers()
        page.later(PAUSE)
        messages = page.send(control, {"method": "update", "state": {"value": 700}, "buffer_paths": []})
        assert pictures(messages, image) == 0 and pictures(page.later(3 * PAUSE), image) == 1
    finally:
        page.close()


def test_the_course_came_from_the_wheel_and_torch_was_left_alone():
    run = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "--no-deps", f"normcourse=={version()}"]
    said = subprocess.run(run, capture_output=True, text=True, check=True, cwd=Path.home()).stdout
    assert "already satisfied" in said and str(ROOT / ".venv-colab") in said
    pinned = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line.startswith("torch==")]
    frozen = subprocess.run([sys.executable, "-m", "pip", "freeze"], capture_output=True, text=True, check=True).stdout
    assert any(line.split("+")[0] == pinned[0] for line in frozen.splitlines())
