"""The model card: the files, the words that call up the concepts, and what made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import yaml

from clif_exp.base_models.spec import is_local
from clif_exp.export.embeddings import loading_code

if TYPE_CHECKING:
    from clif_exp.base_models.spec import BaseModels
    from clif_exp.concepts.concept import ConceptSet

_FRONT = """---
base_model: {base_model}
library_name: diffusers
pipeline_tag: text-to-image
tags: [clif, lora, textual-inversion, {pipeline}]
{instance}---

# {names}

Taught with CLIF to `{base_model}`{revision}, {count} concepts together.

## Words

| write | for | tokens |
| --- | --- | --- |
{words}

## Use

{use}{whole}
ComfyUI, A1111: put `kohya.safetensors` with the LoRAs and the files of `embeddings/` \
with the embeddings. There an embedding is
called by its file name{call}.

## Made from

- concept set `{set_name}`, fingerprint `{fingerprint}`
{facts}
"""

_USE = """```python
from diffusers import {pipeline}
{encoders}pipe = {pipeline}.from_pretrained("{base_model}"{pin}{passed})
{unet}for concept in {names}:
    {load}
pipe("{prompt}").images[0]
```
"""

_ENCODER = '{name} = transformers.{model_class}.from_pretrained("{name}")\n'
_WHOLE = """
Stage 1 trained whole text encoders: the images need {folders} in place of the base model's; \
no LoRA file carries them.
ComfyUI loads `model.safetensors` in there as a CLIP (folder `text_encoders`); \
A1111 has no place for it, so train with
`contrastive=lora` to use the result there.
"""


def model_card(
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    num_tokens: Mapping[str, int],
    config: Mapping[str, Any],
    unet_code: Sequence[str],
    encoders: Sequence[str],
) -> str:
    """Return the text of README.md.

    Args:
        spec: resolved base models.
        concepts: what was customised.
        num_tokens: concept name -> number of tokens.
        config: what made the files; shown as it is.
        unet_code: Python that loads what was trained in the U-Net.
        encoders: text encoders that the export holds whole.
    """
    family = spec.record
    # A local path means nothing to others, and may tell more than its owner wants.
    base_model = f"<your {spec.family} folder>" if is_local(str(spec.path)) else str(spec.path)
    names = [concept.name for concept in concepts.concepts]
    second = names[1] if len(names) > 1 else None
    prompt = f"a photo of <{names[0]}>" + (
        f" on the left and <{second}> on the right" if second else ""
    )
    use = _USE.format(
        pipeline=family.pipeline,
        base_model=base_model,
        pin=f', revision="{spec.revision}"' if spec.revision else "",
        names=names,
        unet="".join(f"{line}\n" for line in unet_code),
        load="\n    ".join(loading_code(family)),
        prompt=prompt,
        encoders="".join(
            _ENCODER.format(name=name, model_class=family.encoders[name].model_class)
            for name in encoders
        ),
        passed="".join(f", {name}={name}" for name in encoders),
    )
    words = "\n".join(
        f"| `<{c.name}>` | a {c.class_word} | {num_tokens[c.name]} |" for c in concepts.concepts
    )
    return _FRONT.format(
        base_model=base_model,
        pipeline=family.pipeline,
        instance=f'instance_prompt: "{prompt}"\n',
        names=", ".join(names),
        revision=f" at revision `{spec.revision}`" if spec.revision else "",
        count=len(names),
        words=words,
        use=use,
        call=f": `{names[0]}` instead of `<{names[0]}>`",
        whole=(
            _WHOLE.format(folders=" and ".join(f"`{name}/`" for name in encoders))
            if encoders
            else ""
        ),
        set_name=concepts.name,
        fingerprint=concepts.fingerprint(),
        facts=_facts(config),
    )


def _facts(config: Mapping[str, Any]) -> str:
    return (
        "\n```yaml\n"
        + yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None).rstrip()
        + "\n```"
    )
