"""python -m normcourse.examine script.py:make_model"""

import argparse
import runpy
import sys
from pathlib import Path

import torch

from ..i18n import LANGUAGES, set_language, text
from . import examine


def main(given=None):
    """Examine what a function of a script returns: a model, or (model, input, …). Prints the report."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    parser = argparse.ArgumentParser(
        prog="python -m normcourse.examine",
        description="把模型前向、反向各跑一次，打印它的接法、每块的数和发现的问题。\n"
        "Runs a model once forward and backward; prints its wiring, numbers block by block, and what is wrong.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="显示这段说明 · show this help")
    parser.add_argument(
        "made",
        metavar="script.py:make_model",
        help="返回 (模型, 输入, …) 的函数 · a function that returns (model, input, …)",
    )
    parser.add_argument("--blocks", help="块的名字，例如 model.layers · name of the blocks, as model.layers")
    parser.add_argument("--language", choices=LANGUAGES, help="zh | en | both")
    parser.add_argument("--save", metavar="FILE.png", help="把图存下来 · save the figure")
    options = parser.parse_args(given)
    if options.language:
        set_language(options.language)
    try:
        model, *inputs = _made(options.made)
        seen = examine(model, *inputs, blocks=options.blocks)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(seen)
    if options.save:
        Path(options.save).write_bytes(seen.plot().png())
    return 1 if len(seen.faults) else 0


def _made(made):
    """The model and its inputs. Raises: ValueError, in both languages, where there is no such script or function."""
    path, colon, name = made.rpartition(":")
    if not colon or not name:
        message = f"要写成 script.py:make_model，给的是 {made}", f"expected script.py:make_model, got {made}"
        raise ValueError(text(*message))
    if not Path(path).is_file():
        raise ValueError(text(f"没有文件 {path}", f"there is no file {path}"))
    sys.path.insert(0, str(Path(path).resolve().parent))
    make = runpy.run_path(path).get(name)
    if not callable(make):
        raise ValueError(text(f"{path} 里没有函数 {name}", f"{path} has no function {name}"))
    result = make()
    result = result if isinstance(result, tuple) else (result,)
    if not isinstance(result[0], torch.nn.Module) or len(result) < 2:
        raise ValueError(text(f"{name} 要返回 (模型, 输入, …)", f"{name} must return (model, input, …)"))
    return result


if __name__ == "__main__":
    sys.exit(main())
