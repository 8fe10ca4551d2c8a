"""Concept tokens: names, embeddings, files, and that nothing else of a text encoder moves."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from clif_exp.base_models.tokens import (
    add_concept_tokens,
    apply_concept_embeddings,
    expand_prompt,
    load_concept_embeddings,
    save_concept_embeddings,
    token_names,
    tokenize,
)
from clif_exp.base_models.trained_tokens import ConceptEmbeddings

WORDS = ["a", "photo", "of", "man", "old", "hat", "on", "the", "left", "and", "right"]


@pytest.fixture
def tokenizer():
    from clif_exp.toonworld.tokenizer import build_tokenizer

    return build_tokenizer(WORDS)


@pytest.fixture
def encoder(tokenizer):
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def test_every_placeholder_is_replaced_by_all_tokens_of_its_concept():
    assert (
        expand_prompt("a photo of <rick> and <morty>'s hat", {"rick": 2, "morty": 3})
        == "a photo of <rick> <rick>_1 and <morty> <morty>_1 <morty>_2's hat"
    )
    assert expand_prompt("a photo of <rick>", {"rick": 1}) == "a photo of <rick>"
    assert expand_prompt("a photo of <nobody>", {"rick": 2}) == "a photo of <nobody>"
    once = expand_prompt("<rick>", {"rick": 2})
    assert expand_prompt(once, {"rick": 2}) != once + " <rick>_1 <rick>_1", (
        "an expanded prompt is not doubled silently"
    )


def test_embeddings_start_at_the_class_word_and_each_token_is_one_id(tokenizer, encoder):
    table = encoder.get_input_embeddings().weight.detach().clone()
    ids = add_concept_tokens(
        tokenizer, encoder, concepts={"rick": "man", "morty": "old man"}, num_tokens=2
    )
    new = encoder.get_input_embeddings().weight
    assert torch.equal(new[: len(table)], table)
    man, old = (tokenizer(word, add_special_tokens=False).input_ids[0] for word in ("man", "old"))
    assert torch.equal(new[ids["rick"]], table[[man, man]])
    assert torch.equal(new[ids["morty"]], table[[old, man]])
    tokens = tokenizer.convert_ids_to_tokens(
        tokenize(tokenizer, ["a photo of <rick>'s hat"], num_tokens={"rick": 2})[0]
    )
    assert tokens[4:6] == token_names("rick", 2)
    assert "hat</w>" in tokens


def test_a_name_that_is_taken_is_refused(tokenizer, encoder):
    add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=2)
    with pytest.raises(ValueError, match=r"'rick'.*already a token"):
        add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=2)


def test_a_prompt_that_is_too_long_is_refused_not_truncated(tokenizer):
    with pytest.raises(ValueError, match=r"found 82 tokens.*reads 77"):
        tokenize(tokenizer, ["photo " * 80], num_tokens={})


def test_embeddings_survive_their_file(tmp_path, tokenizer, encoder):
    saved = {"text_encoder": {"rick": torch.randn(2, 16), "morty": torch.randn(3, 16)}}
    save_concept_embeddings(tmp_path / "e.safetensors", saved)
    loaded = load_concept_embeddings(tmp_path / "e.safetensors")
    assert all(
        torch.equal(loaded["text_encoder"][name], value)
        for name, value in saved["text_encoder"].items()
    )
    ids = apply_concept_embeddings(tokenizer, encoder, loaded["text_encoder"])
    assert torch.equal(
        encoder.get_input_embeddings().weight[ids["morty"]], saved["text_encoder"]["morty"]
    )


def test_wrong_embedding_files_are_refused(tmp_path, tokenizer, encoder):
    with pytest.raises(ValueError, match="no such file"):
        load_concept_embeddings(tmp_path / "missing.safetensors")
    save_file({"weight": torch.zeros(2)}, str(tmp_path / "lora.safetensors"))
    with pytest.raises(ValueError, match="found key 'weight'"):
        load_concept_embeddings(tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="another base model"):
        apply_concept_embeddings(tokenizer, encoder, {"rick": torch.zeros(2, 768)})


def test_training_moves_the_concept_embeddings_and_nothing_else_even_with_weight_decay(
    tokenizer, encoder
):
    ids = add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=2)
    encoder.requires_grad_(False)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    embeddings = ConceptEmbeddings(encoder, token_ids=ids)
    optimizer = torch.optim.AdamW([embeddings.weight], lr=0.1, weight_decay=0.5)
    batch = tokenize(tokenizer, ["a photo of <rick>", "a photo of a hat"], num_tokens={"rick": 2})
    for _ in range(3):
        encoder(batch).last_hidden_state[:, -1].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    embeddings.detach()
    for name, value in encoder.state_dict().items():
        if "token_embedding" in name:
            moved = (value != before[name]).any(dim=1).nonzero().flatten().tolist()
            assert moved == ids["rick"]
        else:
            assert torch.equal(value, before[name]), name


def test_inserted_embeddings_give_what_the_written_back_table_gives(tokenizer, encoder):
    ids = add_concept_tokens(tokenizer, encoder, concepts={"rick": "man"}, num_tokens=2)
    embeddings = ConceptEmbeddings(encoder, token_ids=ids)
    with torch.no_grad():
        embeddings.weight.normal_()
    batch = tokenize(tokenizer, ["a photo of <rick>"], num_tokens={"rick": 2})
    inserted = encoder(batch).last_hidden_state
    embeddings.detach()
    assert torch.equal(encoder(batch).last_hidden_state, inserted)
