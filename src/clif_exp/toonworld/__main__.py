"""`python -m clif_exp.toonworld words [KIND]`: what ToonWorld's base models know."""

from __future__ import annotations

import argparse
import textwrap

from clif_exp.toonworld.words import words_by_kind

_SHOWN = 150  # of a kind, unless it is asked for by itself
_MEANING = {
    "relations": "A relation B",
    "unseen": "of casts only: words that are known for looks that no base model has seen",
    "names": "characters of fixed looks; a concept cannot have their names",
    "other": "read in prompts, and allowed as class words; the world has no drawings of them alone",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    kinds = words_by_kind()
    parser = argparse.ArgumentParser(prog="python -m clif_exp.toonworld", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    words = commands.add_parser("words", help="list the words that prompts and class words can use")
    words.add_argument("kind", nargs="?", choices=kinds, help="one kind, whole (default: all)")
    kind = parser.parse_args(arguments).kind
    for name in [kind] if kind else kinds:
        print(_paragraph(name, kinds[name], most=None if kind else _SHOWN))
    return 0


def _paragraph(name: str, words: tuple[str, ...], *, most: int | None) -> str:
    listed = ", ".join(words[:most])
    if most is not None and len(words) > most:
        listed += f", ... ({len(words):,} in all: python -m clif_exp.toonworld words {name})"
    title = f"{name} ({_MEANING[name]}): " if name in _MEANING else f"{name}: "
    return textwrap.fill(title + listed, width=100, subsequent_indent="  ", break_on_hyphens=False)


if __name__ == "__main__":
    raise SystemExit(main())
