"""The model card: the words that call up the concepts, whose each file is, and what made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from clif_exp.base_models.spec import is_local
from clif_exp.base_models.unet_tuning.lora import FILE as LORA_FILE
from clif_exp.base_models.unet_tuning.lora import STABLE_NAME
from clif_exp.export.embeddings import FOLDER, loading_code
from clif_exp.export.tools import in_a1111, in_comfyui, in_diffusers, sample_prompt
from clif_exp.prompts.articles import with_article

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.base_models.unet_tuning.kind import ExportFacts
    from clif_exp.concepts.concept import ConceptSet

_CARD = """---
base_model: {base_model}
library_name: diffusers
pipeline_tag: text-to-image
tags: [clif, lora, textual-inversion, {pipeline}]
instance_prompt: "{prompt}"
---

# {names}

Taught with CLIF to `{base_model}`{revision}, {count} concepts together.

## Words

| for | in diffusers | in ComfyUI | in A1111 and Forge | tokens |
| --- | --- | --- | --- | --- |
{words}
{warning}
## Files

| file | for |
| --- | --- |
{files}

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
{whole}
## Made from

- concept set `{set_name}`, fingerprint `{fingerprint}`

```yaml
{made_from}
```
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
_WHOLE = """
## Whole text encoders

Stage 1 trained whole text encoders: the images need {folders} in place
of the base model's; no LoRA file carries them. ComfyUI loads `model.safetensors` in there as a CLIP
(folder `models/text_encoders/`); A1111 has no place for it, so train with `contrastive=lora` to use
the result there.
"""
_IMPORTED = ("safetensors.torch", "transformers")
_NO_FILE = "It has no file for what was trained in the U-Net."


def model_card(
    out: Path,
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    facts: ExportFacts,
    num_tokens: Mapping[str, int],
    config: Mapping[str, Any],
    unet_code: Sequence[str],
    encoders: Sequence[str],
    common: Sequence[str],
) -> str:
    """Return the text of README.md.

    Args:
        out: folder of the export, with all other files in it.
        spec: resolved base models.
        concepts: what was customised.
        facts: what the files' headers say.
        num_tokens: concept name -> number of tokens.
        config: what made the files; shown as it is.
        unet_code: Python that loads what was trained in the U-Net.
        encoders: text encoders that the export holds whole.
        common: concepts whose names are words of the tokenizer.
    """
    base_model = _base_model(spec)
    prompt = _prompt(concepts, in_diffusers)
    code = _code(spec, base_model, concepts, unet_code=unet_code, encoders=encoders)
    return _CARD.format(
        base_model=base_model,
        pipeline=spec.record.pipeline,
        prompt=prompt,
        names=", ".join(concepts.names),
        revision=f" at revision `{spec.revision}`" if spec.revision else "",
        count=len(concepts.names),
        words="\n".join(_words(concepts, num_tokens)),
        warning=_warning(common),
        files="\n".join(_files(out, web_file=facts.web_file, encoders=encoders)),
        code="\n".join(code),
        where=_where(spec, base_model=base_model),
        whole=_whole(encoders),
        set_name=concepts.name,
        fingerprint=concepts.fingerprint(),
        made_from=yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None).rstrip(),
        **_web_tools(out, concepts, facts=facts, unet_code=unet_code),
    )


def _web_tools(
    out: Path, concepts: ConceptSet, *, facts: ExportFacts, unet_code: Sequence[str]
) -> dict[str, str]:
    """Return what ComfyUI's and A1111's sections say."""
    lora = facts.web_file if (out / facts.web_file).is_file() else None
    called = f" <lora:{facts.name}:1>" if lora else ""
    return {
        "comfyui": _put(
            lora, "models/loras/", " (node Load LoRA)", "models/embeddings/", unet_code
        ),
        "comfyui_prompt": _prompt(concepts, in_comfyui),
        "possessive": f"{in_comfyui(concepts.names[-1])} 's hat",
        "a1111": _put(lora, "models/Lora/", "", "embeddings/", unet_code),
        "a1111_prompt": _prompt(concepts, in_a1111) + called,
    }


def _prompt(concepts: ConceptSet, tool: Callable[[str], str]) -> str:
    return sample_prompt([tool(name) for name in concepts.names])


def _words(concepts: ConceptSet, num_tokens: Mapping[str, int]) -> list[str]:
    return [
        f"| {with_article(c.class_word)} | `{in_diffusers(c.name)}` | `{in_comfyui(c.name)}` |"
        f" `{in_a1111(c.name)}` | {num_tokens[c.name]} |"
        for c in concepts.concepts
    ]


def _base_model(spec: BaseModels) -> str:
    """Name the base model; a path means nothing to others, and may tell more than one wants."""
    return f"<your {spec.family} folder>" if is_local(str(spec.path)) else str(spec.path)


def _warning(common: Sequence[str]) -> str:
    if not common:
        return ""
    return _COMMON_WORDS.format(names=", ".join(f"`{name}`" for name in common))


def _files(out: Path, *, web_file: str, encoders: Sequence[str]) -> list[str]:
    rows = {f"`{FOLDER}/<concept>.safetensors`": "all of them: one embedding per concept"}
    whose = {
        LORA_FILE: "diffusers only; ComfyUI would load a part of it, Forge refuses it",
        web_file: "ComfyUI, A1111, Forge, kohya's scripts; diffusers reads it too",
        STABLE_NAME: f"your own scripts: {web_file} under a name that is always the same",
    }
    rows |= {
        f"`{file.name}`": whose.get(file.name, "diffusers: what was trained in the U-Net")
        for file in sorted(out.glob("*.safetensors"))
    }
    rows |= {f"`{encoder}/`": "a whole text encoder, see below" for encoder in encoders}
    return [f"| {file} | {tools} |" for file, tools in rows.items()]


def _code(
    spec: BaseModels,
    base_model: str,
    concepts: ConceptSet,
    *,
    unet_code: Sequence[str],
    encoders: Sequence[str],
) -> list[str]:
    """Return the lines of Python that draw the sample prompt, run in the export's folder."""
    family = spec.record
    given = [f'"{base_model}"']
    given += [f'revision="{spec.revision}"'] if spec.revision else []
    given += [f"{name}={name}" for name in encoders]
    lines = [
        *(
            f'{name} = transformers.{family.encoders[name].model_class}.from_pretrained("{name}")'
            for name in encoders
        ),
        f"pipe = {family.pipeline}.from_pretrained({', '.join(given)})",
        *unet_code,
        f"for concept in {list(concepts.names)}:",
        *(f"    {line}" for line in loading_code(family)),
        f'pipe("{_prompt(concepts, in_diffusers)}").images[0].save("image.png")',
    ]
    used = [name for name in _IMPORTED if any(f"{name}." in line for line in lines)]
    imports = [f"import {name}" for name in used] + [f"from diffusers import {family.pipeline}"]
    return [*imports, "", *lines]


def _where(spec: BaseModels, *, base_model: str) -> str:
    if not is_local(str(spec.path)):
        return ""
    return (_PACKAGED if spec.record.packaged else _LOCAL).format(base_model=base_model)


def _put(
    web_file: str | None, loras: str, how: str, embeddings: str, unet_code: Sequence[str]
) -> str:
    """Say where the files go."""
    # Each kind of training has a line of Python; only a LoRA has a file for these tools.
    left_out = f" {_NO_FILE}" if len(unet_code) > (web_file is not None) else ""
    rest = f"the files of `{FOLDER}/` into `{embeddings}`"
    if web_file is None:
        return f"Put {rest}." + left_out
    return f"Put `{web_file}` into `{loras}`{how} and {rest}." + left_out


def _whole(encoders: Sequence[str]) -> str:
    if not encoders:
        return ""
    return _WHOLE.format(folders=" and ".join(f"`{name}/`" for name in encoders))
