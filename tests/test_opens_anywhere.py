"""The course opens on any ordinary machine: pins, wheel, `python -m normcourse lab`, the cell that installs."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import types
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath, PureWindowsPath

import nbformat
import pytest
import yaml
from IPython.core.inputtransformer2 import TransformerManager

from normcourse import lab
from tools import ROOT, build_colab, build_student, lock, pyproject, repository, stamp, version

PLATFORMS = ["x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin", "x86_64-pc-windows-msvc"]
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def resolve(platform, python, constraints):
    """uv's answer for another machine: it reads the index, not what this machine has, and downloads no package."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "--all-extras", "-q"]
    command += ["-c", str(constraints), "--python-platform", platform, "--python-version", python]
    command += ["--only-binary", ":all:", "--no-header", "--no-annotate"]
    plain = {k: v for k, v in os.environ.items() if k not in ("UV_FIND_LINKS", "UV_CONSTRAINT", "UV_OVERRIDE")}
    plain["MACOSX_DEPLOYMENT_TARGET"] = "14.0"
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=plain)


@pytest.fixture(scope="module")
def resolved():
    """The answer for every platform and Python; they wait for the index, so several at a time."""
    machines = [(platform, python) for platform in PLATFORMS for python in PYTHONS]
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(machines, pool.map(lambda machine: resolve(*machine, lock.LOCK), machines)))


@pytest.mark.slow
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", PLATFORMS)
def test_all_extras_resolve_with_the_pins(platform, python, resolved):
    run = resolved[platform, python]
    assert run.returncode == 0, run.stderr
    found = dict(line.split("==") for line in run.stdout.split() if "==" in line)
    pins = {pinned for line in lock.LOCK.read_text().splitlines() if (pinned := line.split(";")[0].strip())}
    assert {f"{name}=={number}" for name, number in found.items()} <= pins
    assert ("triton" in found) == ("linux" in platform)


@pytest.mark.slow
def test_a_wrong_pin_is_found(tmp_path):
    wrong = tmp_path / "constraints.txt"
    wrong.write_text(re.sub(r"^triton==\S+", "triton==3.9.0", lock.LOCK.read_text(), flags=re.M))
    run = resolve(PLATFORMS[0], "3.12", wrong)
    assert run.returncode and "triton" in run.stderr


def test_the_pins_hold_every_direct_requirement():
    pinned = {re.split(r"[=<>]", line)[0] for line in lock.LOCK.read_text().splitlines()}
    for requirement in lock.requirements(pyproject()["project"]["optional-dependencies"]):
        assert re.match(r"[\w-]+", requirement)[0].lower() in pinned, requirement


def test_the_light_extra_brings_neither_jupyterlab_nor_triton():
    light = " ".join(lock.requirements(["notebook"]))
    assert "ipywidgets" in light and "matplotlib" in light and not re.search("jupyterlab|triton|nbgrader|pytest", light)


@pytest.mark.slow
def test_environment_yml_is_what_pyproject_asks_for_by_conda_forges_names(tmp_path):
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    assert text == lock.environment(), "run `make lock`"
    dependencies = yaml.safe_load(text)["dependencies"]
    names = {re.match(r"[\w-]+", line)[0] for line in dependencies if isinstance(line, str)}
    assert not names & set(lock.CONDA_NAMES) and set(lock.CONDA_NAMES.values()) <= names
    # conda hands the rest to pip as a file of requirements: would pip take it?
    (tmp_path / "requirements.txt").write_text("\n".join(dependencies[-1]["pip"]).replace("-e .", f"-e {ROOT}"))
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "-q"]
    run = subprocess.run([*command, "-r", "requirements.txt"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


# the wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with what the wheel installs, and an environment in which Python finds it before anything else."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder, {**os.environ, "PYTHONPATH": str(folder)}


def test_the_wheel_is_small_and_carries_the_course(wheel):
    assert wheel.stat().st_size <= 4_000_000
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.*")]:
        assert f"normcourse/course/{path.relative_to(ROOT).as_posix()}" in names
    for name in (
        "py.typed",
        "data/font/NormCourseSans.otf",
        "data/text/tang_300.txt",
        "chapters/pre_and_post_norm/recorded/warmup.csv",
    ):
        assert f"normcourse/{name}" in names
    assert not [name for name in names if name.startswith(("tests/", "tools/", "solutions/"))]


def test_the_notebooks_in_the_wheel_lack_nothing_but_stored_pictures(wheel):
    def told(notebook):
        """All but the pictures."""
        for cell in notebook.cells:
            for output in cell.get("outputs", ()):
                output.get("data", {}).pop("image/png", None)
                output.get("metadata", {}).pop("image/png", None)
        return notebook

    with zipfile.ZipFile(wheel) as held:
        for path in ROOT.glob("notebooks/*.ipynb"):
            text = held.read(f"normcourse/course/notebooks/{path.name}").decode()
            assert "image/png" not in text
            assert nbformat.reads(text, 4) == told(nbformat.read(path, 4))


def test_installing_the_wheel_brings_no_torch_where_one_is(wheel):
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "-q", "--report", "-", str(wheel)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert {entry["metadata"]["name"] for entry in json.loads(run.stdout)["install"]} <= {"normcourse"}


def test_the_names_in_the_wheel_are_possible_on_windows(wheel):
    names = [PurePosixPath(name) for name in zipfile.ZipFile(wheel).namelist()]
    for part in {part for name in names for part in name.parts}:
        assert not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), part
        assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", part), part
    assert len({str(name).lower() for name in names}) == len(names)
    assert max(len(str(name)) for name in names) < 100  # of the 260 that Windows allows for a whole path


@pytest.mark.slow
def test_lab_serves_the_course_from_the_wheel_alone_and_keeps_what_was_edited(installed, tmp_path):
    folder, environment = installed
    environment = environment | {"JUPYTER_CONFIG_DIR": str(tmp_path / "config"), "JUPYTER_NO_CONFIG": "1"}
    empty = tmp_path / "empty"
    empty.mkdir()
    notebook = empty / "NormCourse" / "notebooks" / "00_start_here.ipynb"
    for start in ("first", "second"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [sys.executable, "-m", "normcourse", "lab", "--no-browser", f"--port={port}"]
        command += ["--IdentityProvider.token=", "--ServerApp.port_retries=0"]
        with (tmp_path / f"{start}.log").open("w") as log:
            server = subprocess.Popen(command, cwd=empty, env=environment, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while True:
                try:
                    address = f"http://127.0.0.1:{port}/api/contents/notebooks/00_start_here.ipynb"
                    served = json.load(urllib.request.urlopen(address))["content"]
                    break
                except OSError:
                    said = (tmp_path / f"{start}.log").read_text()
                    assert server.poll() is None and time.monotonic() < deadline, said
                    time.sleep(0.2)
            server.send_signal(signal.SIGINT)
            assert server.wait(60) == 0
        finally:
            server.kill()
        if start == "first":
            assert len(served["cells"]) > 5
            edited = nbformat.read(notebook, as_version=4)
            edited.cells[1].source = "my own words"
            nbformat.write(edited, notebook)
    assert "my own words" in json.dumps(served)
    assert (empty / "NormCourse" / "exercises" / "03_layer_normalisation").is_dir()
    code = "import normcourse.lab; print(normcourse.lab.COURSE)"
    run = subprocess.run([sys.executable, "-c", code], cwd=empty, env=environment, capture_output=True, text=True)
    assert run.stdout.strip() == str(folder / "normcourse" / "course")


# the zip for a class


@pytest.fixture
def unpacked(tmp_path):
    """A course as from "Download ZIP": no git, one file gone, one older than any zip can say."""
    root = tmp_path / "course"
    for part in build_student.HANDED_OUT:
        target = root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / part).is_file():
            target.write_text("")
        else:
            target.mkdir()
            (target / "kept").write_text(part)
            (target / "__pycache__").mkdir()
            (target / "__pycache__" / "left.pyc").write_text("")
            (target / ".ipynb_checkpoints").mkdir()
            (target / ".ipynb_checkpoints" / "left.ipynb").write_text("")
    os.utime(root / "README.md", (0, 0))
    return root


def test_the_student_zip_needs_no_git_no_dates_and_no_clean_tree(unpacked, tmp_path):
    (unpacked / "docs" / "kept").unlink()
    path = build_student.build(tmp_path / "out", unpacked)
    names = zipfile.ZipFile(path).namelist()
    assert "normcourse/README.md" in names and "normcourse/notebooks/kept" in names
    assert not [name for name in names if "left" in name or "docs" in name]
    before = path.read_bytes()
    os.utime(unpacked / "LICENSE", (1e9, 1e9))
    assert build_student.build(tmp_path / "out", unpacked).read_bytes() == before


def test_the_student_zip_says_what_is_missing_altogether(unpacked, tmp_path):
    (unpacked / "LICENSE").unlink()
    with pytest.raises(FileNotFoundError, match="LICENSE 不在了.*is not there"):
        build_student.build(tmp_path / "out", unpacked)


# the learner's folder


@pytest.fixture
def course(tmp_path):
    folder = tmp_path / "course"
    (folder / "notebooks").mkdir(parents=True)
    (folder / "exercises" / "01_a").mkdir(parents=True)
    (folder / "notebooks" / "00_start_here.ipynb").write_text("start")
    (folder / "exercises" / "01_a" / "01_a.ipynb").write_text("exercise")
    return folder


def test_a_folder_gets_what_it_lacks_and_only_that(course, tmp_path):
    mine = tmp_path / "mine"
    first = lab.put(mine, course)
    assert first == {"notebooks/00_start_here.ipynb": "new", "exercises/01_a/01_a.ipynb": "new"}
    assert lab.put(mine, course) == {}
    (mine / "notebooks" / "00_start_here.ipynb").unlink()
    assert lab.put(mine, course) == {"notebooks/00_start_here.ipynb": "new"}


def test_a_new_version_replaces_what_was_not_touched_and_lies_beside_what_was(course, tmp_path, monkeypatch):
    mine = tmp_path / "mine"
    lab.put(mine, course)
    (mine / "exercises" / "01_a" / "01_a.ipynb").write_text("my answer")
    assert lab.put(mine, course) == {}
    (course / "notebooks" / "00_start_here.ipynb").write_text("start, better")
    (course / "exercises" / "01_a" / "01_a.ipynb").write_text("exercise, better")
    monkeypatch.setattr(lab, "__version__", "0.2.0")
    beside = "exercises/01_a/01_a (0.2.0).ipynb"
    assert lab.put(mine, course) == {"notebooks/00_start_here.ipynb": "updated", beside: "beside"}
    assert (mine / "exercises" / "01_a" / "01_a.ipynb").read_text() == "my answer"
    assert (mine / beside).read_text() == "exercise, better"
    assert lab.put(mine, course) == {}


def test_nothing_is_written_over_where_the_receipt_is_gone(course, tmp_path):
    mine = tmp_path / "mine"
    lab.put(mine, course)
    (mine / "notebooks" / "00_start_here.ipynb").write_text("mine")
    for receipt in ("", "[]", '{"files": 3}'):
        (mine / lab.RECEIPT).write_text(receipt)
        lab.put(mine, course)
        assert (mine / "notebooks" / "00_start_here.ipynb").read_text() == "mine"


def test_in_the_checkout_itself_nothing_happens(course):
    assert lab.put(course, course) == {} and not (course / lab.RECEIPT).exists()


def test_a_folder_that_cannot_be_is_refused_in_both_languages(course, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "inside"):
        with pytest.raises(lab.CannotOpen, match=r"换一个文件夹.*\n.*give another folder"):
            lab.put(place, course)


def test_the_paths_are_right_on_windows(monkeypatch):
    monkeypatch.setattr(lab, "FIRST", PureWindowsPath("notebooks", "00_start_here.ipynb"))
    monkeypatch.delattr(os, "geteuid", raising=False)
    given = lab.arguments("mine", ["--no-browser"])
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in given and given[-1] == "--no-browser"
    assert not any("allow_root" in argument for argument in given)
    beside = lab.beside(PureWindowsPath(r"C:\Users\me\My Course\03_x.ipynb"), "0.2.0")
    assert str(beside) == r"C:\Users\me\My Course\03_x (0.2.0).ipynb"


def test_modules_of_learners_import_where_there_is_neither_unix_nor_triton():
    code = """
import importlib, sys
for name in ("resource", "fcntl", "pwd", "grp", "termios", "triton", "jupyterlab", "nbgrader"):
    sys.modules[name] = None
import normcourse
for name in normcourse.__all__:
    if name not in ("grade", "fused"):
        importlib.import_module(f"normcourse.{name}")
try:
    import normcourse.fused
except ModuleNotFoundError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 0, run.stderr
    assert "needs triton" in run.stdout and "normcourse[fused]" in run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--help"], ["lab", "--help"], ["record", "--help"], ["grade", "--help"]])
def test_help_is_in_both_languages_and_survives_a_console_without_chinese(arguments):
    command = [sys.executable, "-m", "normcourse", *arguments]
    for encoding in ("utf-8", "cp1252"):
        settings = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
        run = subprocess.run(command, capture_output=True, cwd=ROOT, env=settings)
        said = run.stdout.decode(encoding)
        assert run.returncode == (0 if arguments else 2) and "python -m normcourse" in said and not run.stderr
        assert re.search("[a-z]{4} [a-z]", said) and (encoding == "cp1252" or re.search("[\u4e00-\u9fff]{2}", said))


def test_an_unknown_command_is_refused_by_naming_the_known_ones():
    run = subprocess.run([sys.executable, "-m", "normcourse", "lap"], capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2 and "lab" in run.stderr and "grade" in run.stderr


# the first cell


def stored():
    return sorted(file for pattern in stamp.STORED for file in ROOT.glob(pattern))


def test_every_notebook_begins_with_the_cell_that_installs():
    assert len(stored()) > 20
    for path in stored():
        cell = nbformat.read(path, as_version=4).cells[0]
        assert cell.source == stamp.first_cell().source and not cell.outputs, f"run `make stamp`: {path}"


def test_what_is_installed_is_pinned():
    assert stamp.requirement(None, "1.2.0") == "normcourse==1.2.0"
    wheel = "https://example.org/us/course/releases/download/v1.2.0/normcourse-1.2.0-py3-none-any.whl"
    assert stamp.requirement("https://example.org/us/course", "1.2.0") == f"normcourse @ {wheel}"
    assert stamp.requirement("https://example.org/us/course", "1.2.0", "ab12") == f"normcourse @ {wheel}#sha256=ab12"


@pytest.mark.parametrize("place", ["installed", "colab", "kaggle", "elsewhere"])
def test_the_first_cell_installs_only_in_colab_and_kaggle(place, monkeypatch):
    magics = []
    shell = types.SimpleNamespace(run_line_magic=lambda *given: magics.append(given))
    if place != "installed":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.delenv("KAGGLE_KERNEL_RUN_TYPE", raising=False)
    if place == "kaggle":
        monkeypatch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Interactive")
    if place == "colab":
        monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    code = TransformerManager().transform_cell(stamp.first_cell().source)
    if place == "elsewhere":
        with pytest.raises(ImportError, match=r'^没有装课程[^\n]*pip install "normcourse\[lab\]"$'):
            exec(code, {"get_ipython": lambda: shell})
    else:
        exec(code, {"get_ipython": lambda: shell})
    wanted = ("pip", f'install --no-deps "{stamp.requirement(repository(), version())}"')
    assert magics == ([wanted] if place in ("colab", "kaggle") else [])


def test_stamping_twice_changes_nothing_and_keeps_outputs():
    path = Path(stored()[-1])
    once, twice = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    assert stamp.stamp(twice) == once
    without = nbformat.read(path, as_version=4)
    del without.cells[0]
    for cell in without.cells:
        if cell.cell_type == "code":
            cell.execution_count -= 1
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count -= 1
    assert stamp.stamp(without) == once


# what a release says of itself


def test_the_version_is_the_same_wherever_it_stands():
    assert f"version: {version()}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(rf"^## {re.escape(version())}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert f"normcourse-{version()}-py3-none-any.whl" in (ROOT / "README.md").read_text(encoding="utf-8")


# notebooks for Colab


@pytest.mark.parametrize("language", ["zh", "en"])
@pytest.mark.parametrize(
    "path", [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("exercises/*/*.ipynb")], ids=lambda p: p.stem
)
def test_a_notebook_for_colab_is_in_one_language_with_nothing_relative(path, language):
    repo = "https://github.com/us/course"
    notebook = build_colab.in_one_language(path, language, repo, "ab12")
    whole = nbformat.read(path, as_version=4)
    assert len(notebook.cells) == len(whole.cells)
    prose = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    other = re.compile("[A-Za-z]{3,} [a-z]{3,} [a-z]{3,}" if language == "zh" else "[\u4e00-\u9fff]{4}")
    for before, after in zip([cell.source for cell in whole.cells if cell.cell_type == "markdown"], prose):
        assert "<div lang" not in after
        for target in re.findall(r"\]\(([^)\s]+)\)", after):
            assert target.startswith(("https://", "data:image/", "#")), target
        if "<div lang" in before:
            words = re.sub(
                r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\]\([^)]*\)|<!--.*?-->|“.*?”|^\|.*?$", "", after, flags=re.S | re.M
            )
            assert not other.search(words), f"{other.search(words)[0]!r} in: {words[:200]}"


def test_links_between_notebooks_lead_to_colab_and_become_words_without_an_address():
    path = ROOT / "notebooks" / "01_vanishing_gradients.ipynb"
    link = "[02](02_residual_connections.ipynb)"
    target = "https://colab.research.google.com/github/us/course/blob/gh-pages/colab/en/notebooks/02_residual_connections.ipynb"

    def replaced(link, repo):
        return build_colab.LINK.sub(lambda match: build_colab.absolute(match, path, "en", repo), link)

    assert replaced(link, "https://github.com/us/course") == f"[02]({target})"
    assert replaced(link, None) == "02"
    with pytest.raises(FileNotFoundError, match=r"01_vanishing_gradients.ipynb links to 02_gone.ipynb"):
        replaced("[02](02_gone.ipynb)", None)
