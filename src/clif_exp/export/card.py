"""The model card: what the files are, the words that call the concepts up, and what they were made
from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

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
{sample}
## Words

| write | for | tokens |
| --- | --- | --- |
{words}

## Use

{use}{whole}
ComfyUI, A1111: put `kohya.safetensors` with the LoRAs and the files of `embeddings/` with the embeddings. There an embedding is
called by its file name{call}.

## Made from

- concept set `{set_name}`, fingerprint `{fingerprint}`
{facts}
"""

_USE = """```python
from diffusers import {pipeline}
{encoders}pipe = {pipeline}.from_pretrained("{base_model}"{pin}{passed})
{lora}for concept in {names}:
    {load}
pipe("{prompt}").images[0]
```
"""

_CLASSES = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
_ENCODER = '{name} = transformers.{made}.from_pretrained("{name}")\n'
_WHOLE = """
Stage 1 trained whole text encoders: the images need {folders} in place of the base model's; no LoRA file carries them.
ComfyUI loads `model.safetensors` in there as a CLIP (folder `text_encoders`); A1111 has no place for it, so train with
`contrastive=lora` to use the result there.
"""

_LOAD_ONE = 'pipe.load_textual_inversion(f"embeddings/{concept}.safetensors")'
_LOAD_TWO = """rows = safetensors.torch.load_file(f"embeddings/{concept}.safetensors")
    pipe.load_textual_inversion({f"<{concept}>": rows["clip_l"]}, text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    pipe.load_textual_inversion({f"<{concept}>": rows["clip_g"]}, text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)"""


def model_card(
    *,
    spec: BaseModels,
    concepts: ConceptSet,
    num_tokens: Mapping[str, int],
    config: Mapping[str, Any],
    has_lora: bool,
    sample: bool,
    encoders: Sequence[str] = (),
) -> str:
    """Return the text of README.md.

    Args:
        spec: resolved base models.
        concepts: what was customised.
        num_tokens: concept name -> number of tokens.
        config: what made the files; shown as it is.
        has_lora: the export holds a LoRA.
        sample: the export holds sample.png.
        encoders: text encoders that the export holds whole.
    """
    from clif_exp.base_models.families import FAMILIES
    from clif_exp.base_models.spec import is_local

    pipeline = FAMILIES[spec.family]
    # A local path says nothing to anybody else, and may say more than its owner wants.
    base_model = f"<your {spec.family} folder>" if is_local(str(spec.path)) else str(spec.path)
    names = [concept.name for concept in concepts.concepts]
    second = names[1] if len(names) > 1 else None
    prompt = f"a photo of <{names[0]}>" + (
        f" on the left and <{second}> on the right" if second else ""
    )
    use = _USE.format(
        pipeline=pipeline,
        base_model=base_model,
        pin=f', revision="{spec.revision}"' if spec.revision else "",
        names=names,
        lora=(
            'pipe.load_lora_weights(".", weight_name="pytorch_lora_weights.safetensors")\n'
            if has_lora
            else ""
        ),
        load=_LOAD_TWO if spec.family == "sdxl" else _LOAD_ONE,
        prompt=prompt,
        encoders="".join(_ENCODER.format(name=name, made=_CLASSES[name]) for name in encoders),
        passed="".join(f", {name}={name}" for name in encoders),
    )
    words = "\n".join(
        f"| `<{c.name}>` | a {c.class_word} | {num_tokens[c.name]} |" for c in concepts.concepts
    )
    return _FRONT.format(
        base_model=base_model,
        pipeline=pipeline,
        instance=f'instance_prompt: "{prompt}"\n',
        names=", ".join(names),
        revision=f" at revision `{spec.revision}`" if spec.revision else "",
        count=len(names),
        sample="\n![sample](sample.png)\n" if sample else "",
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
    import yaml

    return (
        "\n```yaml\n"
        + yaml.safe_dump(dict(config), sort_keys=False, default_flow_style=None).rstrip()
        + "\n```"
    )
