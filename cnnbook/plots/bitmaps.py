"""Bitmaps within figures, as small as a page needs them."""

import base64
import functools
import io
from typing import Any

# Bitmaps with more pixels are compressed lossily if that makes them less than half as large as PNG,
# as it does photographs. Smaller ones, whose every pixel the reader can see, never are.
LOSSLESS_UP_TO = 64 * 64


@functools.lru_cache(maxsize=64)
def smaller(url: str, quality: int = 75) -> str:
    """Return the bitmap of a ``data:image/png`` address as WebP, if that is smaller."""
    from PIL import Image, features

    header, _, data = url.partition(",")
    if header != "data:image/png;base64" or not features.check("webp"):
        return url
    png = base64.b64decode(data)
    best = png
    with Image.open(io.BytesIO(png)) as image:
        if image.width * image.height > LOSSLESS_UP_TO:
            best = _webp(image, quality=quality)
        if 2 * len(best) > len(png):
            best = _webp(image, lossless=True)
    if len(best) >= len(png):
        return url
    return "data:image/webp;base64," + base64.b64encode(best).decode()


def _webp(image: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", **options)
    return buffer.getvalue()
