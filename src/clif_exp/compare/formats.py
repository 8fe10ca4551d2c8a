"""Tables written for the terminal, for Markdown and for LaTeX (booktabs)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from clif_exp.compare.table import MISSING, Cell, Table

if TYPE_CHECKING:
    from rich.console import Console

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "<": "$<$",
    ">": "$>$",
}
_WIDE = 200  # columns where the output is no terminal


def print_tables(tables: Sequence[Table], notes: Sequence[str]) -> None:
    """Print to the terminal; a table too wide for it is continued below."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else _WIDE)
    for table in tables:
        for part in _parts(table, console):
            _print(part, console)
    for note in notes:
        console.print(note, style="dim", highlight=False, markup=False)


def markdown(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return tables in Markdown; notes stand below them."""
    blocks = []
    for table in tables:
        lines = [f"| {' | '.join(map(_plain, table.columns))} |"]
        aligned = ["---"] * table.words + ["---:"] * (len(table.columns) - table.words)
        lines.append(f"| {' | '.join(aligned)} |")
        lines += [f"| {' | '.join(map(_markdown_cell, row))} |" for row in table.rows]
        blocks.append("\n".join(([f"{table.title}:", ""] if table.title else []) + lines))
    blocks += [f"{note}" for note in notes]
    return "\n\n".join(blocks) + "\n"


def csv(table: Table) -> str:
    """Return one table's texts as CSV, without details."""
    import pandas as pd

    rows = [["" if cell.text == MISSING else cell.text for cell in row] for row in table.rows]
    return pd.DataFrame(rows, columns=list(table.columns)).to_csv(index=False)


def latex(tables: Sequence[Table], notes: Sequence[str]) -> str:
    """Return tabulars to `\\input`; they need the package booktabs. Notes are comments."""
    blocks = []
    for table in tables:
        lines = [f"% {table.title}"] if table.title else []
        lines.append(
            rf"\begin{{tabular}}{{{'l' * table.words}{'r' * (len(table.columns) - table.words)}}}"
        )
        heads = " & ".join(map(_escaped, table.columns))
        lines += [r"\toprule", rf"{heads} \\", r"\midrule"]
        lines += [rf"{' & '.join(map(_latex_cell, row))} \\" for row in table.rows]
        blocks.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]))
    blocks.append("\n".join(f"% {note}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def _print(table: Table, console: Console) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Printed
    from rich.text import Text

    title = Text(table.title, style="not italic") if table.title else None
    printed = Printed(title=title, title_justify="left", box=SIMPLE_HEAD)
    for index, head in enumerate(table.columns):
        printed.add_column(Text(_broken(head)), justify="left" if index < table.words else "right")
    above = ""
    for row in table.rows:
        texts = []
        for index, cell in enumerate(row):
            # With two columns of words the first is a heading, which stands once.
            repeated = index == 0 and table.words > 1 and cell.text == above
            text = Text("" if repeated else cell.text, style="bold" if cell.best else "")
            texts.append(
                text.append(f"\n{cell.detail}", style="not bold dim") if cell.detail else text
            )
        printed.add_row(*texts)
        above = row[0].text
    console.print(printed)


def _parts(table: Table, console: Console) -> list[Table]:
    """Cut a table so that each part fits the console; every part repeats the columns of words."""
    front = table.words
    widths = [
        max(
            [
                *map(len, _broken(head).splitlines() or [""]),
                *(max(len(row[i].text), len(row[i].detail)) for row in table.rows),
            ]
        )
        + 3  # padding on both sides, and what separates columns
        for i, head in enumerate(table.columns)
    ]
    room = console.width - sum(widths[:front]) - 2
    parts: list[list[int]] = [[]]
    for index in range(front, len(table.columns)):
        if parts[-1] and sum(widths[i] for i in (*parts[-1], index)) > room:
            parts.append([])
        parts[-1].append(index)
    return [
        Table(
            table.title if number == 0 else "",
            [table.columns[i] for i in (*range(front), *part)],
            [[row[i] for i in (*range(front), *part)] for row in table.rows],
            words=front,
        )
        for number, part in enumerate(parts)
    ]


def _broken(head: str) -> str:
    return head.replace("/", "/\n")


def _plain(text: str) -> str:
    """Return text for Markdown, which would take `<milo>` for a tag."""
    return text.replace("|", r"\|").replace("<", "&lt;").replace("\n", " ")


def _markdown_cell(cell: Cell) -> str:
    text = f"**{cell.text}**" if cell.best else cell.text
    return _plain(f"{text} ({cell.detail})" if cell.detail else text)


def _latex_cell(cell: Cell) -> str:
    text = _escaped(cell.text)
    text = rf"\textbf{{{text}}}" if cell.best else text
    return rf"{text} {{\scriptsize ({_escaped(cell.detail)})}}" if cell.detail else text


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
