"""Before anything expensive runs: the dataset, checks of the concepts, the evaluation prompts."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.artifacts.store import Artifact, ArtifactStore
from clif_exp.base_models.devices import count_gpus
from clif_exp.concepts.settings import CAST, DatasetSettings
from clif_exp.prompts.settings import PromptSettings
from clif_exp.runs.config import Config
from clif_exp.training.settings import TrainerSettings

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.tokens import NewTokens
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.methods.settings import MergingSettings
    from clif_exp.prompts.evaluation import EvaluationPrompt

log = logging.getLogger("clif_exp")


def check_devices(trainer: TrainerSettings) -> None:
    """Refuse a trainer that asks for more GPUs than there are.

    Raises:
        ValueError: names the field, what was found and the remedy.
    """
    if trainer.accelerator not in ("gpu", "cuda"):
        return
    found = count_gpus()
    if found == 0:
        raise ValueError(
            f"trainer.accelerator: found {trainer.accelerator!r}, but torch finds no CUDA device"
            " here; use trainer=cpu"
        )
    if trainer.devices > found:
        raise ValueError(
            f"trainer.devices: found {trainer.devices}, but this machine has {found} CUDA"
            f" device{'s' if found > 1 else ''}; use trainer.devices={found}"
            f"{' trainer=gpu' if found == 1 else ''}"
        )


def warn_of_long_warm_ups(config: Config) -> None:
    """Tell about a warm-up that ends after the training: its learning rate is never reached."""
    first, second = config.contrastive, config.diffusion
    trained = {
        "contrastive": (config.method.contrastive, first.warmup_steps, first.steps),
        "diffusion": (config.method.diffusion, second.warmup_steps, second.steps),
    }
    for group, (runs, warmup_steps, steps) in trained.items():
        if runs and group in config.stages and warmup_steps >= steps > 0:
            log.warning(
                "%s.warmup_steps: found %d for %d steps: the learning rate ends at %.0f %% of"
                " %s.learning_rate; lower it, or train for longer",
                group,
                warmup_steps,
                steps,
                100 * steps / (warmup_steps + 1),
                group,
            )


def warn_of_unused_pairs(config: Config) -> None:
    """Tell about mixed pairs that a method which customises each concept apart does not read."""
    if config.method.merging is not None and config.augmentation.mix.num_pairs:
        log.warning(
            "augmentation.mix.num_pairs: found %d, but method=%s customises each concept apart,"
            " from images of it alone; none is composed",
            config.augmentation.mix.num_pairs,
            config.method.name,
        )


def materialise_dataset(store: ArtifactStore, settings: DatasetSettings) -> Artifact | None:
    """Write a generated data set in the layout of a user's folder; None for a user's folder."""
    if settings.name == "folder":
        return None

    def build(out: Path) -> None:
        if settings.name == "toonworld":
            from clif_exp.toonworld.cast import write_cast

            size = CAST if settings.size is None else settings.size
            write_cast(out, cast_seed=settings.cast_seed, size=size)
        else:
            from clif_exp.curation.photos import write_photos

            write_photos(out)

    return store.get_or_build(
        "dataset", version=settings.VERSION, config=settings.relevant(), inputs={}, build=build
    )


def read_concepts(
    store: ArtifactStore, settings: DatasetSettings
) -> tuple[Artifact | None, Path, ConceptSet]:
    """Read and check the concepts; a generated set is written first.

    Returns:
        The artifact of a generated set, the set's folder, and its concepts.
    """
    from clif_exp.concepts.reading import read_concept_set

    dataset = materialise_dataset(store, settings)
    root = dataset.path if dataset else Path(str(settings.root)).expanduser()
    concepts = read_concept_set(
        root, size=settings.size, names=settings.names, download=settings.download
    )
    return dataset, root, concepts


def leave_parts_unnamed(config: Config) -> tuple[Config, str]:
    """Switch part names and R-Aug off, for images of a kind that the base model does not know.

    Its CLIP would call collars faces.

    Returns:
        The config, and a warning for the report; the terminal has got it.
    """
    model, domain = config.model, config.dataset.domain
    log.warning(
        "model=%s knows images of %s only, dataset.domain is %s: parts stay unnamed and R-Aug is"
        " left out. A model of such images (model=sd15) names them; if they do show %s, set"
        " dataset.domain=%s",
        *(model.family, model.domain, domain, model.domain, model.domain),
    )
    naming = config.captioner.naming.model_copy(update={"enabled": False})
    region = config.augmentation.region.model_copy(update={"num_pairs": 0})
    changed = {
        "captioner": config.captioner.model_copy(update={"naming": naming}),
        "augmentation": config.augmentation.model_copy(update={"region": region}),
    }
    return config.model_copy(update=changed), (
        f"The base model (model={model.family}) knows images of {model.domain} only, these show"
        f" {domain}: it cuts them out badly, and draws them as {model.domain}. Parts stay unnamed"
        " and R-Aug is left out. Such images need a model of their own kind, as model=sd15."
    )


def check_concepts(
    concepts: ConceptSet,
    *,
    spec: BaseModels,
    tokens: NewTokens,
    prompts: Sequence[EvaluationPrompt],
    regional: bool,
) -> None:
    """Refuse class words, names, captions and prompts that do not fit the base model's tokenizer.

    Args:
        concepts: the set.
        spec: resolved base models.
        tokens: of new concepts, which lengthen captions and prompts.
        prompts: that the run will draw.
        regional: whether it draws some of them by region.

    Raises:
        ValueError: names the concept, and the image whose caption is too long, or the prompt.
    """
    from transformers import CLIPTokenizer

    from clif_exp.base_models.rare_words import rare_words
    from clif_exp.concepts.vocabulary import check_against_tokenizer, check_lengths
    from clif_exp.prompts.sentences import by_region

    where: dict[str, Any] = {"subfolder": "tokenizer", "revision": spec.revision}
    tokenizer = CLIPTokenizer.from_pretrained(str(spec.path), **where)
    known: dict[str, Any] = {}
    if spec.record.world == "toonworld":
        from clif_exp.toonworld.grammar import VOCABULARY
        from clif_exp.toonworld.world import SPECIES

        known = {
            "words": VOCABULARY,
            "examples": SPECIES,
            "all_by": "python -m clif_exp.toonworld words",
        }
    check_against_tokenizer(concepts, tokenizer=tokenizer, **known)
    read = {text: text for prompt in prompts for text in (prompt.text, prompt.class_text)}
    if regional:
        read |= {text: prompt.text for prompt in prompts for text in by_region(prompt.text)}
    check_lengths(
        concepts,
        tokenizer=tokenizer,
        num_tokens=tokens.learnt,
        class_word=tokens.class_word,
        read=read,
    )
    if tokens.initial_words == "rare_words":
        rare_words(tokenizer, len(concepts.concepts), known=known.get("words", ()))


def check_merging(spec: BaseModels, merging: MergingSettings | None) -> None:
    """Refuse a merge that needs more general prompts than it is given, or than there are.

    Raises:
        ValueError: names the field, and how many would do.
    """
    from clif_exp.methods.settings import ConstrainedMerge

    if not isinstance(merging, ConstrainedMerge):
        return
    from clif_exp.base_models.loading import load_tokenizer
    from clif_exp.base_models.spec import pipeline_folder
    from clif_exp.diffusion.prior import general_texts, refuse_too_many
    from clif_exp.methods.constrained_merge import count_features

    field, world, count = "method.merging.captions", spec.record.world, merging.captions
    refuse_too_many(world, count=count, field=field)
    tokenizer = load_tokenizer(spec)
    config = json.loads((pipeline_folder(spec) / "unet" / "config.json").read_text())
    width = int(config["cross_attention_dim"])

    def features(captions: int) -> int:
        return count_features(tokenizer, general_texts(world, count=captions, seed=merging.seed))

    if (found := features(count)) >= width:
        return
    enough = count
    while features(enough) < width:
        enough += 1 + enough // 4
        refuse_too_many(world, count=enough, field=field)
    raise ValueError(
        f"{field}: found {count}, whose tokens have {found} different features; the text is"
        f" {width} wide and needs at least as many. Use {enough}."
    )


def check_segmenter(config: Config, spec: BaseModels) -> None:
    """Find SAM's weights, and download them if they are named by the hub's name.

    Args:
        config: of the run.
        spec: base models; names the weights where the segmenter's settings do not.

    Raises:
        ValueError: there are none.
    """
    segmenter = config.segmenter
    if "curation" in config.stages and segmenter.name == "sam" and segmenter.target is None:
        from clif_exp.base_models.sam import resolve_checkpoint

        resolve_checkpoint(segmenter.own()["checkpoint"] or spec.segmenter_checkpoint)


def check_parts(concepts: ConceptSet, config: Config) -> None:
    """Refuse R-Aug without parts before anything is segmented for it.

    Raises:
        ValueError: the captioner only repeats what the set lists, and it lists no parts.
    """
    needed = "curation" in config.stages and config.augmentation.region.num_pairs
    listed = any(concept.parts for concept in concepts.concepts)
    if needed and config.captioner.name == "provided" and not listed:
        raise ValueError(
            "augmentation.region: no concept lists parts, and captioner=provided finds none. List"
            " parts in concepts.yaml, choose captioner=vlm or captioner=openai, or leave region"
            " augmentation out with augmentation.region.num_pairs=0."
        )


def check_told_apart(concepts: ConceptSet, config: Config) -> None:
    """Refuse concepts whose prompts would be the same: one embedding, and nothing that changes it.

    Raises:
        ValueError: names two of them and what they share.
    """
    diffusion = config.diffusion
    if (
        "diffusion" not in config.stages
        or not config.method.diffusion
        or config.method.contrastive
        or diffusion.train_embeddings
        or diffusion.initial_words != "class_word"
    ):
        return
    first: dict[str, str] = {}
    for concept in concepts.concepts:
        other = first.setdefault(concept.class_word, concept.name)
        if other != concept.name:
            raise ValueError(
                f"diffusion.train_embeddings: found false, but <{other}> and <{concept.name}> both"
                f" start at {concept.class_word!r} and no stage 1 tells them apart. Set it to true,"
                " or use diffusion.initial_words=rare_words."
            )


def select_prompts(
    concepts: ConceptSet, settings: PromptSettings
) -> tuple[list[EvaluationPrompt], list[str]]:
    """Collect the evaluation prompts, and what a user should know of them, in sentences."""
    from clif_exp.prompts.sources import collect_prompts

    class_words = {concept.name: concept.class_word for concept in concepts.concepts}
    aliases = {old: new for old, new in concepts.intake.renamed if new in class_words}
    return collect_prompts(class_words, aliases=aliases, settings=settings)
