"""The course from the command line: python -m normcourse lab"""

import argparse
import sys

COMMANDS = {
    "lab": "在 JupyterLab 里打开课程 · open the course in JupyterLab",
    "grade": "用隐藏测试评分（教师） · grade submissions with the hidden tests (instructors)",
    "claims": "流行的说法，逐条测量 · popular claims, measured one by one",
    "record": "重做预先跑好的长实验 · repeat the recorded long runs",
}


def main(given=None):
    for stream in (sys.stdout, sys.stderr):  # a console that has no Chinese shows a "?", and goes on
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    given = sys.argv[1:] if given is None else list(given)
    command, rest = (given[0], given[1:]) if given and given[0] in COMMANDS else (None, given)
    if command == "grade":
        from .grade.__main__ import run

        run(rest)
    if command == "claims":
        from .claims.command import main as claims

        return claims(rest)
    if command == "record":
        from .record import main as record

        return record(rest)
    if command == "lab":
        return lab(rest)
    if given:
        parser().parse_args(given)  # --help, or an error that says what is known
    parser().print_help()
    return 2


def parser():
    listing = "\n".join(f"  {name:8}{words}" for name, words in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m normcourse",
        description=f"NormCourse：层归一化和残差连接 · layer normalisation and residual connections\n\n{listing}\n\n"
        "python -m normcourse lab --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="显示这段说明 · show this help")
    parser.add_argument("command", choices=[*COMMANDS], metavar="COMMAND", help=" | ".join(COMMANDS))
    return parser


def lab(given):
    from .lab import CannotOpen, open_lab

    parser = argparse.ArgumentParser(
        prog="python -m normcourse lab",
        description="把 notebook 和练习放进一个文件夹，在 JupyterLab 里打开；你改过的文件不会被覆盖。\n"
        "Puts notebooks and exercises into a folder and opens them in JupyterLab; what you have changed is kept.",
        epilog="别的选项原样交给 JupyterLab · other options go to JupyterLab: --no-browser, --port=8899",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        add_help=False,
    )
    parser.add_argument("-h", "--help", action="help", help="显示这段说明 · show this help")
    parser.add_argument(
        "folder", nargs="?", default="NormCourse", help="放在哪里 · where they go (default: NormCourse)"
    )
    options, rest = parser.parse_known_args(given)
    try:
        open_lab(options.folder, rest)
    except CannotOpen as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
