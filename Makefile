PYTHON ?= python3
TORCH  ?= default
VENV   := .venv
BIN    := $(VENV)/bin
LAB    := $(VENV)/.lab
TEST   := $(VENV)/.test
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
SOLUTIONS := $(wildcard solutions/*/*.ipynb)
SUBMISSIONS ?= tests/samples
GRADES ?= grades

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*##/\1\t/' | expand -t 20

lab: $(LAB)      ## open the course in JupyterLab (sets up everything on first use; TORCH=cpu for the small CPU build)
	$(BIN)/python -m normcourse lab . $(LAB_OPTIONS)

# Two files beside each other, a thread each; the judge and the browser, which start processes of their own, by themselves.
PAIR  := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile
ALONE := tests/test_judge.py tests/test_browser.py tests/test_predict_in_browser.py

test: $(TEST) $(VENV)/.browser $(VENV)/.sandbox lint   ## everything that guards the course, before merging: under an hour on two quiet cores
	$(PAIR) tests $(ALONE:%=--ignore=%)
	$(PAIR) $(ALONE) --artefacts artefacts
	$(PAIR) --nbval --nbval-cell-timeout 300 -p no:cacheprovider $(NOTEBOOKS) $(SOLUTIONS)

test-long: $(TEST) $(VENV)/.browser $(VENV)/.sandbox   ## before a release: the exhaustive sweeps too (more seeds, positions, sizes; hours)
	$(BIN)/pytest tests --long --artefacts artefacts

check: $(TEST) $(VENV)/.sandbox lint   ## the quick inner loop, minutes: no browser, no notebook runs, no kernels
	$(PAIR) tests -m "not slow" -q --seeds 1

lint: $(TEST)    ## ruff over code and notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

notebooks: $(TEST)   ## run the chapters' lesson.md into notebooks/*.ipynb with outputs (ONLY=01 for one)
	$(BIN)/python -m tools.build_notebooks $(ONLY)

exercises: $(TEST)   ## run solutions/*/exercise.md into notebooks beside them, and let nbgrader write exercises/ from them (ONLY=03 for one)
	$(BIN)/python -m tools.build_exercises $(ONLY)

student:         ## student/normcourse.zip to hand out: notebooks, exercises, package; nothing of the solutions
	$(PYTHON) -m tools.build_student

variants: $(TEST)   ## exercises with constants of each learner's own, for a list of learners IDS=ids.csv, into OUT=variants (ONLY=03 for one)
	$(BIN)/python -m tools.build_variants "$(IDS)" "$(or $(OUT),variants)" $(ONLY)

grade: $(VENV)/.grade $(VENV)/.sandbox   ## grade a folder or zip of submissions (SUBMISSIONS=..., three samples by default) into GRADES=grades
	$(BIN)/python -m normcourse grade "$(SUBMISSIONS)" --out "$(GRADES)" $(GRADE_OPTIONS)

wheel: $(TEST)   ## dist/normcourse-….whl: the package with notebooks and exercises, nothing of the solutions
	$(BIN)/python -m hatchling build -t wheel -d dist

colab: $(TEST)   ## colab/zh and colab/en: notebooks in one language with absolute links (WHEEL=file pins its hash)
	$(BIN)/python -m tools.build_colab $(if $(WHEEL),--wheel $(WHEEL))

test-colab: wheel   ## everything again with the versions that Colab has, in a folder without the repository
	sh tools/install_colab.sh $(PYTHON)
	.venv-colab/bin/python -m pytest -p no:cacheprovider -q tools/try_colab.py

stamp: $(TEST)   ## write address and version into notebooks and README, as pyproject.toml says
	$(BIN)/python -m tools.stamp

lock: $(TEST)    ## pin again for all platforms and Pythons (UPGRADE=1 takes the newest releases)
	$(BIN)/python -m tools.lock $(if $(UPGRADE),--upgrade)

html: $(VENV)/.site   ## each notebook as one web page in html/zh, html/en and html/both, to read without a kernel (ONLY=01 for one)
	$(BIN)/python -m tools.site.page $(ONLY)

site: $(VENV)/.site   ## the whole course as web pages in build/site, zh, en and side by side; up to twenty minutes at first (FULL=1: every position, hours)
	$(BIN)/python -m tools.site $(if $(FULL),--full) $(SITE_OPTIONS)

test-site: site $(VENV)/.browser   ## the built site in a browser with all other hosts blocked: links, sliders, speed, accessibility (axe-core from npm)
	$(BIN)/python -m tools.site.check

record: $(LAB)   ## repeat the recorded long runs (about two hours on two cores; ONLY=warmup for one)
	$(BIN)/python -m normcourse record $(ONLY)

bench-sliders: $(TEST) $(VENV)/.browser ## key press to changed pixels, beside plain interact
	$(BIN)/python -m tools.bench_sliders

bench-grade: $(TEST) $(VENV)/.sandbox   ## the judge beside nbgrader's autograder: 50 submissions each, then 2000
	$(BIN)/python -m tools.bench_grade

bench-examine: $(TEST)   ## what `examine` adds to a forward and backward pass, for ten models
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.bench_examine

bench-import: $(LAB)   ## what `import normcourse` adds to `import torch`
	$(BIN)/python -m tools.bench_import

bench-fused: $(LAB)    ## the fused kernels beside torch, Liger-Kernel and quack (needs a GPU; OPTIONS="--dtype bf16 --size 4096")
	$(BIN)/python -m tools.bench_fused $(OPTIONS)

gpu: $(TEST)     ## the day there is a GPU: the tests marked gpu, then bench-fused (bf16), in eight minutes; artefacts/fused.json to commit
	$(BIN)/python -m tools.gpu $(OPTIONS)

font: $(TEST)    ## make the subset font again (needs Debian's fonts-noto-cjk)
	$(BIN)/pip install -q fonttools -c constraints.txt && $(BIN)/python -m tools.make_font

clean:           ## remove the environment and everything generated outside version control
	rm -rf $(VENV) .venv-colab artefacts build colab dist html student *.egg-info .pytest_cache .ruff_cache .hypothesis

# torch first and pinned: a plain `pip install torch` may bring another release
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit(f"要用 Python 3.11 以上，这是 {sys.version.split()[0]}：make lab PYTHON=python3.12\nNormCourse needs Python 3.11 or newer, this is {sys.version.split()[0]}: make lab PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@sh tools/install_torch.sh $(BIN) $(TORCH)
	@touch $@

$(LAB): $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q -e ".[lab]" -c constraints.txt
	@touch $@

$(TEST): $(LAB)
	$(BIN)/pip install -q -e ".[lab,test]" -c constraints.txt
	@touch $@

$(VENV)/.site: $(TEST)
	$(BIN)/pip install -q -e ".[lab,test,site]" -c constraints.txt
	@touch $@

$(VENV)/.grade: $(LAB)
	$(BIN)/pip install -q -e ".[lab,grade]" -c constraints.txt
	@touch $@

# The browser tests need Chromium and a Chinese system font; on Debian and Ubuntu as root they are installed here.
$(VENV)/.browser: $(TEST)
	sh tools/install_browser.sh
	@touch $@

# Learners' code is graded in a bubblewrap sandbox; on Debian and Ubuntu as root it is installed here.
$(VENV)/.sandbox: $(VENV)/.torch
	sh tools/install_sandbox.sh
	@touch $@

.PHONY: help lab test test-long check lint notebooks exercises variants student wheel colab test-colab stamp lock html site test-site record bench-sliders bench-import bench-fused gpu font clean grade bench-grade bench-examine
.DEFAULT_GOAL := help
