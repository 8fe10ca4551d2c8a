"""Compares runs: a table with intervals and paired tests, one page, one file to commit.

Runs that differ in nothing but cast and seed form a group, and a group's means stand in one row.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from clif_exp.compare.run import Run

EXAMPLES = """\
examples:
  python -m clif_exp.compare multirun/method                       a sweep, or runs/ with all runs
  python -m clif_exp.compare multirun/method --baseline clif       paired differences from a group
  python -m clif_exp.compare runs --group-by method --where diffusion.steps=800 --where seed=0,1
  python -m clif_exp.compare runs --metric "multi/*confusion" --metric minutes --format markdown
  python -m clif_exp.compare multirun/method --per-concept attendance
  python -m clif_exp.compare multirun/method --html comparison.html --out table.tex
  python -m clif_exp.compare multirun/method --save experiments/mine/runs.json
  python -m clif_exp.compare experiments/mine/runs.json             such a file reads like a folder
"""
FORMATS = ("table", "csv", "latex", "markdown")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line."""
    options = _parse(arguments)
    if problem := _contradiction(options):
        _refuse(problem)
    import logging

    logging.basicConfig(format="clif_exp: warning: %(message)s", level=logging.WARNING)
    # Heavy libraries are imported by what uses them, and only once the paths hold runs.
    from clif_exp.compare.grouping import select
    from clif_exp.compare.reading import read

    try:
        runs = select(read(options.paths), options.where)
        if options.save is not None:
            from clif_exp.compare.saved import write_saved

            write_saved(options.save, runs)
        _tell(options, _text(options, runs))
        if options.html is not None:
            from clif_exp.compare.page import write_page

            write_page(runs, options.html, title=options.title, images=options.images)
    except (ValueError, OSError) as error:
        _refuse(str(error))
    for file in (options.save, options.out, options.html):
        if file is not None:
            print(f"wrote {file}", file=sys.stderr)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m clif_exp.compare",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="runs, sweeps, folders above them, or files of --save",
    )
    _add_choices(parser.add_argument_group("which runs, and how they are compared"))
    _add_outputs(parser.add_argument_group("what is written"))
    return parser.parse_args(arguments)


def _add_choices(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only runs with this setting, or one of several values: diffusion.rank=4,16"
        " (repeatable, as --group-by and --metric are)",
    )
    group.add_argument(
        "--group-by",
        action="append",
        default=[],
        metavar="KEY",
        help="settings that make a group, such as method, experiment, diffusion.rank or commit"
        " (default: all that differ, but for cast and seed)",
    )
    group.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="as in summary.json, also with *; minutes, memory_mb and seconds/STAGE too",
    )
    group.add_argument(
        "--baseline",
        metavar="GROUP",
        help="compare the other groups with this one, by pairs of runs with the same cast and seed",
    )
    group.add_argument(
        "--per-concept",
        choices=("attendance", "confusion"),
        help="a table of concepts by groups instead, of images of several concepts",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format", choices=FORMATS, help="default: by --out's ending, else a table for terminals"
    )
    group.add_argument("--out", type=Path, metavar="FILE", help="write the table there")
    group.add_argument(
        "--save",
        type=Path,
        metavar="FILE.json",
        help="the runs themselves in one small file to commit, without images and curves",
    )
    group.add_argument("--html", type=Path, metavar="FILE.html", help="the page of the comparison")
    group.add_argument(
        "--images",
        choices=("inside", "beside", "none"),
        default="inside",
        help="where the page's images are (default: inside)",
    )
    group.add_argument("--title", default="Comparison of runs", help="of the page")


def _contradiction(options: argparse.Namespace) -> str | None:
    """Say which options do not go together, or which file's ending tells of another kind."""
    if options.per_concept and options.baseline:
        return "--baseline: a table per concept has no differences; leave one of both out"
    for option, ending in (("save", ".json"), ("html", ".html")):
        file = getattr(options, option)
        if file is not None and file.suffix != ending:
            return f"--{option}: {file} is no {ending} file; name one"
    return None


def _text(options: argparse.Namespace, runs: Sequence[Run]) -> str | None:
    """Return what --out gets or is printed; None: it has been printed for the terminal."""
    from clif_exp.compare.comparison import compare
    from clif_exp.compare.formats import print_tables
    from clif_exp.compare.writing import ENDINGS, tables_of, text_of

    chosen = options.format or (ENDINGS.get(options.out.suffix) if options.out else None) or "table"
    if chosen == "table" and options.out is not None:
        raise ValueError(f"--out: {options.out} is no .csv, .tex or .md file; give --format too")
    found = compare(
        runs,
        by=[key for given in options.group_by for key in given.split(",")],
        metrics=options.metric,
        baseline=options.baseline,
    )
    if chosen != "table":
        return text_of(found, chosen, per_concept=options.per_concept)
    print_tables(*tables_of(found, per_concept=options.per_concept))
    return None


def _tell(options: argparse.Namespace, text: str | None) -> None:
    """Write or print what is not printed yet."""
    if text is not None and options.out is not None:
        from clif_exp.artifacts.files import write_text

        options.out.parent.mkdir(parents=True, exist_ok=True)
        write_text(options.out, text)
    elif text is not None:
        print(text, end="")


def _refuse(message: str) -> NoReturn:
    print(f"clif_exp: error: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    raise SystemExit(main())
