PYTHON ?= python3
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

lab: $(LAB)      ## open the course in JupyterLab (sets up everything on first use)
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(LAB_OPTIONS)

test: $(TEST) $(VENV)/.browser $(VENV)/.sandbox lint   ## everything that guards the course: about 10 minutes
	$(BIN)/pytest tests --artefacts artefacts
	$(BIN)/pytest --nbval --nbval-cell-timeout 120 -p no:cacheprovider $(NOTEBOOKS) $(SOLUTIONS)

check: $(TEST) $(VENV)/.sandbox lint   ## the quick inner loop: no browser, no notebook runs
	$(BIN)/pytest tests -m "not slow" -q

lint: $(TEST)    ## ruff over code and notebooks
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

notebooks: $(LAB)   ## run notebooks/source/*.md into notebooks/*.ipynb with outputs (ONLY=01 for one)
	$(BIN)/python -m tests.build_notebooks $(ONLY)

exercises: $(TEST)   ## run solutions/source/*.md into solutions/, and let nbgrader write exercises/ from them (ONLY=03 for one)
	$(BIN)/python -m tests.build_exercises $(ONLY)

student:         ## student/normcourse.zip to hand out: notebooks, exercises, package; nothing of the solutions
	$(PYTHON) -m tests.build_student

grade: $(LAB) $(VENV)/.sandbox   ## grade a folder or zip of submissions (SUBMISSIONS=..., three samples by default) into GRADES=grades
	$(BIN)/python -m normcourse.grade "$(SUBMISSIONS)" --out "$(GRADES)" $(GRADE_OPTIONS)

html: $(TEST)    ## the notebooks as web pages in html/, to read without a kernel
	$(BIN)/jupyter nbconvert --to html --TemplateExporter.extra_template_basedirs=notebooks --template html_template --output-dir html $(NOTEBOOKS)

record: $(LAB)   ## repeat the recorded long runs (about two hours on two cores; ONLY=warmup for one)
	$(BIN)/python -m normcourse.record $(ONLY)

bench-sliders: $(TEST) $(VENV)/.browser ## key press to changed pixels, beside plain interact
	$(BIN)/python -m tests.bench_sliders

bench-grade: $(TEST) $(VENV)/.sandbox   ## the judge beside nbgrader's autograder: 50 submissions each, then 2000
	$(BIN)/python -m tests.bench_grade

bench-import: $(LAB)   ## what `import normcourse` adds to `import torch`
	$(BIN)/python -m tests.bench_import

bench-fused: $(LAB)    ## the fused kernels beside torch, Liger-Kernel and quack (needs a GPU; OPTIONS="--dtype bf16 --size 4096")
	$(BIN)/python -m tests.bench_fused $(OPTIONS)

font: $(TEST)    ## make the subset font again (needs Debian's fonts-noto-cjk)
	$(BIN)/pip install -q fonttools -c constraints.txt && $(BIN)/python normcourse/data/font/make_font.py

clean:           ## remove the environment and everything generated outside version control
	rm -rf $(VENV) artefacts html student *.egg-info .pytest_cache .ruff_cache .hypothesis

# torch first and pinned: a plain `pip install torch` may bring several gigabytes of CUDA libraries
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit(f"NormCourse needs Python 3.10 or newer, this is {sys.version.split()[0]}: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q "$$(grep -i '^torch==' constraints.txt)" -c constraints.txt
	@touch $@

$(LAB): $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q -e ".[lab]" -c constraints.txt
	@touch $@

$(TEST): $(LAB)
	$(BIN)/pip install -q -e ".[lab,test]" -c constraints.txt
	@touch $@

# The browser tests need Chromium and a Chinese system font; on Debian and Ubuntu as root they are installed here.
$(VENV)/.browser: $(TEST)
	sh tests/install_browser.sh
	@touch $@

# Learners' code is graded in a bubblewrap sandbox; on Debian and Ubuntu as root it is installed here.
$(VENV)/.sandbox: $(VENV)/.torch
	sh tests/install_sandbox.sh
	@touch $@

.PHONY: help lab test check lint notebooks exercises student html record bench-sliders bench-import bench-fused font clean grade bench-grade
.DEFAULT_GOAL := help
