"""Keys and passwords are hidden wherever something is written."""

from __future__ import annotations

import pytest

from clif_exp.secrets import masked, secret_setting, secrets_in, without_secrets


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("Incorrect API key provided: sk-proj-a1B2c3D4e5F6g7H8.", "sk-proj-a1B2c3D4e5F6g7H8"),
        ("Authorization: Bearer abcdef.123456", "abcdef.123456"),
        ("hub: hf_abcdefghijklmnopqrst is no token", "hf_abcdefghijklmnopqrst"),
        ("the server said: my own 'hunter2x' is wrong", "hunter2x"),
        ("http://me:pw@host/v1 answered", "me:pw"),
        ("the variable held opensesame!", "opensesame!"),
    ],
)
def test_a_secret_is_masked_and_the_rest_stays(text, secret, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "opensesame!")
    found = masked(text, known=["hunter2x"])
    assert found == text.replace(secret, "<hidden>")


@pytest.mark.parametrize(
    "text",
    [
        "diffusion.num_tokens: found 99; it should be less than or equal to 16",
        "logger.wandb.api_key: no such key; did you mean 'project'?",
        "risk-taking and task-based work",
    ],
)
def test_what_is_no_secret_is_left_alone(text, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "x")  # too short to be one
    assert masked(text) == text


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ("+logger.wandb.api_key=sk-X", "logger.wandb.api_key"),
        ("+api_key=12345", "api_key"),
        ("logger.wandb={api_key: 12345}", "logger.wandb"),
        ("hydra.job.env_set.WANDB_API_KEY=12345", "hydra.job.env_set.WANDB_API_KEY"),
        ("+captioner.settings.password='a b'", "captioner.settings.password"),
        ("captioner.settings.base_url=http://me:pw@host/v1", "captioner.settings.base_url"),
        ("captioner.settings.base_url=http://localhost:8000/v1", None),
        ("captioner.settings.model=sk-proj-a1B2c3D4e5", "captioner.settings.model"),
        ("+logger.wandb.api_key=${oc.env:WANDB_API_KEY}", None),
        ("diffusion.num_tokens=3", None),
        ("dataset.root=/data/disk-tokens=12345678", None),
        ("contrastive.pooling={G: eos, R: concept}", None),
    ],
)
def test_an_override_that_states_a_secret_is_found(argument, key):
    assert secret_setting(["debug=fast", argument]) == key


def test_secrets_of_a_config_are_found_and_hidden_at_any_depth():
    config = {"a": [{"api_key": "abc"}], "b": {"my_token": 12, "num_tokens": 3}, "token": None}
    assert secrets_in(config) == ["abc", "12"]
    assert without_secrets(config) == {
        "a": [{"api_key": "<hidden>"}],
        "b": {"my_token": "<hidden>", "num_tokens": 3},
        "token": None,
    }
