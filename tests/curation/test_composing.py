"""Augmented images: what the caption says is where it says, whichever process draws it."""

from __future__ import annotations

import hashlib
import json
import re
import resource
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clif_exp.concepts.pairs import seen_pairs
from clif_exp.curation.manifest import read_manifest
from clif_exp.curation.settings import FIELDS
from clif_exp.curation.stage import compose_pairs
from support import default_config, settings

# One template, and figures anywhere: what the tests below expect of captions and places.
LAYOUT = {
    "num_pairs": 48,
    "resolution": 64,
    "templates": ["a photo of {left} on the left and {right} on the right"],
    "scale": [0.7, 1.0],
    "margin": 0.03,
    "vertical": [0.0, 1.0],
}


def compose(
    out: Path, cutouts, kind: str, *, workers: int = 1, seed: int = 0, **changes
) -> list[dict]:
    segments, contexts = cutouts
    out.mkdir(exist_ok=True)
    compose_pairs(
        out,
        kind=kind,
        segments=segments,
        contexts=contexts,
        settings=settings(
            f"augmentation.{FIELDS[kind]}",
            **LAYOUT | ({} if kind == "M" else {"strangers": 0}) | changes,
        ),
        seed=seed,
        num_workers=workers,
    )
    return read_manifest(out)


def content(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*.*")
    }


def mask_of(out: Path, source: dict) -> np.ndarray:
    return np.asarray(Image.open(out / source["mask"])) > 127


@pytest.mark.parametrize("kind", ["G", "R", "M"])
@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_left_is_left_and_everything_stands_inside_the_image(tmp_path, cutouts, kind, overlap):
    for line in compose(tmp_path, cutouts, kind, max_overlap=overlap):
        masks = [mask_of(tmp_path, source) for source in line["sources"]]
        centres = [np.flatnonzero(mask.any(axis=0)).mean() for mask in masks]
        assert centres == sorted(centres)
        for slot, (source, mask) in enumerate(zip(line["sources"], masks, strict=True)):
            assert source["side"] == ("left", "right")[slot]
            assert mask.any()
            assert not (mask[0].any())
            assert not (mask[-1].any())
            assert not (mask[:, 0].any())
            assert not (mask[:, -1].any())
            x0, y0, x1, y1 = source["box"]
            outside = mask.copy()
            outside[y0:y1, x0:x1] = False
            assert not outside.any()
        assert (sum(mask.astype(int) for mask in masks) <= 1).all()
        names = [source["name"] for source in line["sources"]]
        assert line["caption"] == f"a photo of {names[0]} on the left and {names[1]} on the right"


def test_images_are_white_where_nothing_stands_and_edges_are_soft(tmp_path, cutouts):
    line = compose(tmp_path, cutouts, "M", num_pairs=1)[0]
    pixels = np.asarray(Image.open(tmp_path / line["file"])).astype(int)
    assert (pixels[0] == 255).all()
    assert (pixels[:, 31] == 255).all()
    darkness = 255 - pixels.min(axis=2)
    assert (darkness == 0).mean() > 0.2
    assert ((darkness > 8) & (darkness < 0.6 * darkness.max())).any()


def test_captions_name_what_is_drawn(tmp_path, cutouts):
    lines = {kind: compose(tmp_path / kind, cutouts, kind) for kind in "GRM"}
    assert all(
        {s["concept"] is None for s in line["sources"]} == {True, False}
        for line in lines["G"] + lines["R"]
    )
    phrases = {source["name"] for line in lines["R"] for source in line["sources"]}
    assert {
        "<ann>'s hat",
        "<cleo>'s shoes",
        "a red cap",
        "blue trousers",
    } <= phrases
    assert "<dan>'s shoes" not in phrases
    phrases = {source["name"] for line in lines["G"] for source in line["sources"]}
    assert phrases == {
        "<ann>",
        "<ben>",
        "<cleo>",
        "<dan>",
        "a chef",
        "an old man",
        "a wolf",
    }  # the dog failed the screen
    assert all(
        source["name"] == f"<{source['concept']}>"
        for line in lines["M"]
        for source in line["sources"]
    )


@pytest.mark.parametrize("kind", ["G", "R"])
def test_a_group_shares_everything_but_the_concept(tmp_path, cutouts, kind):
    groups = defaultdict(list)
    for line in compose(tmp_path, cutouts, kind, group_size=4):
        groups[line["group"]].append(line)
    for members in groups.values():
        general = [next(s for s in line["sources"] if s["concept"] is None) for line in members]
        own = [next(s for s in line["sources"] if s["concept"] is not None) for line in members]
        assert len({json.dumps({k: v for k, v in s.items() if k != "mask"}) for s in general}) == 1
        assert len({s["scale"] for s in own}) == 1
        assert len({(s["concept"], s["part"]) for s in own}) == len(members) == 4
    assert (
        len(
            {
                next(s for s in members[0]["sources"] if s["concept"] is None)["side"]
                for members in groups.values()
            }
        )
        == 2
    )


@pytest.mark.parametrize("kind", ["G", "R"])
def test_strangers_stand_where_the_concepts_of_their_group_stand(tmp_path, cutouts, kind):
    plain = compose(tmp_path / "plain", cutouts, kind, group_size=2)
    lines = compose(tmp_path / "all", cutouts, kind, group_size=2, strangers=1)
    own = [line for line in lines if "stranger" not in line]
    assert len(own) == 2 * len(lines) // 3
    # A group has the concepts and captions that it has without strangers.
    said = [(line["group"], line["caption"]) for line in plain]
    assert [(line["group"], line["caption"]) for line in own] == said[: len(own)]
    groups = defaultdict(list)
    for line in lines:
        groups[line["group"]].append(line)
    for members in groups.values():
        stranger = next(line for line in members if "stranger" in line)
        place = stranger["stranger"]
        assert [source["concept"] for source in stranger["sources"]] == [None, None]
        names = [source["context"] for source in stranger["sources"]]
        assert len(set(names)) == 2, "a stranger is not called what stands beside it is called"
        assert all(source["name"] in stranger["caption"] for source in stranger["sources"])
        for line in members:
            assert (
                line["sources"][1 - place]["source"] == (stranger["sources"][1 - place]["source"])
            )
            assert line["sources"][place]["scale"] == stranger["sources"][place]["scale"]


@pytest.mark.parametrize("pooling", ["eos", "concept"])
def test_stage_1_reads_strangers_as_pairs_without_a_concept(tmp_path, cutouts, pooling):
    from clif_exp.contrastive.batches import GroupedBatches, PairBatches
    from clif_exp.contrastive.pairs import read_pairs
    from clif_exp.toonworld.tokenizer import build_tokenizer

    for kind in "GR":
        compose(tmp_path / kind, cutouts, kind, group_size=2, strangers=1)
    lines = [line for kind in "GR" for line in read_manifest(tmp_path / kind)]
    names = {s["concept"] for line in lines for s in line["sources"] if s["concept"]}
    pairs = read_pairs({kind: tmp_path / kind for kind in "GR"}, names=names)
    assert [pair.meta.stranger for pair in pairs] == ["stranger" in line for line in lines]
    tokenizer = build_tokenizer([word for pair in pairs for word in pair.caption.split()])
    tokens = [f"<{name}>" for name in sorted(names)]
    tokenizer.add_tokens(tokens)
    batches = PairBatches(
        pairs,
        order=GroupedBatches(pairs, batch_size=12, seed=0),
        tokenizer=tokenizer,
        token_ids={token[1:-1]: [tokenizer.convert_tokens_to_ids(token)] for token in tokens},
        pooling={"G": pooling, "R": pooling},
    )
    for number, pair in enumerate(pairs):
        if not pair.meta.stranger:
            continue
        place = int(batches.positions_N[number])
        read = tokenizer.convert_ids_to_tokens(int(batches.ids_NL[number, place]))
        noun = pair.meta.concept.split()[-1]
        assert read == (f"{noun}</w>" if pooling == "concept" else tokenizer.eos_token)


def test_mixed_images_show_seen_pairs_only_each_both_ways(tmp_path, cutouts):
    seen = seen_pairs(["ann", "ben", "cleo", "dan"])
    assert len(seen) == 4
    assert set().union(*seen) == {"ann", "ben", "cleo", "dan"}
    assert seen == seen_pairs(["dan", "cleo", "ben", "ann"])
    lines = compose(tmp_path, cutouts, "M")
    ordered = set()
    for line in lines:
        names = [source["concept"] for source in line["sources"]]
        assert all(frozenset((a, b)) in seen for i, a in enumerate(names) for b in names[i + 1 :])
        ordered.update((a, b) for i, a in enumerate(names) for b in names[i + 1 :])
    assert ordered == {pair for a, b in map(tuple, seen) for pair in ((a, b), (b, a))}


def test_workers_change_no_byte(tmp_path, cutouts):
    compose(tmp_path / "one", cutouts, "G", num_pairs=300)
    compose(tmp_path / "two", cutouts, "G", num_pairs=300, workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")
    compose(tmp_path / "other", cutouts, "G", num_pairs=300, seed=1)
    assert content(tmp_path / "one") != content(tmp_path / "other")


def test_a_killed_run_is_finished_not_redone(tmp_path, cutouts):
    compose(tmp_path / "whole", cutouts, "M")
    compose(tmp_path / "killed", cutouts, "M", num_pairs=20)
    (tmp_path / "killed" / "manifest.jsonl").unlink()
    (tmp_path / "killed" / "images" / "000005.png").unlink()
    kept = (tmp_path / "killed" / "images" / "000004.png").stat().st_mtime_ns
    compose(tmp_path / "killed", cutouts, "M")
    assert content(tmp_path / "killed") == content(tmp_path / "whole")
    assert (tmp_path / "killed" / "images" / "000004.png").stat().st_mtime_ns == kept


def test_a_full_disk_names_the_file_and_the_remedy_and_what_is_finished_is_kept(tmp_path, cutouts):
    compose(tmp_path / "whole", cutouts, "M")
    sizes = [file.stat().st_size for file in sorted((tmp_path / "whole" / "images").iterdir())]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (max(sizes[:5]), limits[1])
    )  # the kernel refuses larger files
    try:
        with pytest.raises(
            OSError,
            match=(
                r"images/0000\d\d\.png: cannot be written .*Free some space, or choose another"
                r" folder by paths.root=FOLDER \(artifacts.root for the store alone\)"
            ),
        ):
            compose(tmp_path / "full", cutouts, "M")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "full" / "images").iterdir()}
    assert len(kept) >= 5
    assert not any(name.startswith(".") for name in kept)
    assert not (tmp_path / "full" / "manifest.jsonl").exists()
    compose(tmp_path / "full", cutouts, "M")
    assert content(tmp_path / "full") == content(tmp_path / "whole")
    assert all(
        (tmp_path / "full" / "images" / name).stat().st_mtime_ns == time
        for name, time in kept.items()
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("global.num_pairs=-1", "augmentation.global.num_pairs: found -1"),
        ("global.scale=[0.9,0.2]", "augmentation.global.scale: found [0.9, 0.2]"),
        ("global.scale=[0,0.2]", "augmentation.global.scale: found [0.0, 0.2]"),
        ("global.vertical=[0.9,0.2]", "augmentation.global.vertical: found [0.9, 0.2]"),
        ("global.margin=0.3", "augmentation.global.margin: found 0.3"),
        ("global.max_overlap=0.6", "augmentation.global.max_overlap: found 0.6"),
        ("+region.size=3", "augmentation.region.size: no such key"),
        ("mix.templates=[a photo]", "augmentation.mix.templates.0: found 'a photo'"),
        ("mix.background_share=1.5", "augmentation.mix.background_share: found 1.5"),
        ("mix.background_share=0.5", "augmentation.mix.background_share: found 0.5 without"),
        ("+mix.figures={9: 1.0}", "augmentation.mix.figures.9"),
        ("mix.figures={2: 0.0}", "augmentation.mix.figures: found {2: 0.0"),
        ("mix.arrangements={side: 0.0}", "augmentation.mix.arrangements: found {'side': 0.0"),
        ("mix.arrangements.behind=-1.0", "augmentation.mix.arrangements.behind: found -1"),
        ("+mix.arrangements.riding=1.0", "augmentation.mix.arrangements.riding"),
        ("mix.min_visible=1.0", "augmentation.mix.min_visible: found 1"),
        (
            "mix.arrangement_templates.above=[a photo]",
            "augmentation.mix.arrangement_templates.above.0: found 'a photo'",
        ),
        ("+global.arrangements={behind: 1.0}", "augmentation.global.arrangements: no such key"),
        ("+region.arrangements={behind: 1.0}", "augmentation.region.arrangements: no such key"),
    ],
)
def test_unfit_settings_are_refused_with_the_field(changes, expected):
    plus, name = changes[: changes.startswith("+")], changes.removeprefix("+")
    with pytest.raises(ValueError, match=re.escape(expected)):
        default_config(f"{plus}augmentation.{name}")


@pytest.mark.parametrize(
    ("kind", "kept", "expected"),
    [
        ("G", {"segments"}, "augmentation.global: there are no general concepts"),
        ("R", {"contexts"}, "augmentation.region: no part of any concept has a name"),
        ("R", {"segments"}, "augmentation.region: there are no general parts"),
        ("M", {"contexts"}, "augmentation.mix: mixing needs two concepts, found 0"),
    ],
)
def test_what_cannot_be_composed_is_refused_before_anything_is_drawn(
    tmp_path, cutouts, kind, kept, expected
):
    folders = []
    for name, folder in zip(("segments", "contexts"), cutouts, strict=True):
        folders.append(folder)
        if name not in kept:
            folders[-1] = tmp_path / name
            folders[-1].mkdir()
            (folders[-1] / f"{name}.jsonl").touch()
    with pytest.raises(ValueError, match=expected):
        compose(tmp_path / "out", folders, kind)
    assert not list((tmp_path / "out").iterdir())


def test_backgrounds_must_be_there(tmp_path, cutouts):
    with pytest.raises(ValueError, match=r"mix\.background_share: .* there are no backgrounds"):
        compose(tmp_path, cutouts, "M", background_share=0.5)
    assert not list(tmp_path.iterdir())


def test_an_arrangement_needs_a_caption():
    with pytest.raises(ValueError, match=r"arrangements\.hugging: found 0\.5 without a caption"):
        default_config(
            "augmentation.mix.arrangements.hugging=0.5",
            "augmentation.mix.arrangement_templates.hugging=[]",
        )
