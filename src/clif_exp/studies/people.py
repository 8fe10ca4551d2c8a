"""Does the oracle see what a person sees? Images of runs, labelled blind, against its verdicts.

    python -m clif_exp.studies.people draw multirun/table1 multirun/table2 --out experiments/people
    # look at sheets/, fill labels.csv, and commit it before going on
    python -m clif_exp.studies.people compare multirun/table1 multirun/table2 \\
      --labels experiments/people

`draw` takes images of several concepts at random, equally many of each method, and writes
images.json (which they are), sheets/ (to look at: no method, no verdict) and an empty labels.csv.
`compare` writes agreement.json and .md, and disagreements.png.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clif_exp.artifacts.files import file_digest, read_jsonl, write_json, write_text
from clif_exp.compare.grouping import METHOD
from clif_exp.compare.reading import published, read
from clif_exp.compare.run import Run
from clif_exp.errors import report
from clif_exp.reporting.images import Tile, write_grid
from clif_exp.studies.agreement import (
    QUESTIONS,
    agreement,
    methods_table,
    shares_of_yes,
    table,
)

IMAGES, LABELS, SHEETS = "images.json", "labels.csv", "sheets"
_PER_SHEET = 6
_MOST_SHOWN = 12  # disagreements


@dataclass(frozen=True)
class Picture:
    """An image of a run, and what the reader found in it."""

    run: Run
    folder: Path  # of the run's generation
    line: Mapping[str, Any]  # of per_image.jsonl

    @property
    def file(self) -> Path:
        """The PNG."""
        return self.folder / self.line["file"]

    def references(self) -> list[Tile]:
        """Return a reference picture of each named concept."""
        evaluation = published(self.run, "evaluation")
        assert evaluation is not None, "its verdicts were read from there"
        return [
            Tile(evaluation / "references" / name / "0.png", f"<{name}>")
            for name in self.line["concepts"]
        ]

    def verdicts(self) -> dict[str, dict[str, int]]:
        """Return concept -> question -> the reader's answer."""
        judged = self.line["judgement"]
        leaked = {pair.split(">")[0] for pair, (count, _) in judged["leaks"].items() if count}
        return {
            name: {
                "present": int(name in judged["present"]),
                "intact": int(name in judged["intact"]),
                "leaked": int(name in leaked),
            }
            for name in self.line["concepts"]
        }


def pictures(runs: Sequence[Run]) -> dict[str, Picture]:
    """Return every judged image of several concepts by the digest of its file."""
    found: dict[str, Picture] = {}
    for run in runs:
        evaluation, generation = published(run, "evaluation"), published(run, "generation")
        if evaluation is None or generation is None:
            continue
        for line in read_jsonl(evaluation / "per_image.jsonl"):
            if line["group"] == "multi" and line.get("judgement"):
                picture = Picture(run, generation, line)
                found.setdefault(file_digest(picture.file).hex(), picture)
    if not found:
        raise ValueError(
            "no run has judged images of several concepts; give runs whose store (artifacts.root)"
            " is still there"
        )
    return found


def draw(runs: Sequence[Run], out: Path, *, count: int, seed: int) -> None:
    """Draw images at random, equally many of each method, and write what a person needs.

    Args:
        runs: whose images are drawn.
        out: folder.
        count: of images.
        seed: of the choice.

    Raises:
        ValueError: there are not as many images, or `out` holds labels of others.
    """
    by_method: dict[str, list[str]] = {}
    known = pictures(runs)
    for digest in sorted(known):
        by_method.setdefault(str(known[digest].run.settings[METHOD]), []).append(digest)
    rng = random.Random(seed)
    chosen = []
    for place, method in enumerate(sorted(by_method)):
        share = count // len(by_method) + (place < count % len(by_method))
        if share > len(by_method[method]):
            raise ValueError(
                f"--count: found {count}, but {method} has only {len(by_method[method])} images;"
                " lower it, or give more runs"
            )
        chosen += rng.sample(by_method[method], share)
    rng.shuffle(chosen)
    # The method stands in images.json only by the digest: whoever labels must not know it.
    entries = [
        {
            "id": f"{place:03d}",
            "image": digest,
            "prompt": known[digest].line["prompt"],
            "concepts": known[digest].line["concepts"],
        }
        for place, digest in enumerate(chosen, start=1)
    ]
    drawn = {"seed": seed, "images": entries}
    _refuse_other_labels(out, drawn)
    shutil.rmtree(out / SHEETS, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / IMAGES, drawn)
    for start in range(0, len(entries), _PER_SHEET):
        some = entries[start : start + _PER_SHEET]
        rows = [
            (
                f"{entry['id']}: {entry['prompt']}",
                [*known[entry["image"]].references(), Tile(known[entry["image"]].file)],
            )
            for entry in some
        ]
        write_grid(out / SHEETS / f"{some[0]['id']}.png", rows, side=220, label=150)
    if not (out / LABELS).exists():
        lines = io.StringIO()
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["id", "concept", *QUESTIONS, "note"])
        for entry in entries:
            writer.writerows(
                [entry["id"], name, *[""] * (len(QUESTIONS) + 1)] for name in entry["concepts"]
            )
        write_text(out / LABELS, lines.getvalue())


def _refuse_other_labels(folder: Path, drawn: Mapping[str, Any]) -> None:
    file = folder / IMAGES
    if (folder / LABELS).exists() and (not file.exists() or json.loads(file.read_text()) != drawn):
        raise ValueError(
            f"{folder / LABELS} holds labels of other images; choose another --out, or remove it"
        )


def read_labels(folder: Path) -> dict[tuple[str, str], dict[str, int]]:
    """Return (id, concept) -> question -> the rater's answer.

    Raises:
        ValueError: names the line whose answer is neither 0 nor 1.
    """
    file = folder / LABELS
    found = {}
    with file.open(newline="", encoding="utf-8") as opened:
        for number, row in enumerate(csv.DictReader(opened), start=2):
            answers = {question: (row.get(question) or "").strip() for question in QUESTIONS}
            for question, answer in answers.items():
                if answer not in ("0", "1"):
                    raise ValueError(
                        f"{file}: line {number}: {question}: found {answer!r}; write 1 for yes, 0"
                        f" for no ({QUESTIONS[question]})"
                    )
            found[row["id"], row["concept"]] = {q: int(answer) for q, answer in answers.items()}
    return found


def compare(runs: Sequence[Run], folder: Path) -> None:
    """Compare a rater's labels with the reader's verdicts, and show where they differ.

    Args:
        runs: those that the images were drawn from.
        folder: holds images.json and labels.csv.

    Raises:
        ValueError: a label is missing, or an image is not among the runs'.
    """
    known, labels = pictures(runs), read_labels(folder)
    entries = json.loads((folder / IMAGES).read_text())["images"]
    if lacking := [entry["id"] for entry in entries if entry["image"] not in known]:
        raise ValueError(
            f"{folder / IMAGES}: image {lacking[0]} is none of these runs'; give those that it was"
            " drawn from"
        )
    for entry in entries:
        for name in entry["concepts"]:
            if (entry["id"], name) not in labels:
                raise ValueError(
                    f"{folder / LABELS}: has no line of image {entry['id']}, {name}; add it"
                )
    answers: dict[str, list[list[tuple[int, int]]]] = {question: [] for question in QUESTIONS}
    by_method: dict[str, dict[str, list[tuple[int, int]]]] = {}
    differing = []
    for entry in entries:
        verdicts = known[entry["image"]].verdicts()
        method = str(known[entry["image"]].run.settings[METHOD])
        for question, of_images in answers.items():
            pairs = [(labels[entry["id"], n][question], verdicts[n][question]) for n in verdicts]
            of_images.append(pairs)
            by_method.setdefault(method, {}).setdefault(question, []).extend(pairs)
        wrong = [
            f"{name} {question}: rater {labels[entry['id'], name][question]}"
            for name, verdict in verdicts.items()
            for question, value in verdict.items()
            if labels[entry["id"], name][question] != value
        ]
        if wrong:
            differing.append((entry, wrong))
    found = {question: agreement(of_images) for question, of_images in answers.items()}
    shares = {
        method: {question: shares_of_yes(pairs) for question, pairs in of.items()}
        for method, of in sorted(by_method.items())
    }
    written = {"images": len(entries), "questions": found, "methods": shares}
    write_json(folder / "agreement.json", written)
    write_text(folder / "agreement.md", table(found) + "\n" + methods_table(shares))
    _show(folder / "disagreements.png", differing, known)


def _show(
    file: Path,
    differing: Sequence[tuple[Mapping[str, Any], Sequence[str]]],
    known: Mapping[str, Picture],
) -> None:
    rows = []
    for entry, wrong in differing[:_MOST_SHOWN]:
        picture = known[entry["image"]]
        tiles = [*picture.references(), Tile(picture.file)]
        rows.append((f"{entry['id']}: {entry['prompt']}. {'; '.join(wrong)}", tiles))
    write_grid(file, rows, label=150)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and run one of the two; a user's error is one line and code 2."""
    parser = argparse.ArgumentParser(
        "python -m clif_exp.studies.people",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    drawing = commands.add_parser("draw", help="choose images and write what a person needs")
    drawing.add_argument("runs", type=Path, nargs="+", help="folders of runs or sweeps")
    drawing.add_argument("--out", type=Path, required=True)
    drawing.add_argument("--count", type=int, default=120)
    drawing.add_argument("--seed", type=int, default=0, help="of the choice")
    comparing = commands.add_parser("compare", help="compare labels with the oracle's verdicts")
    comparing.add_argument("runs", type=Path, nargs="+", help="those that they were drawn from")
    comparing.add_argument("--labels", type=Path, required=True, help="folder of `draw`")
    options = parser.parse_args(arguments)
    try:
        if saved := [path for path in options.runs if path.is_file()]:
            raise ValueError(
                f"{saved[0]}: a file of runs holds no images; give the folders of the runs, as"
                " multirun/table1"
            )
        runs = read(options.runs)
        if options.command == "draw":
            draw(runs, options.out, count=options.count, seed=options.seed)
        else:
            compare(runs, options.labels)
    except (ValueError, OSError) as error:
        return report(error, memory="Give fewer runs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
