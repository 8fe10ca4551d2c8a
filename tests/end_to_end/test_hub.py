"""Base models of the Hugging Face hub, from a hub on loopback: downloaded once, then offline."""

from __future__ import annotations

from pathlib import Path

from hub_server import COMMIT, serving
from support import SMALL, concepts_yaml, write_image


def test_a_run_downloads_its_base_models_once_and_then_needs_no_network(
    clif_exp, backbones, tmp_path
):
    for name, seed in (("rick", 0), ("chelsea", 1)):
        write_image(tmp_path / "set" / f"{name}.png", seed=seed)
    root = tmp_path / "set"
    concepts_yaml(
        root,
        "concepts:\n- {name: rick, class_word: man, images: rick.png}\n"
        "- {name: chelsea, class_word: cat, images: chelsea.png}\n",
    )
    spec = backbones("sd15")
    with serving() as hub:
        # What repositories hold besides: other formats, and parts that nothing here reads.
        other = ["README.md", "v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin"]
        pipeline = hub.add("me/sd15", Path(str(spec.path)), *other)
        other.append("pytorch_model.bin")
        clip = hub.add("me/clip", Path(spec.contrastive["text_encoder"]), *other)
        command = ["model=sd15", f"model.path={pipeline}", f"dataset.root={root}", "dataset=folder"]
        command += [f"model.contrastive.text_encoder={clip}", *SMALL]
        command += ["stages=[curation,contrastive,diffusion]"]
        place = {"HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": hub.address}
        online = clif_exp(*command, store=None, fresh=True, HF_HUB_OFFLINE="0", **place)
        assert online.code == 0, online.errors
        sent = list(hub.sent)
    assert "HTTP Request" not in online.output + online.errors
    assert "unet/diffusion_pytorch_model.safetensors" in sent
    assert not {*other} & {*sent}
    card = (online.folders[-1] / "export" / "README.md").read_text()
    assert COMMIT in card, "the card names the commit"
    again = clif_exp(*command, store=None, fresh=True, HF_HUB_OFFLINE="1", **place)
    assert again.code == 0, again.errors
    assert again.summary()["stages"]["diffusion"]["reused"]


def test_a_judge_that_cannot_be_had_is_told_before_anything_trains(clif_exp, backbones, tmp_path):
    root = tmp_path / "set"
    write_image(root / "rick.png", seed=0)
    concepts_yaml(root, "concepts:\n- {name: rick, class_word: man, images: rick.png}\n")
    spec = backbones("sd15")
    command = ["model=sd15", f"model.path={spec.path}", f"dataset.root={root}", "dataset=folder"]
    command += [f"model.contrastive.text_encoder={spec.contrastive['text_encoder']}", *SMALL]
    place = {"HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}
    with serving() as hub:
        place |= {"HF_ENDPOINT": hub.address}
        judge = hub.add("me/judge", Path(spec.contrastive["text_encoder"]))
        refused = clif_exp(*command, "evaluation.judge.path=me/absent", fresh=True, **place)
        assert refused.code == 2
        assert "me/absent" in refused.errors and "evaluation.judge" in refused.errors
        assert not {"segments", "contrastive"} & refused.summary()["stages"].keys()
        judged = clif_exp(*command, f"evaluation.judge.path={judge}", fresh=True, **place)
        assert judged.code == 0, judged.errors
    assert judged.output.index("judge: getting me/judge") < judged.output.index("segments ")
    assert judged.summary()["metrics"]["single/text_alignment"] is not None
    reused = clif_exp(*command, f"evaluation.judge.path={judge}", fresh=True, **place)
    assert reused.code == 0 and "judge: getting me/judge" not in reused.output, "the hub is gone"
