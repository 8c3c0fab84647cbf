"""Whose a submission is, from the names that Moodle, Canvas and Blackboard give to what instructors download.

Moodle   mod/assign/classes/downloader.php: the full name or "Participant" or the group's name, all without underscores,
         then the number of the participant or the group ("Default group" has none), then "_assignsubmission_file",
         with one more underscore in some versions; as a folder, or before the file's name.
Canvas   lib/content_zipper.rb (`get_filename`, `add_upload_submission`): the sortable name in lower case and without
         spaces, in which underscores stay, or the group's name; "LATE"; the user's number, or "anon_" and a code; the
         file's number; the file's name. In place of the last two a text entry has "text.html", an address "link.html".
Blackboard  the assignment's title, the user name (or the group's), "attempt", the time, the file's name: as in the help
         of nbgrader's FileNameCollectorPlugin. The .txt without a file's name is what Blackboard says of the attempt.
"""

import itertools
import re
from pathlib import PurePosixPath

MOODLE = re.compile(r"(?P<learner>[^/_]+)(?:_(?P<id>\d+))?_assignsubmission_(?:file|onlinetext)_?")
CANVAS = re.compile(
    r"(?:LATE_)?(?P<anonymous>anon_[0-9A-Za-z]+)_(?:\d+_.+|(?:text|link)\.html)"
    r"|(?P<learner>[^\s/A-Z]+?)_(?:LATE_)?(?P<id>\d+)_(?:\d+_.+|(?:text|link)\.html)"
)
BLACKBOARD = re.compile(r"(?P<head>.+?)_attempt_\d{4}(?:-\d\d){5}(?:_.*|\.txt)")


def parts_of(path):
    return [part for part in re.split(r"!?/", path) if part]


def usernames(path):
    """All that may be the Blackboard user name in a path: it and the assignment's title may have underscores."""
    for part in parts_of(path):
        if found := BLACKBOARD.fullmatch(part):
            words = found["head"].split("_")
            return ["_".join(words[i:]) for i in range(1, len(words))]
    return []


def _common_start(texts):
    return "".join(letters[0] for letters in itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*texts)))


class Layout:
    """Who handed in what, from where it lies. Only the outermost name is believed, the one that a system or the
    instructor gave: what is in a zip or a folder somebody handed in is named by that learner.

    Args: paths: of all files. assignments: names of exercises.
    """

    def __init__(self, paths, assignments):
        self.assignments = assignments
        split = [parts_of(path) for path in paths]
        self.wrapper = self._common(split)
        heads = {found["head"] for parts in split if (found := BLACKBOARD.fullmatch(self._outermost(parts)))}
        self._title = _common_start(heads).rpartition("_")[0] if len(heads) > 1 else ""
        self._with_notebook = {self.whose(path) for path in paths if path.lower().endswith(".ipynb")}

    def whose(self, path):
        """(learner, id, system). The id is "" where the name holds none that a system would know."""
        parts = parts_of(path)
        for part in parts[: self.wrapper + 1]:
            if found := MOODLE.match(part):
                return found["learner"].strip(), found["id"] or "", "moodle"
        if found := BLACKBOARD.fullmatch(self._outermost(parts)):
            head = found["head"]
            name = head[len(self._title) + 1 :] if self._title else head.rpartition("_")[2]
            return name, name, "blackboard"
        if found := CANVAS.fullmatch(self._outermost(parts)):
            return found["learner"] or found["anonymous"], found["id"] or "", "canvas"
        folders = [part for part in parts[self.wrapper : -1] if not self._is_assignment(part)]
        if folders:
            return folders[0].removesuffix(".zip"), "", ""
        stem = PurePosixPath(parts[-1]).stem
        for assignment in self.assignments:  # "03_layer_normalisation_张三.ipynb"
            stem = re.sub(rf"[-_ ]*{re.escape(assignment)}[-_ ]*", "", stem) or stem
        return stem, "", ""

    def lies_beside(self, path, notebooks):
        """Whether a file came with a notebook: in the same learner's folder, or under the same name of a system."""
        whose = self.whose(path)
        if whose[2] and whose in self._with_notebook:
            return True
        folder = str(PurePosixPath(path).parent)
        own = len(parts_of(folder)) > self.wrapper and not folder.endswith("!")
        return own and folder != "." and any(notebook.startswith(f"{folder}/") for notebook in notebooks)

    def _outermost(self, parts):
        return parts[min(self.wrapper, len(parts) - 1)]

    def _common(self, split):
        """How many leading folders all paths have in common, such as that of the course; a learner's own is not
        counted."""
        if len(split) < 2:
            return max(len(split[0]) - 1, 0) if split and any(map(MOODLE.match, split[0])) else 0
        columns = itertools.takewhile(lambda names: len(set(names)) == 1, zip(*(parts[:-1] for parts in split)))
        common = len(list(columns))
        own = [parts[common:] for parts in split if parts[-1].lower().endswith(".ipynb")]
        if own and all(self._is_assignment(part) for parts in own for part in parts):
            return max(common - 1, 0)
        return common

    def _is_assignment(self, name):
        return any(PurePosixPath(name).stem == assignment for assignment in self.assignments)
