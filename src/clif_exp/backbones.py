"""The base models of one ``model=`` choice: found, checked and loaded through their libraries' own loaders.

Nothing heavy is imported before a function needs it. Weights are read from safetensors only, and no code that comes
with a model is ever run.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clif_exp.backbone_checks import check_model_folder, check_pipeline_folder, check_same_text_tower, check_same_tokenizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FAMILIES = {
    "toonworld": "StableDiffusionPipeline",
    "sd15": "StableDiffusionPipeline",
    "sd21": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
}
_WEIGHT_PATTERNS = ["*.json", "*.txt", "*.safetensors"]


@dataclass(frozen=True)
class BackboneSpec:
    """Which base models a run stands on.

    Args:
        family: toonworld, sd15, sd21 or sdxl.
        path: a diffusers pipeline: a local folder or a hub id; None (toonworld only) means the packaged one.
        revision: commit of a hub id; None takes the newest and `resolve` records which one that was.
        contrastive: text encoder name ("text_encoder", "text_encoder_2") -> CLIP checkpoint, folder or hub id, whose
            text tower equals the pipeline's.
        resolution: side of the pictures in px.
        segmenter_checkpoint: SAM weights, or None for the segmenter's own choice.
        domain: the only kind of pictures that the models know, as a dataset's `domain`; None: any.
    """

    family: str
    path: str | None = None
    revision: str | None = None
    contrastive: Mapping[str, str] = field(default_factory=dict)
    resolution: int = 512
    segmenter_checkpoint: str | None = None
    domain: str | None = None


def packaged_weights() -> Path:
    """Return the folder of ToonWorld's shipped weights."""
    return Path(__file__).parent / "toonworld" / "weights"


def resolve(spec: BackboneSpec) -> BackboneSpec:
    """Fill in defaults and check, before anything is loaded, that the named models are there and fit together.

    Raises:
        ValueError: an unknown family, a missing folder, component or weight file, weights that are not safetensors, or a
            pipeline of another family; names what was found and what would do.
    """
    if spec.family not in FAMILIES:
        raise ValueError(f"model.family: found {spec.family!r}; known are {', '.join(FAMILIES)}.")
    if spec.resolution <= 0 or spec.resolution % 8:
        raise ValueError(f"model.resolution: found {spec.resolution}; it must be a positive multiple of 8.")
    spec = _fill_toonworld(spec) if spec.family == "toonworld" else spec
    if not spec.path:
        raise ValueError(f"model.path: found {spec.path!r}; give a folder or hub id of a {spec.family} pipeline.")
    if is_local(spec.path):
        check_pipeline_folder(Path(spec.path), family=spec.family, pipeline_class=FAMILIES[spec.family])
        spec = replace(spec, revision=None)
    else:
        spec = replace(spec, revision=_pin_revision(str(spec.path), spec.revision))
    expected = ["text_encoder", "text_encoder_2"] if spec.family == "sdxl" else ["text_encoder"]
    if sorted(spec.contrastive) != expected:
        raise ValueError(
            f"model.contrastive: found {sorted(spec.contrastive)}; {spec.family} needs one CLIP checkpoint for each of "
            f"{expected}, because a pipeline holds no image tower."
        )
    for encoder, checkpoint in spec.contrastive.items():
        if is_local(checkpoint):
            check_model_folder(Path(checkpoint), what=f"model.contrastive.{encoder}")
    return spec


def is_local(path: str | Path) -> bool:
    """Return whether a model path names a folder rather than a hub id (``owner/name``)."""
    text = str(path)
    return Path(text).exists() or text.startswith((".", "/", "~")) or text.count("/") != 1


def _fill_toonworld(spec: BackboneSpec) -> BackboneSpec:
    root = Path(spec.path).expanduser() if spec.path else packaged_weights()
    # Either the folder of all of ToonWorld's models or one pipeline.
    if not (root / "model_index.json").is_file():
        root, pipeline = root, root / "pipeline"
    else:
        root, pipeline = root.parent, root
    contrastive = dict(spec.contrastive) or {"text_encoder": str(root / "clip")}
    sam = root / "sam"
    segmenter = spec.segmenter_checkpoint or (str(sam) if sam.is_dir() else None)
    return replace(spec, path=str(pipeline), contrastive=contrastive, segmenter_checkpoint=segmenter)


def _pin_revision(repo: str, revision: str | None) -> str:
    """Download a hub model's safetensors (or find them in the cache) and return the commit that they are of."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repo,
            revision=revision,
            allow_patterns=[f"{part}/*{p[1:]}" for part in _PARTS for p in _WEIGHT_PATTERNS] + ["model_index.json"],
            ignore_patterns=["*.fp16.safetensors", "*.non_ema.safetensors"],
        )
    except Exception as error:
        raise ValueError(
            f"model.path: {repo!r} is neither a folder here nor a model that could be downloaded "
            f"({type(error).__name__}). Check the name and the network, or give a local folder."
        ) from error
    return Path(folder).name


_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def identity(spec: BackboneSpec) -> str:
    """Return a SHA-256 that changes with the content of any weight or config file of the base models.

    Local folders are hashed by relative names and contents, not by paths; hub models by ``id@revision``.
    """
    digest = hashlib.sha256(f"{spec.family}:{spec.resolution}".encode())
    named = {"pipeline": spec.path, "segmenter": spec.segmenter_checkpoint}
    named |= {f"contrastive.{name}": path for name, path in spec.contrastive.items()}
    for name, path in sorted(named.items()):
        digest.update(f"\n{name}=".encode())
        if path is None:
            continue
        if not is_local(path):
            digest.update(f"{path}@{spec.revision if name == 'pipeline' else ''}".encode())
            continue
        root = Path(path).expanduser()
        files = [root] if root.is_file() else sorted(f for f in root.rglob("*") if f.is_file())
        for file in files:
            if root.is_dir() and file.suffix not in (".json", ".txt", ".safetensors"):
                continue
            relative = file.relative_to(root).as_posix() if file != root else ""
            digest.update(f"\n{relative}:".encode() + _file_digest(file))
    return digest.hexdigest()


def _file_digest(file: Path) -> bytes:
    """Return a file's SHA-256; those of large files are remembered by path, size and modification time."""
    from os import environ

    stat = file.stat()
    cache = Path(environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "clif_exp" / "hashes"
    key = hashlib.sha256(f"{file.resolve()}:{stat.st_size}:{stat.st_mtime_ns}".encode()).hexdigest()
    large = stat.st_size > 256 * 2**20
    if large and (cache / key).is_file():
        return bytes.fromhex((cache / key).read_text())
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    if large:
        try:
            cache.mkdir(parents=True, exist_ok=True)
            (cache / key).write_text(digest.hexdigest())
        except OSError:
            pass  # A cache that cannot be written costs time only.
    return digest.digest()


@contextlib.contextmanager
def quiet_loading() -> Iterator[None]:
    """Load without bars of shards and components, which fill a run's output; the hub's bars of downloads stay."""
    import diffusers
    import transformers

    libraries = (diffusers.utils.logging, transformers.utils.logging)
    shown = [library.is_progress_bar_enabled() for library in libraries]
    verbosity = diffusers.utils.logging.get_verbosity()
    diffusers.utils.logging.set_verbosity_error()
    for library in libraries:
        library.disable_progress_bar()
    try:
        yield
    finally:
        diffusers.utils.logging.set_verbosity(verbosity)
        for library, was_shown in zip(libraries, shown, strict=True):
            if was_shown:
                library.enable_progress_bar()


def load_pipeline(spec: BackboneSpec, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> Any:
    """Load the stock diffusers pipeline, without a safety checker, silent, in eval mode, nothing requiring gradients."""
    import diffusers
    import torch

    arguments: dict[str, Any] = {"dtype": dtype or torch.float32, "use_safetensors": True}
    if FAMILIES[spec.family] == "StableDiffusionPipeline":
        arguments |= {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline_class = getattr(diffusers, FAMILIES[spec.family])
    with quiet_loading():
        pipeline = pipeline_class.from_pretrained(spec.path, revision=spec.revision, **arguments)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae, *_text_encoders(pipeline).values()):
        part.requires_grad_(False).eval()
    pipeline = pipeline.to(device)
    prefer_fast_attention(pipeline, device=device)
    return pipeline


def prefer_fast_attention(pipeline: Any, *, device: str | torch.device) -> None:
    """Use plain attention on CPUs, where torch's fused kernel is slower for small models (1.3 to 2.1 times)."""
    import torch
    from diffusers.models.attention_processor import AttnProcessor

    if torch.device(device).type != "cpu":
        return
    pipeline.unet.set_attn_processor(AttnProcessor())
    for encoder in _text_encoders(pipeline).values():
        encoder.set_attn_implementation("eager")


def _text_encoders(pipeline: Any) -> dict[str, Any]:
    names = ("text_encoder", "text_encoder_2")
    return {name: getattr(pipeline, name) for name in names if getattr(pipeline, name, None) is not None}


def text_encoders_of(pipeline: Any) -> dict[str, tuple[Any, Any]]:
    """Return encoder name -> (tokenizer, text encoder) of a loaded pipeline."""
    return {
        name: (getattr(pipeline, name.replace("text_encoder", "tokenizer")), encoder) for name, encoder in _text_encoders(pipeline).items()
    }


def load_text_encoders(
    spec: BackboneSpec, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> dict[str, tuple[Any, Any]]:
    """Load only the text side of a pipeline: encoder name -> (tokenizer, text encoder), frozen, in eval mode."""
    import torch
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    classes: dict[str, Any] = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    source: dict[str, Any] = {"pretrained_model_name_or_path": spec.path, "revision": spec.revision}
    loaded: dict[str, tuple[Any, Any]] = {}
    for name in spec.contrastive:
        tokenizer = CLIPTokenizer.from_pretrained(**source, subfolder=name.replace("text_encoder", "tokenizer"))
        with quiet_loading():
            encoder: Any = classes[name].from_pretrained(**source, subfolder=name, use_safetensors=True, dtype=dtype or torch.float32)
        if torch.device(device).type == "cpu":
            encoder.set_attn_implementation("eager")
        loaded[name] = (tokenizer, encoder.to(device).requires_grad_(False).eval())
    return loaded


def text_layers(spec: BackboneSpec, encoder: str) -> tuple[int, int]:
    """Return how many layers a pipeline's text encoder has, and how many of them the U-Net reads.

    Of SDXL's two encoders the U-Net reads the penultimate layer; the second one's last layer reaches it through the pooled text.
    SD 2.1 reads the penultimate layer of its CLIP too, but its pipeline holds one layer less to that end.
    """
    from transformers import CLIPTextConfig

    loader: Any = CLIPTextConfig
    config = loader.from_pretrained(str(spec.path), subfolder=encoder, revision=spec.revision)
    layers = int(config.num_hidden_layers)
    return layers, layers - 1 if spec.family == "sdxl" and encoder == "text_encoder" else layers


def load_contrastive(
    spec: BackboneSpec,
    encoder: str = "text_encoder",
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    check: bool = True,
) -> tuple[Any, Any, Any]:
    """Load the CLIP of one text encoder and check that its text tower is the pipeline's.

    Returns:
        (CLIPModel, tokenizer, image processor); the model frozen, in eval mode.

    Raises:
        ValueError: tokenizer, token table or a shared layer differ from the pipeline's.
    """
    import torch
    from transformers import CLIPImageProcessor, CLIPModel

    checkpoint = spec.contrastive[encoder]
    with quiet_loading():
        model: Any = CLIPModel.from_pretrained(checkpoint, use_safetensors=True, dtype=dtype or torch.float32)
    tokenizer, pipeline_encoder = load_text_encoders(replace(spec, contrastive={encoder: checkpoint}), dtype=torch.float32)[encoder]
    if check:
        check_same_text_tower(model, pipeline_encoder, what=f"model.contrastive.{encoder} ({checkpoint})")
        check_same_tokenizer(checkpoint, tokenizer, what=f"model.contrastive.{encoder} ({checkpoint})")
    if torch.device(device).type == "cpu":
        model.set_attn_implementation("eager")
    processor = CLIPImageProcessor.from_pretrained(checkpoint)
    return model.to(device).requires_grad_(False).eval(), tokenizer, processor


def encode_images(vae, pixels_BCHW: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """Encode pictures to the latents that the U-Net was trained on.

    Args:
        vae: AutoencoderKL or AutoencoderTiny.
        pixels_BCHW: float [B, 3, H, W] in [-1, 1].
        generator: samples the posterior (AutoencoderKL); None takes its mode.

    Returns:
        Scaled latents, [B, C, H / 8, W / 8], in the autoencoder's dtype.
    """
    encoded = vae.encode(pixels_BCHW.to(vae.device, vae.dtype))
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode() if generator is None else encoded.latent_dist.sample(generator)
        latents = latents - (getattr(vae.config, "shift_factor", None) or 0.0)
    else:
        latents = encoded.latents
    return latents * vae.config.scaling_factor
