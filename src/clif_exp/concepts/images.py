"""Safe reading of users' images and masks: refuses unreadable, animated, huge and lossy ones."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

IMAGE_SUFFIXES = (
    ".png",
    ".jpg",
    ".jpeg",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
    ".heic",
)
MAX_PIXELS = 50_000_000  # beyond this an "image" is a decompression bomb or needs downsizing anyway
MIN_SIDE = 32  # px; below this neither CLIP nor a segmenter sees anything
MIN_MASK = 64  # px in all; less is a slip of the brush, and nothing could be cut out with it

# Modes that become 8-bit RGB without losing what a person sees.
_SAFE_MODES = {"RGB", "RGBA", "RGBa", "RGBX", "L", "LA", "La", "P", "PA", "1", "CMYK", "YCbCr"}


def load_rgb(file: Path) -> Image.Image:
    """Open an image as upright 8-bit RGB; transparency becomes white.

    Args:
        file: PNG, JPEG, WebP or whatever else Pillow reads.

    Returns:
        Image of mode RGB, fully loaded, turned as its EXIF orientation says.

    Raises:
        ValueError: what was found and how to fix it (the caller adds the file's name).
    """
    image = _open(file, min_side=MIN_SIDE)
    if image.mode not in _SAFE_MODES:
        raise ValueError(
            f"has mode {image.mode} ({_mode_words(image.mode)}), which cannot become 8-bit RGB"
            " without a choice of range. Save it as 8-bit RGB."
        )
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def load_mask(file: Path, *, size: tuple[int, int] | None = None) -> np.ndarray:
    """Open a mask: white (or opaque) is the concept.

    Args:
        file: an 8-bit grey, palette, RGB or RGBA image; of RGBA the alpha channel counts.
        size: (width, height) in px that the mask must have.

    Returns:
        bool [H, W], with at least `MIN_MASK` pixels True and one False.

    Raises:
        ValueError: what was found and how to fix it.
    """
    grey = load_grey_mask(file)
    if size is not None and grey.size != tuple(size):
        raise ValueError(
            f"is a mask of {grey.width} x {grey.height} px for an image of {size[0]} x {size[1]}"
            " px. Save it in the image's size."
        )
    mask = np.asarray(grey) > 127
    if not mask.any() or mask.all():
        state = "marks nothing" if not mask.any() else "marks the whole image"
        raise ValueError(
            f"{state}. Paint the concept white on black, or remove the mask to let the segmenter"
            " look."
        )
    if (marked := int(mask.sum())) < MIN_MASK:
        raise ValueError(
            f"marks only {marked} of {mask.size:,} pixels. Paint the whole concept white, or remove"
            " the mask to let the segmenter look."
        )
    return mask


def load_grey_mask(file: Path) -> Image.Image:
    """Open a mask as upright 8-bit grey, with its soft edges: white (or opaque) is the concept.

    Raises:
        ValueError: what was found and how to fix it.
    """
    image = _open(file, min_side=1)
    if image.mode not in _SAFE_MODES:
        raise ValueError(
            f"has mode {image.mode} ({_mode_words(image.mode)}). Save the mask as 8-bit grey: white"
            " is the concept."
        )
    if image.mode in {"RGBA", "LA"} and np.asarray(image.getchannel("A")).min() < 255:
        return image.getchannel("A")
    return image.convert("L")


def _open(file: Path, *, min_side: int) -> Image.Image:
    if not file.is_file():
        raise ValueError("is missing. Add the file or remove it from the list.")
    bytes_on_disk = file.stat().st_size
    if bytes_on_disk == 0:
        raise ValueError("is empty (0 bytes). Replace the file or remove it from the folder.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(file)
            _refuse_by_header(image, min_side)
            image.load()
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"is too large ({error}). Downsize it below {MAX_PIXELS:,} pixels."
        ) from None
    except UnidentifiedImageError:
        raise ValueError(
            f"is not an image that can be read ({bytes_on_disk:,} bytes). Save it as PNG or JPEG."
        ) from None
    except ValueError:
        raise
    except (OSError, SyntaxError, EOFError) as error:
        if "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise ValueError(
                f"is truncated ({bytes_on_disk:,} bytes found: {error}). Replace the file or remove"
                " it from the folder."
            ) from None
        raise ValueError(
            f"cannot be read ({error}). Replace the file or save it as PNG or JPEG."
        ) from None
    return ImageOps.exif_transpose(image)


def _refuse_by_header(image: Image.Image, min_side: int) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"has {image.width:,} x {image.height:,} pixels. Downsize it below {MAX_PIXELS:,}"
            " pixels in all."
        )
    if min(image.size) < min_side:
        raise ValueError(
            f"has only {image.width} x {image.height} pixels. Use one with at least {min_side} on"
            " each side."
        )
    # MPO is how phones store a JPEG with a preview or a depth map; its first frame is the image.
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":
        raise ValueError(f"is animated or has pages ({frames} frames). Save one frame as PNG.")


def _mode_words(mode: str) -> str:
    if mode.startswith("I;16"):
        return "16-bit grey"
    return {"I": "32-bit integers", "F": "floats", "LAB": "CIELAB", "HSV": "HSV"}.get(
        mode, "an unusual mode"
    )


def on_white(image_HW3: np.ndarray, mask_HW: np.ndarray, *, margin: float = 0.12) -> Image.Image:
    """Crop a masked region onto a white square with a margin, the view that CLIP knows best."""
    x0, y0, x1, y1 = mask_box(mask_HW)
    crop = np.where(mask_HW[y0:y1, x0:x1, None], image_HW3[y0:y1, x0:x1], 255).astype(np.uint8)
    side = round(max(crop.shape[:2]) * (1 + 2 * margin))
    canvas = Image.new("RGB", (side, side), (255, 255, 255))
    canvas.paste(Image.fromarray(crop), ((side - crop.shape[1]) // 2, (side - crop.shape[0]) // 2))
    return canvas


def mask_box(mask_HW: np.ndarray) -> tuple[int, int, int, int]:
    """Return (x0, y0, x1, y1) around a non-empty mask in px, x1 and y1 exclusive."""
    rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
    assert rows.size, "an empty mask has no box"
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
