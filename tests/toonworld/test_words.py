"""The command that lists what ToonWorld knows."""

from __future__ import annotations

import subprocess
import sys

import pytest

from clif_exp.base_models.spec import BaseModels, resolve
from clif_exp.toonworld import world
from clif_exp.toonworld.__main__ import main
from clif_exp.toonworld.grammar import VOCABULARY
from clif_exp.toonworld.words import words_by_kind
from support import default_config


def test_the_kinds_hold_every_word_of_the_vocabulary_and_nothing_else():
    kinds = words_by_kind()
    words = {word for phrases in kinds.values() for phrase in phrases for word in phrase.split()}
    assert words == {word for word in VOCABULARY if word.isalpha()}
    assert kinds["species"] == world.SPECIES
    assert "none" not in words
    seen = {phrase for kind, phrases in kinds.items() if kind != "unseen" for phrase in phrases}
    assert not seen & set(kinds["unseen"]), "what only casts have is not told as known"


def test_the_shipped_tokenizer_reads_every_listed_word_as_one_token():
    from transformers import CLIPTokenizer

    spec = resolve(BaseModels(**default_config().model.model_dump()))
    tokenizer = CLIPTokenizer.from_pretrained(str(spec.path), subfolder="tokenizer")
    for phrases in words_by_kind().values():
        for phrase in phrases:
            assert len(tokenizer(phrase).input_ids) == len(phrase.split()) + 2, phrase


def test_the_command_lists_them_by_kind():
    done = subprocess.run(
        [sys.executable, "-m", "clif_exp.toonworld", "words"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "\nhats: cap, crown, beanie, top hat, wizard hat\n" in done.stdout
    assert "species: cat, lynx, fox" in done.stdout
    assert "1,000 in all" in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_one_kind_is_listed_whole_and_another_word_is_refused(capsys):
    assert main(["words", "names"]) == 0
    assert "zoe" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["words", "cup"])
    assert "invalid choice: 'cup'" in capsys.readouterr().err
