"""The model card: the words that call up the concepts, whose each file is, and what made them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from clif_exp.base_models.spec import is_local, pipeline_folder
from clif_exp.base_models.unet_tuning.web import STABLE_NAME
from clif_exp.export.embeddings import FOLDER, loading_code
from clif_exp.export.nearness import nearness
from clif_exp.export.record import read_sampling, sampling_matter
from clif_exp.export.tools import in_a1111, in_comfyui, in_diffusers, sample_prompt
from clif_exp.prompts.articles import with_article

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.unet_tuning.exported import Exported
    from clif_exp.base_models.unet_tuning.kind import ExportFacts
    from clif_exp.concepts.concept import ConceptSet
    from clif_exp.export.record import Record

_CARD = """---
base_model: {base_model}
library_name: diffusers
pipeline_tag: text-to-image
tags: [{tags}]
instance_prompt: "{prompt}"
{front_matter}
---

# {names}

{count} taught to `{base_model}`{revision} by clif_exp, {how}.

## Words

| for | in diffusers | in ComfyUI | in A1111 and Forge | tokens |
| --- | --- | --- | --- | --- |
{words}
{warning}{unread}{regional}
## Files

| file | for |
| --- | --- |
{files}
{notes}
## diffusers

```python
{code}
```
{where}
## ComfyUI

{comfyui}

    {comfyui_prompt}

A space ends a concept's name there: write `{possessive}`.

## A1111, Forge

{a1111}

    {a1111_prompt}
{near}{whole}
## Made from

{made_from}
"""

_PACKAGED = """
`{base_model}` is the pipeline that clif_exp ships (or the one that `model.path` named).
This prints where it is:

    python -c "import clif_exp.base_models.spec as s; print(s.packaged_weights() / 'pipeline')"

It needs transformers 5. ComfyUI and A1111 have no place for so small a model: what is said of them
below shows the form.
"""
_LOCAL = """
`{base_model}` is the diffusers pipeline that `model.path` named.
"""
_COMMON_WORDS = """
**Common words** ({names}): the tokenizer knows them without the concept. A1111 and Forge put the
concept in their place in every prompt. To keep the word there, rename the concept's file in
`embeddings/`: ComfyUI, A1111 and Forge call a concept by it.
"""
_UNREAD = """
**No stock tool reads all of this**: {what} are for `python -m clif_exp.generate --model <this
folder>` only. Without them, the tools below draw other images.
"""
_REGIONAL = """
**By region**: `python -m clif_exp.generate --model <this folder>` reads each concept in its own
part of an image of several. The tools below draw plainly: two who hug may share clothes there.
"""
_WHOLE = """
## Whole text encoders

Whole text encoders were trained: the images need {folders} in place
of the base model's; no LoRA file carries them. ComfyUI loads `model.safetensors` in there as a CLIP
(folder `models/text_encoders/`); A1111 has no place for it, so train with `contrastive=lora` to use
the result there.
"""
# see `loading.pool_at_end`
_POOLED = "pipe.{encoder}.text_model.eos_token_id = pipe.{tokenizer}.eos_token_id  # pool there"
_IMPORTED = ("safetensors.torch", "transformers")
_NO_FILE = "It has no file for what was trained in the U-Net."


@dataclass(frozen=True)
class Origin:
    """What made an export, for its model card.

    Attributes:
        how: the end of a sentence on the concepts: "method `clif`".
        made_from: the section's text.
        method: the record's.
        regional: the record's.
        front_matter: more of it, plain.
    """

    how: str
    made_from: str
    method: str
    regional: float | None = None
    front_matter: Mapping[str, Any] = field(default_factory=dict)


def model_card(
    *,
    spec: BaseModels,
    record: Record,
    origin: Origin,
    facts: ExportFacts,
    num_tokens: Mapping[str, int],
    parts: Sequence[Exported],
    encoders: Sequence[str],
    common: Sequence[str],
) -> str:
    """Return the text of README.md.

    Args:
        spec: resolved base models.
        record: for the front matter.
        origin: what made the files.
        facts: what the files' headers say.
        num_tokens: concept name -> number of tokens.
        parts: what the export holds besides text encoders and embeddings.
        encoders: text encoders that the export holds whole.
        common: concepts whose names are words of the tokenizer.
    """
    base_model = _base_model(spec)
    names = tuple(record.concepts)
    sampling = read_sampling(origin.front_matter) | _own_size(spec)
    code = _code(spec, base_model, names, parts=parts, encoders=encoders, sampling=sampling)
    lora = any(part.lora is not None for part in parts)
    tags = ["clif", *(["lora"] if lora else []), "textual-inversion", spec.record.pipeline]
    return _CARD.format(
        base_model=base_model,
        tags=", ".join(tags),
        prompt=_prompt(names, in_diffusers),
        front_matter=_yaml({**origin.front_matter, **record.front_matter()}),
        names=", ".join(names),
        revision=f" at revision `{spec.revision}`" if spec.revision else "",
        count=f"{len(names)} concepts," if len(names) > 1 else "1 concept,",
        how=origin.how,
        words="\n".join(_words(record.concepts, num_tokens)),
        warning=_warning(common),
        unread="".join(_UNREAD.format(what=part.unread) for part in parts if part.unread),
        files="\n".join(_files(parts, web_file=facts.web_file, encoders=encoders)),
        regional=_REGIONAL if record.regional and len(names) > 1 else "",
        notes="".join(f"\n{note}\n" for part in parts for note in part.notes),
        code="\n".join(code),
        where=_where(spec, base_model=base_model),
        near=_near(parts, web_file=facts.web_file),
        whole=_whole(encoders),
        made_from=origin.made_from,
        **_web_tools(names, facts=facts, parts=parts),
    )


def origin_of_run(
    concepts: ConceptSet,
    config: Mapping[str, Any],
    *,
    sampling: Mapping[str, float],
    regional: float | None,
) -> Origin:
    """Say that a run made an export.

    Args:
        concepts: what was customised.
        config: what made the files; shown as it is.
        sampling: how the run draws its own images (`record.sampling_matter`).
        regional: the record's.
    """
    method = dict(config.get("method", {})).get("name", "of your own")
    return Origin(
        how=f"method `{method}`",
        made_from=f"- concept set `{concepts.name}`, fingerprint `{concepts.fingerprint()}`\n\n"
        + yaml_block(config),
        method=method,
        regional=regional,
        front_matter=sampling_matter(sampling),
    )


def yaml_block(content: Mapping[str, Any]) -> str:
    """Return a card's block of YAML."""
    return f"```yaml\n{_yaml(content)}\n```"


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None).rstrip()


def _web_tools(
    names: Sequence[str], *, facts: ExportFacts, parts: Sequence[Exported]
) -> dict[str, str]:
    """Return what ComfyUI's and A1111's sections say."""
    lora = facts.web_file if any(part.lora is not None for part in parts) else None
    called = f" <lora:{facts.name}:1>" if lora else ""
    # Only what has a LoRA has a file for these tools.
    without = any((part.components or part.code) and part.lora is None for part in parts)
    left_out = f" {_NO_FILE}" if without else ""
    comfyui = _put(lora, "models/loras/", " (node Load LoRA)", "models/embeddings/")
    return {
        "comfyui": comfyui + left_out,
        "comfyui_prompt": _prompt(names, in_comfyui),
        "possessive": f"{in_comfyui(names[-1])} 's hat",
        "a1111": _put(lora, "models/Lora/", "", "embeddings/") + left_out,
        "a1111_prompt": _prompt(names, in_a1111) + called,
    }


def _prompt(names: Sequence[str], tool: Callable[[str], str]) -> str:
    return sample_prompt([tool(name) for name in names])


def _words(concepts: Mapping[str, str], num_tokens: Mapping[str, int]) -> list[str]:
    return [
        f"| {with_article(class_word)} | `{in_diffusers(name)}` | `{in_comfyui(name)}` |"
        f" `{in_a1111(name)}` | {num_tokens[name]} |"
        for name, class_word in concepts.items()
    ]


def _base_model(spec: BaseModels) -> str:
    """Name the base model; a path means nothing to others, and may tell more than one wants."""
    return f"<your {spec.family} folder>" if is_local(str(spec.path)) else str(spec.path)


def _warning(common: Sequence[str]) -> str:
    if not common:
        return ""
    return _COMMON_WORDS.format(names=", ".join(f"`{name}`" for name in common))


def _files(parts: Sequence[Exported], *, web_file: str, encoders: Sequence[str]) -> list[str]:
    rows = {f"{FOLDER}/<concept>.safetensors": "all of them: one embedding per concept"}
    for part in parts:
        rows |= part.files
    if loras := [part.lora for part in parts if part.lora is not None]:
        fits = [lora.fit for lora in loras if lora.fit is not None]
        exact = "diffusers reads it too"
        also = f"the nearest LoRA of rank {fits[0].rank}, see below" if fits else exact
        rows[web_file] = f"ComfyUI, A1111, Forge, kohya's scripts; {also}"
        rows[STABLE_NAME] = f"your own scripts: {web_file} under a name that is always the same"
    rows |= {f"{encoder}/": "a whole text encoder, see below" for encoder in encoders}
    return [f"| `{file}` | {tools} |" for file, tools in rows.items()]


def _near(parts: Sequence[Exported], *, web_file: str) -> str:
    fits = [part.lora.fit for part in parts if part.lora is not None]
    return "".join(nearness(fit, web_file=web_file) for fit in fits if fit is not None)


def _code(
    spec: BaseModels,
    base_model: str,
    names: Sequence[str],
    *,
    parts: Sequence[Exported],
    encoders: Sequence[str],
    sampling: Mapping[str, float],
) -> list[str]:
    """Return the lines of Python that draw the sample prompt, run in the export's folder."""
    family = spec.record
    folders = {name: f"transformers.{family.encoders[name].model_class}" for name in encoders}
    pooled = family.encoders[family.pooled] if family.pooled else None
    own = {name: kind for part in parts for name, kind in part.components.items()}
    folders |= own
    given = [f'"{base_model}"']
    given += [f'revision="{spec.revision}"'] if spec.revision else []
    given += [f"{name}={name}" for name in folders]
    drawn = "".join(f", {name}={value}" for name, value in sampling.items())
    lines = [
        *(f'{name} = {kind}.from_pretrained("{name}")' for name, kind in folders.items()),
        f"pipe = {family.pipeline}.from_pretrained({', '.join(given)})",
        *(line for part in parts for line in part.code),
        *([_POOLED.format(encoder=family.pooled, tokenizer=pooled.tokenizer)] if pooled else []),
        f"for concept in {list(names)}:",
        *(f"    {line}" for line in loading_code(family)),
        f'image = pipe("{_prompt(names, in_diffusers)}"{drawn}).images[0]',
        'image.save("image.png")',
    ]
    used = [name for name in _IMPORTED if any(f"{name}." in line for line in lines)]
    imports = [f"import {name}" for name in used]
    imports += [f"from diffusers import {', '.join([family.pipeline, *own.values()])}"]
    return [*imports, "", *lines]


def _own_size(spec: BaseModels) -> dict[str, int]:
    """Return the images' size as a pipeline takes it, where it is not what the base draws."""
    folder = pipeline_folder(spec)
    stated = json.loads((folder / "unet" / "config.json").read_text())["sample_size"]
    side = stated if isinstance(stated, int) else stated[0]
    levels = json.loads((folder / "vae" / "config.json").read_text())["block_out_channels"]
    if side * 2 ** (len(levels) - 1) == spec.resolution:
        return {}
    return {"height": spec.resolution, "width": spec.resolution}


def _where(spec: BaseModels, *, base_model: str) -> str:
    if not is_local(str(spec.path)):
        return ""
    return (_PACKAGED if spec.record.packaged else _LOCAL).format(base_model=base_model)


def _put(web_file: str | None, loras: str, how: str, embeddings: str) -> str:
    """Say where the files go."""
    rest = f"the files of `{FOLDER}/` into `{embeddings}`"
    if web_file is None:
        return f"Put {rest}."
    return f"Put `{web_file}` into `{loras}`{how} and {rest}."


def _whole(encoders: Sequence[str]) -> str:
    if not encoders:
        return ""
    return _WHOLE.format(folders=" and ".join(f"`{name}/`" for name in encoders))
