#!/bin/sh
# .venv-colab: the versions that Colab has, beside the torch that the course is pinned to. The wheel itself is installed
# by the first cell of a notebook, as there. $1: a Python.
set -e
[ -e .venv-colab/.done ] && [ .venv-colab/.done -nt tools/colab.txt ] && exit 0
rm -rf .venv-colab
"$1" -m venv .venv-colab
.venv-colab/bin/pip install -q "$(grep -i '^torch==' constraints.txt)"
.venv-colab/bin/pip install -q -r tools/colab.txt nbformat pytest "$(grep -i '^triton==' constraints.txt | cut -d' ' -f1)"
touch .venv-colab/.done
