"""Where the prompts of a run come from: built from templates, MuDI's pairs, or files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from clif_exp.concepts.documents import read_text
from clif_exp.concepts.pairs import seen_pairs
from clif_exp.concepts.wording import visible
from clif_exp.prompts.benchmarks import read_customconcept101, read_dreambench
from clif_exp.prompts.building import build_prompts, built_prior
from clif_exp.prompts.evaluation import EvaluationPrompt
from clif_exp.prompts.mudi import mudi_prompts
from clif_exp.prompts.own_file import read_own_prompts
from clif_exp.prompts.sentences import Sentence, as_prompt
from clif_exp.prompts.settings import PromptSettings
from clif_exp.prompts.worlds import WORLDS


def collect_prompts(
    concepts: Mapping[str, str], *, aliases: Mapping[str, str], settings: PromptSettings
) -> tuple[list[EvaluationPrompt], list[str]]:
    """Put the prompt set of a run together from its sources.

    Prompts without a concept are the built ones unless a source has some. Of prompts with the same
    text the first one stays.

    Args:
        concepts: name -> class word, in the order of the concept set.
        aliases: what concepts are called in their set, where that is not their name -> name.
        settings: names the sources.

    Returns:
        The prompts; and what a user should know of them, in sentences.

    Raises:
        ValueError: a source is missing or broken; names the file, the line and the remedy.
    """
    seen = seen_pairs(list(concepts))
    prompts: list[EvaluationPrompt] = []
    notes: list[str] = []
    for source in settings.sources:
        if source == "built":
            prompts += build_prompts(concepts, settings=settings)
            continue
        sentences, left_out = _read(source, concepts, aliases, settings)
        found = [as_prompt(one, seen=seen, split=settings.split) for one in sentences]
        notes += [*left_out, f"prompts of {visible(source, 200)}: {_counted(found)}"]
        prompts += found
    if not any(prompt.kind == "prior" for prompt in prompts):
        prompts += built_prior(settings)
    first: dict[str, EvaluationPrompt] = {}
    for prompt in prompts:
        first.setdefault(prompt.text, prompt)
    return list(first.values()), notes


def _read(
    source: str, concepts: Mapping[str, str], aliases: Mapping[str, str], settings: PromptSettings
) -> tuple[list[Sentence], list[str]]:
    """The sentences of one source, and what was left out of it."""
    if source == "mudi":
        world = WORLDS[settings.world]
        return mudi_prompts(concepts, aliases=aliases, world=world, split=settings.split), []
    file = Path(source).expanduser()
    try:
        is_file, is_folder = file.is_file(), file.is_dir()
    except OSError:  # such as a path of more characters than the system allows
        is_file = is_folder = False
    if not is_file:
        found = "is a folder" if is_folder else "does not exist"
        raise ValueError(
            f"generation.prompts.source: '{visible(source, 200)}' {found}. Give a text file with"
            " one prompt per line, DreamBench's prompts_and_classes.txt, CustomConcept101's"
            " dataset.json, or use built or mudi."
        )
    if file.suffix == ".json":
        return read_customconcept101(file, concepts=concepts, aliases=aliases)
    if "prompt_list = [" in read_text(file):
        return read_dreambench(file, concepts=concepts), []
    return read_own_prompts(file, concepts=concepts, aliases=aliases), []


def _counted(prompts: Sequence[EvaluationPrompt]) -> str:
    words = {"single": "of one concept", "multi": "of several", "prior": "of none"}
    counts = Counter[str](prompt.kind for prompt in prompts)
    return ", ".join(f"{counts[kind]} {text}" for kind, text in words.items() if counts[kind])
