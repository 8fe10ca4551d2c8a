"""Experiments and sweeps: shared work is done once, and a refused job stops no other."""

from __future__ import annotations

import pytest

from clif_exp.runs.messages import choices


# What needs a download is composed in tests/test_config.py, and run in test_benchmarks.py.
@pytest.mark.parametrize(
    "experiment",
    [
        name
        for name in choices("experiment")
        if "_sd" not in name and name not in ("dreambench", "customconcept101")
    ],
)
def test_every_experiment_runs_with_a_tiny_budget(clif_exp, experiment):
    result = clif_exp(f"+experiment={experiment}", "debug=fast")
    assert result.code == 0, result.errors
    summary = result.summary()
    assert summary["status"] == "finished"
    assert summary["experiment"] == experiment
    assert result.folders[-1].parent.name == experiment


@pytest.mark.parametrize("method", choices("method"))
def test_every_method_runs_with_a_tiny_budget(clif_exp, method):
    result = clif_exp(f"method={method}", "debug=fast")
    assert result.code == 0, result.errors
    assert result.summary()["method"] == method
    assert result.summary()["metrics"]


def test_jobs_of_a_sweep_share_what_they_have_in_common(clif_exp, tmp_path):
    result = clif_exp("-m", "+experiment=clif,ablate_raug", "debug=fast", "augmentation.seed=3")
    assert result.code == 0, result.errors
    full, ablated = result.summary(0), result.summary(1)
    assert (full["experiment"], ablated["experiment"]) == ("clif", "ablate_raug")
    for name in ("dataset", "segments", "contexts", "augment_G", "augment_M"):
        assert ablated["stages"][name]["reused"], name
        assert ablated["stages"][name]["fingerprint"] == full["stages"][name]["fingerprint"]
    assert "augment_R" in full["stages"]
    assert "augment_R" not in ablated["stages"]
    for name in ("contrastive", "diffusion", "generation", "evaluation"):
        assert not ablated["stages"][name]["reused"], name
    for name in ("generation_prior", "generation_class_word"):
        assert ablated["stages"][name]["reused"], "the base model's images are shared"
    assert not ablated["stages"]["generation_stage1"]["reused"]
    folders = [folder.relative_to(tmp_path).parts for folder in result.folders]
    assert {parts[:2] for parts in folders} == {("multirun", "default")}
    assert [parts[2].rsplit("-", 1)[0].startswith("experiment=") for parts in folders] == [
        True,
        True,
    ]


def test_seeds_share_the_base_models_prior_images(clif_exp):
    budget = ("debug=fast", "stages=[curation,contrastive,diffusion]")
    kept = ("diffusion.prior.seed=7", "diffusion.prior_target=teacher")
    result = clif_exp("-m", *budget, *kept, "seed=0,1")
    assert result.code == 0, result.errors
    first, second = result.summary(0)["stages"], result.summary(1)["stages"]
    assert not first["prior_images"]["reused"]
    assert second["prior_images"]["reused"]
    assert not second["diffusion"]["reused"]


def test_a_refused_job_says_so_and_the_others_run(clif_exp):
    result = clif_exp("-m", "debug=fast", "diffusion.unet=frozen,lora")
    assert result.code != 0
    by_status = {result.summary(index)["status"]: result.summary(index) for index in range(2)}
    assert set(by_status) == {"refused", "finished"}
    assert "diffusion.unet" in by_status["refused"]["error"]
    assert result.errors.count("clif_exp: error:") == 1
    assert "Traceback" not in result.errors


def test_a_search_from_the_config_runs_all_its_jobs(clif_exp):
    result = clif_exp("hparams_search=grid", "debug=fast")
    assert result.code == 0, result.errors
    assert len(result.folders) == 4
    assert all(folder.parent.name == "grid" for folder in result.folders)


@pytest.mark.slow
def test_ddp_jobs_of_a_sweep_run_one_after_another(clif_exp):
    result = clif_exp("-m", "debug=fast", "trainer=ddp_sim", "seed=0,1")
    assert result.code == 0, result.errors[-2000:]
    assert [result.summary(index)["status"] for index in range(2)] == ["finished"] * 2
