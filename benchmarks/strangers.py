r"""Do strangers put on the concepts' clothes? Prompts without a concept, before and after.

python -m clif_exp +experiment=study method=clif seed=0 name=strangers
python benchmarks/strangers.py multirun/strangers multirun/table2 --out experiments/strangers
python benchmarks/strangers.py multirun/base_model --baseline mix_only --out strangers
python benchmarks/strangers.py multirun/guidance_scale --out strangers --baseline 3.0 \
  --group-by generation.guidance_scale

Reads the oracle's verdicts of finished ToonWorld runs, whose store must be there: the same prompts
from the same noise by the base model and by the customised one. A figure is followed where both
images have it. Compared are the clothes that its prompt leaves open, which `prior/identity` does
not judge.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from clif_exp.artifacts.files import read_jsonl
from clif_exp.artifacts.provenance import git_commit, hardware
from clif_exp.compare.grouping import CAST_SEED, METHOD, full_key, select
from clif_exp.compare.reading import published, read
from clif_exp.compare.run import Run
from clif_exp.compare.statistics import mean_of, signed_rank_p
from clif_exp.concepts.concept import TRUTH_FILE

CLOTHES = (
    *("hat", "hat_colour", "top", "top_colour"),
    *("pattern", "bottom", "bottom_colour", "accessory"),
)
TOP = ("top", "top_colour")
DRESSED = 0.75  # share of one concept's clothes from which a stranger is dressed as it

Attributes = Mapping[str, str]
Measured = Mapping[str, float | None]


def strangers(run: Run) -> Iterator[tuple[Attributes, Attributes, set[str]]]:
    """Yield a figure's attributes before and after customisation, and the slots left open."""
    evaluation, generation = published(run, "evaluation"), published(run, "generation")
    if evaluation is None or generation is None:
        raise SystemExit(f"{run.name}: its images' verdicts are not in the store any more")
    asked = {
        (line["prompt_id"], line["seed"]): line["expected"]
        for line in read_jsonl(generation / "generations.jsonl")
    }
    images: dict[str, dict[tuple[str, int], dict[str, Any]]] = {"prior": {}, "prior_before": {}}
    for line in read_jsonl(evaluation / "per_image.jsonl"):
        if line["group"] in images:
            images[line["group"]][line["prompt_id"], line["seed"]] = line
    for key, after in images["prior"].items():
        before = images["prior_before"][key]
        for name in before["judgement"]["assigned"].keys() & after["judgement"]["assigned"].keys():
            pair = [
                image["figures"][image["judgement"]["assigned"][name]]["attributes"]
                for image in (before, after)
            ]
            yield pair[0], pair[1], set(CLOTHES) - set(asked[key][int(name)])


def measure(run: Run, cast: Sequence[Attributes]) -> Measured:
    """Return what became of the strangers of a run.

    Returns:
        `kept`: share of the open attributes that are the same after; of those that changed the
        share that is some concept's value, `concepts_after` and `concepts_before` (None where none
        changed, as when the U-Net stays as it is); of the strangers
        the share that wears at least DRESSED of one concept's clothes, `dressed_after` and
        `dressed_before`; `strangers`: how many. Of the `tops`, the strangers whose top and its
        colour are open, the share that wears some concept's, `top_after` and `top_before`.
    """
    seen = list(strangers(run))
    tops = [(a, b) for a, b, left_open in seen if set(TOP) <= left_open]
    worn = {slot: {member[slot] for member in cast} for slot in CLOTHES}
    pairs = [(slot, a[slot], b[slot]) for a, b, left_open in seen for slot in sorted(left_open)]
    changed = [(slot, a, b) for slot, a, b in pairs if a != b]
    return {
        "strangers": len(seen),
        "kept": 1 - len(changed) / len(pairs),
        "concepts_before": _share([a in worn[slot] for slot, a, _ in changed]),
        "concepts_after": _share([b in worn[slot] for slot, _, b in changed]),
        "dressed_before": fmean(_likeness(a, cast) >= DRESSED for a, _, _ in seen),
        "dressed_after": fmean(_likeness(b, cast) >= DRESSED for _, b, _ in seen),
        "tops": len(tops),
        "top_before": _share([_wears(a, TOP, cast) for a, _ in tops]),
        "top_after": _share([_wears(b, TOP, cast) for _, b in tops]),
    }


def _wears(figure: Attributes, slots: Sequence[str], cast: Sequence[Attributes]) -> bool:
    return any(all(figure[slot] == member[slot] for slot in slots) for member in cast)


def _share(are: Sequence[bool]) -> float | None:
    return fmean(are) if are else None


def _likeness(figure: Attributes, cast: Sequence[Attributes]) -> float:
    """Return the largest share of one concept's clothes that a figure wears."""
    return max(fmean(figure[slot] == member[slot] for slot in CLOTHES) for member in cast)


def _members(run: Run) -> list[Attributes]:
    """Return the attributes of a run's concepts, which may be some of their cast."""
    dataset, generation = published(run, "dataset"), published(run, "generation")
    assert dataset is not None and generation is not None, "ToonWorld's concepts are an artifact"
    truth = json.loads((dataset / TRUTH_FILE).read_text())
    lines = read_jsonl(generation / "generations.jsonl")
    return [truth[name] for name in sorted({name for line in lines for name in line["concepts"]})]


def differences(
    found: Mapping[str, Mapping[str, Measured]], baseline: str | None
) -> dict[str, dict[str, dict[str, Any]]]:
    """Compare each group's strangers with those before, and with another group's, by cast.

    Args:
        found: group (a method, say) -> cast -> what `measure` returns.
        baseline: the other group, if any.

    Returns:
        group -> what is compared -> `mean` of the differences, `p` by Wilcoxon's signed-rank test
        and the number of `casts`.
    """
    compared: dict[str, dict[str, dict[str, Any]]] = {}
    for group, by_cast in found.items():
        pairs = {
            "dressed_after - dressed_before": [
                (of["dressed_after"], of["dressed_before"]) for of in by_cast.values()
            ],
            "concepts_after - concepts_before": [
                (of["concepts_after"], of["concepts_before"]) for of in by_cast.values()
            ],
            "top_after - top_before": [
                (of["top_after"], of["top_before"]) for of in by_cast.values()
            ],
        }
        if baseline is not None and group != baseline:
            other = found[baseline]
            pairs |= {
                f"{name} - {baseline}'s": [
                    (of[name], other[cast][name]) for cast, of in by_cast.items() if cast in other
                ]
                for name in ("kept", "concepts_after", "dressed_after", "top_after")
            }
        compared[group] = {}
        for name, values in pairs.items():
            known = [a - b for a, b in values if a is not None and b is not None]
            compared[group][name] = {
                "mean": mean_of(known).mean,
                "p": signed_rank_p(known),
                "casts": len(known),
            }
    return compared


def main() -> None:
    """Print and write means over casts, by method or another setting."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", type=Path, nargs="+", help="runs or sweeps")
    parser.add_argument(
        "--where", action="extend", nargs="+", default=[], help="of them those with key=value"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results.json")
    parser.add_argument(
        "--group-by", metavar="KEY", default=METHOD, help="setting that tells runs apart (method)"
    )
    parser.add_argument(
        "--baseline", help="its value whose strangers the others' are compared with"
    )
    args = parser.parse_args()
    found: dict[str, dict[str, Measured]] = {}
    runs = select(read(args.folders), args.where)
    key = full_key(args.group_by, runs, option="--group-by")
    for run in runs:
        if run.status == "finished":
            group, cast = str(run.settings[key]), str(run.settings[CAST_SEED])
            found.setdefault(group, {})[cast] = measure(run, _members(run))
    if args.baseline is not None and args.baseline not in found:
        parser.error(f"--baseline: no finished run of {args.baseline}; found {', '.join(found)}")
    means = {}
    for group, by_cast in found.items():
        values = {
            name: [it for of in by_cast.values() if (it := of[name]) is not None]
            for name in next(iter(by_cast.values()))
        }
        means[group] = {name: mean_of(some) for name, some in values.items()}
        shown = {name: it.mean for name, it in means[group].items() if it.mean is not None}
        print(group, {name: round(mean, 3) for name, mean in shown.items()})
    result = {
        "hardware": hardware(),
        "commit": git_commit(digits=12),
        "means": {
            group: {name: {"mean": of.mean, "interval": of.interval} for name, of in some.items()}
            for group, some in means.items()
        },
        "differences": differences(found, args.baseline),
        "casts": found,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
