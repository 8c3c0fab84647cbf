"""Part of the wheel's build: notebooks go into it without the pictures stored in their outputs, which would be a third of
its size and which whoever runs a cell sees anyway. Their alt texts, the tables and what is printed stay."""

import json
import shutil
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def without_pictures(text):
    """A notebook's text without its stored pictures."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", ()):
            output.get("data", {}).pop("image/png", None)
            output.get("metadata", {}).pop("image/png", None)
    return json.dumps(notebook, ensure_ascii=False, indent=1) + "\n"


class Pictures(BuildHookInterface):
    """Puts notebooks and exercises where `python -m normcourse lab` looks for them."""

    def initialize(self, version, build_data):
        root, made = Path(self.root), Path(self.directory) / "without-pictures"
        for path in [*root.glob("notebooks/*.ipynb"), *root.glob("exercises/*/*")]:
            place = path.relative_to(root)
            source = path
            if path.suffix == ".ipynb":
                source = made / place
                source.parent.mkdir(parents=True, exist_ok=True)
                source.write_text(without_pictures(path.read_text(encoding="utf-8")), encoding="utf-8")
            build_data["force_include"][str(source)] = f"normcourse/course/{place.as_posix()}"

    def finalize(self, version, build_data, artifact_path):
        shutil.rmtree(Path(self.directory) / "without-pictures", ignore_errors=True)
