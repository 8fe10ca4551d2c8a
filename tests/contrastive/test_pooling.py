"""Where text features are read: captions with words after the concept token, ids in any order."""

from __future__ import annotations

import pytest
import torch

from clif_exp.contrastive.pooling import concept_position, cut_padding, eos_positions, pool

BOS, EOS, HAT, CONCEPT = (
    8,
    9,
    5,
    [12, 13],
)  # as after adding tokens: the concept's ids are the highest


def test_eos_is_found_although_the_concepts_ids_are_higher():
    ids = torch.tensor([[BOS, 1, 12, 13, HAT, EOS, EOS, EOS], [BOS, 1, 2, 3, 4, 12, 13, EOS]])
    assert eos_positions(ids, eos_id=EOS).tolist() == [5, 7]


def test_an_eos_id_of_two_changes_nothing():
    """transformers pools at the highest id then: the concept token, before all words that follow
    it.
    """
    ids = torch.tensor([[0, 12, 13, HAT, 2, 2]])
    assert eos_positions(ids, eos_id=2).tolist() == [4]


def test_a_truncated_caption_is_refused():
    with pytest.raises(ValueError, match="caption 1"):
        eos_positions(torch.tensor([[BOS, EOS], [BOS, 1]]), eos_id=EOS)


def test_concept_pooling_reads_the_concepts_last_token_or_the_part_after_it():
    caption = [BOS, HAT, 1, 12, 13, 2, HAT, 3, EOS]  # "... hat on ... <v> <v>_1 's hat ..."
    assert concept_position(caption, concept_ids=CONCEPT) == 4
    assert concept_position(caption, concept_ids=CONCEPT, part_ids=[HAT]) == 6
    assert concept_position(caption, concept_ids=CONCEPT, part_ids=[HAT, 3]) == 7
    with pytest.raises(ValueError, match="does not name the part"):
        concept_position(caption, concept_ids=CONCEPT, part_ids=[7])
    with pytest.raises(ValueError, match="does not hold the concept"):
        concept_position(caption, concept_ids=[13, 12])


def test_cutting_the_padding_is_exact(backbones):
    from clif_exp.base_models.loading import load_contrastive
    from clif_exp.base_models.tokens import add_concept_tokens, tokenize

    clip, tokenizer, _ = load_contrastive(backbones("sd15"))
    add_concept_tokens(tokenizer, clip.text_model, concepts={"rick": "man"}, num_tokens=2)
    captions = ["a photo of a hat on the left and <rick>'s hat on the right", "a photo of <rick>"]
    full = tokenize(tokenizer, captions, num_tokens={"rick": 2}, pad="max_length")
    cut = cut_padding(full, eos_id=tokenizer.eos_token_id)
    positions = eos_positions(full, eos_id=tokenizer.eos_token_id)
    assert full.shape[1] == 77
    assert cut.shape[1] == int(positions.max()) + 1
    read = [
        pool(clip.text_model(input_ids=ids).last_hidden_state, positions) for ids in (full, cut)
    ]
    torch.testing.assert_close(*read, rtol=1e-5, atol=1e-6)


def test_words_after_the_concept_reach_the_eos_feature_but_not_the_concepts(backbones):
    from clif_exp.base_models.loading import load_contrastive
    from clif_exp.base_models.tokens import add_concept_tokens, tokenize

    clip, tokenizer, _ = load_contrastive(backbones("sd15"))
    ids = add_concept_tokens(tokenizer, clip.text_model, concepts={"rick": "man"}, num_tokens=2)[
        "rick"
    ]
    batch = tokenize(
        tokenizer, ["a photo of <rick>'s hat", "a photo of <rick>'s dog"], num_tokens={"rick": 2}
    )
    hidden = clip.text_model(input_ids=batch).last_hidden_state
    at_eos = pool(hidden, eos_positions(batch, eos_id=tokenizer.eos_token_id))
    at_concept = pool(
        hidden, torch.tensor([concept_position(row.tolist(), concept_ids=ids) for row in batch])
    )
    assert not torch.allclose(at_eos[0], at_eos[1])
    assert torch.equal(at_concept[0], at_concept[1])
