"""One text encoder in stage 1: its CLIP, the concept embeddings in it, and their report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from clif_exp.base_models import loading
from clif_exp.base_models.spec import BaseModels
from clif_exp.base_models.tokens import add_concept_tokens, tokenize
from clif_exp.base_models.trained_tokens import ConceptEmbeddings
from clif_exp.contrastive.basis import WordBasis, basis_words, word_basis
from clif_exp.contrastive.pooling import cut_padding, eos_positions, pool
from clif_exp.contrastive.report import embedding_report, random_displacement
from clif_exp.contrastive.settings import BasisSettings


class TextTower:
    """A text encoder with its CLIP, and trainable concept embeddings inserted into it.

    Args:
        spec: resolved base models.
        encoder: the text encoder's name in the pipeline.
        class_words: concept name -> class word, from which its embeddings start.
        num_tokens: tokens per concept.
        device: torch device.
        basis: settings of the span of words in which the embeddings lie and from whose mean they
            start; None: from their class words.

    Attributes:
        basis: that span.
        retrieval: what `report.retrieval_accuracy` found before and after training; empty if the
            tower was not trained.
        unread_change: share of the encoder's change that the U-Net does not read, in [0, 1].
    """

    def __init__(
        self,
        spec: BaseModels,
        encoder: str,
        *,
        class_words: Mapping[str, str],
        num_tokens: int,
        device: str,
        basis: BasisSettings | None = None,
    ) -> None:
        self.spec, self.encoder = spec, encoder
        self.clip, self.tokenizer, self.processor = loading.load_contrastive(
            spec, encoder, device=device
        )
        self._table_VD = self.clip.text_model.get_input_embeddings().weight.detach().clone()
        self._words = {
            i: token
            for token, i in self.tokenizer.get_vocab().items()
            if token.endswith("</w>") and len(token) > 5
        }
        token_ids = add_concept_tokens(
            self.tokenizer, self.clip.text_model, concepts=class_words, num_tokens=num_tokens
        )
        self.embeddings = ConceptEmbeddings(self.clip.text_model, token_ids=token_ids)
        self.basis: WordBasis | None = None
        if basis is not None:
            self.basis = word_basis(
                self._table_VD,
                tokenizer=self.tokenizer,
                words=basis_words(spec, words=basis.words),
                rank=basis.rank,
            )
            with torch.no_grad():
                self.embeddings.weight.copy_(self.basis.mean_D.expand_as(self.embeddings.weight))
        self._embeddings_before = self.embeddings.by_concept()
        self._text_before = self._text_features()
        self.retrieval: list[dict[str, Any]] = []
        self.unread_change = 0.0

    def displace_at_random(self, *, seed: int) -> None:
        """Replace what the embeddings learnt by random displacements of the same lengths."""
        displaced = random_displacement(
            before=self._embeddings_before, after=self.embeddings.by_concept(), seed=seed
        )
        self.embeddings.place(torch.cat(list(displaced.values())).to(self._table_VD.device))
        self.retrieval = []

    def report(self) -> dict[str, Any]:
        """Describe the concepts before and after training (embedding_report.json)."""
        embeddings = {"before": self._embeddings_before, "after": self.embeddings.by_concept()}
        text = {"before": self._text_before, "after": self._text_features()}
        report = embedding_report(embeddings, text=text, table_VD=self._table_VD, words=self._words)
        if self.retrieval:
            report["mistaken"] = dict(zip(("before", "after"), self.retrieval, strict=True))
        return report | {"unread_change": round(self.unread_change, 4)}

    def _text_features(self) -> dict[str, Tensor]:
        """Return concept -> feature of "a photo of <concept>" now, L2-normalised float32 [D]."""
        counts = {name: len(ids) for name, ids in self.embeddings.token_ids.items()}
        ids_NL = tokenize(
            self.tokenizer, [f"a photo of <{name}>" for name in counts], num_tokens=counts
        )
        ids_NL = cut_padding(ids_NL, eos_id=self.tokenizer.eos_token_id).to(self._table_VD.device)
        positions_N = eos_positions(ids_NL, eos_id=self.tokenizer.eos_token_id)
        with torch.no_grad():
            hidden_NLD = self.clip.text_model(input_ids=ids_NL).last_hidden_state
            features_ND = self.clip.text_projection(pool(hidden_NLD, positions_N)).float().cpu()
        return dict(zip(counts, F.normalize(features_ND, dim=-1), strict=True))
