"""Data augmentation of whole batches: one matrix and one resampling per image, on the device."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook._checks import check_count, is_number, no_tensor
from cnnbook._errors import check_options, counted, unknown
from cnnbook.data.checks import check_images
from cnnbook.data.pixels import normalization
from cnnbook.data.seeds import generator

# On a CPU, images are transformed in groups whose floats and coordinates take about this many
# bytes: few enough to stay in the cache, and for the allocator to hand out the same memory again
# instead of returning it to the system; but enough to be worth starting the threads.
_BYTES_AT_ONCE = 4_800_000

_SCALES = 0.01, 100.0  # beyond, no image can be recognized


@dataclass(frozen=True)
class AugmentParams:
    """The random numbers behind the augmentation of N images, as drawn by :meth:`Augment.draw`.

    Parameters
    ----------
    matrix
        ``(N, 2, 3)``. Maps a point of the new image to the point of the old one whose color it
        takes. Points are in pixels from the image's center, x to the right, y down.
    contrast, brightness
        Factors, ``(N,)``.
    box
        Erased rectangle as left, top, right, bottom in pixels, ``(N, 4)``; all zeros where
        nothing is erased.

    Examples
    --------
    Without any transform the matrix is the identity; mirroring flips the sign of x:

    >>> params = Augment().draw(2, size=(28, 28))
    >>> params.matrix[0]
    tensor([[1., 0., 0.],
            [0., 1., 0.]])
    >>> Augment(flip=1).draw(1, size=(28, 28)).matrix[0, 0, 0]
    tensor(-1.)
    """

    matrix: Tensor
    contrast: Tensor
    brightness: Tensor
    box: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.matrix)

    def __getitem__(self, index: Tensor | slice) -> "AugmentParams":
        """Return the parameters of the images at `index`, a slice or an index tensor."""
        return AugmentParams(*(getattr(self, f.name)[index] for f in fields(self)))

    def to(self, device: torch.device | str) -> "AugmentParams":
        """Return the parameters on `device`; to a GPU they are copied without waiting for it."""
        device = torch.device(device)
        if device.type != "cuda" or self.matrix.device.type != "cpu":
            return AugmentParams(*(getattr(self, f.name).to(device) for f in fields(self)))
        # One copy instead of four, and from pinned memory, without which it would block.
        parts = [self.matrix.flatten(1), self.contrast[:, None], self.brightness[:, None], self.box]
        table = torch.cat(parts, 1).pin_memory().to(device, non_blocking=True)
        return AugmentParams(
            matrix=table[:, :6].unflatten(1, (2, 3)),
            contrast=table[:, 6],
            brightness=table[:, 7],
            box=table[:, 8:],
        )


@dataclass(frozen=True)
class Augment:
    """Random transforms of training images, drawn independently for each image.

    Rotation, translation, scaling, shear, cropping and flipping are composed into *one* matrix
    and need one resampling, however many of them are used. The order is contrast, brightness,
    geometry, normalization, erasing.

    Parameters
    ----------
    rotate
        Largest angle in degrees; the angle is uniform in ± `rotate`. Positive angles
        turn clockwise.
    translate
        Largest shift, as a fraction of width and height.
    scale
        Smallest and largest magnification about the center. Factors above 1 enlarge.
    shear
        Largest shear angle in degrees, horizontally.
    crop
        Side of the smallest crop, as a fraction of the image's. A window of random size `crop` …
        1 at a random position is enlarged to the whole image; 1 crops nothing.
    flip
        Probability of mirroring left and right.
    contrast, brightness
        The factor is uniform in 1 − value … 1 + value. Contrast is about the image's mean gray.
    erase
        Probability of erasing a rectangle (Zhong et al. 2017, arXiv:1708.04896).
    erase_area
        Smallest and largest fraction of the image that is erased. The aspect ratio lies between
        0.3 and 3.3, as in the paper.
    fill
        Pixel value, 0 to 255, of areas outside the image and of erased rectangles; or ``"edge"``
        (repeat the border pixel) or ``"reflect"``, with which erased rectangles are black.
    interpolation
        ``"bilinear"`` or ``"nearest"``. With ``"nearest"``, images are shifted by whole pixels.

    Raises
    ------
    ValueError
        If a value is not a number or outside its range, or for an unknown option; the message says
        which one.

    Examples
    --------
    >>> from cnnbook import data
    >>> train, _ = data.load("fashion-mini")
    >>> augment = Augment(rotate=10, translate=0.1, flip=0.5)
    >>> augment(train.images[:8], seed=0).shape
    torch.Size([8, 1, 28, 28])
    """

    rotate: float = 0.0
    translate: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    crop: float = 1.0
    flip: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    erase: float = 0.0
    erase_area: tuple[float, float] = (0.02, 0.33)
    fill: float | Literal["edge", "reflect"] = 0.0
    interpolation: Literal["bilinear", "nearest"] = "bilinear"

    def __post_init__(self) -> None:
        def within(name: str, low: float, high: float) -> None:
            value = getattr(self, name)
            if not is_number(value) or not low <= value <= high:
                raise ValueError(f"{name} must lie in {low:g} … {high:g}, got {value!r}")

        within("rotate", 0, 180)
        within("translate", 0, 1)
        within("shear", 0, 80)
        within("crop", 0.01, 1)
        for name in ("flip", "contrast", "brightness", "erase"):
            within(name, 0, 1)
        for name, example in (("scale", "(0.8, 1.2)"), ("erase_area", "(0.02, 0.33)")):
            value = getattr(self, name)
            if not (isinstance(value, Sequence) and len(value) == 2 and all(map(is_number, value))):
                raise ValueError(
                    f"{name} must be two numbers, the smallest and the largest, such as "
                    f"{example}, got {value!r}"
                )
        low, high = _SCALES
        if not low <= self.scale[0] <= self.scale[1] <= high:
            raise ValueError(
                f"scale must be {low:g} ≤ smallest ≤ largest ≤ {high:g}, got {self.scale}"
            )
        if not 0 < self.erase_area[0] <= self.erase_area[1] <= 1:
            raise ValueError(
                f"erase_area must be 0 < smallest ≤ largest ≤ 1, got {self.erase_area}"
            )
        if isinstance(self.fill, str):
            if self.fill not in ("edge", "reflect"):
                raise unknown("fill", self.fill, ["edge", "reflect", "a number from 0 to 255"])
        else:
            within("fill", 0, 255)
        if self.interpolation not in ("bilinear", "nearest"):
            raise unknown("interpolation", self.interpolation, ["bilinear", "nearest"])

    def draw(self, n: int, size: tuple[int, int], seed: int = 0) -> AugmentParams:
        """Draw the random parameters for `n` images.

        Every image has its own row of random numbers, and every transform its own column. So
        neither the batch that an image falls into nor switching on another transform changes what
        happens to it.

        Parameters
        ----------
        n
            Number of images.
        size
            Height and width of the images in pixels.
        seed
            Seed of the draw.

        Returns
        -------
        AugmentParams
            On the CPU, so that a seed gives the same numbers on every device.

        Raises
        ------
        TypeError, ValueError
            If `n` is not a whole number, `size` not two of at least 1, or `seed` not an integer.
        """
        if n != 0:
            check_count("n", n)
        if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
            raise TypeError(f"size must be height and width, such as (28, 28), got {size!r}")
        for name, value in zip(("height", "width"), size, strict=True):
            check_count(f"the {name} in size", value)
        # Columns as rows: every operation below reads memory that is contiguous.
        uniform = torch.rand(n, 16, generator=generator(seed)).T.contiguous()
        (turned, sheared, right, down, scaled, cropped, crop_left, crop_top, flipped,
         contrast, brightness, erased, area, ratio, top, left) = uniform.unbind()  # fmt: skip
        height, width = size

        def between(low: float, high: float, share: Tensor) -> Tensor:
            return (high - low) * share + low

        # Where a transform is off, a number stands for N equal ones: in small batches the number
        # of operations counts.
        side: Tensor | float = 1.0
        crop_x: Tensor | float = 0.0
        crop_y: Tensor | float = 0.0
        if self.crop < 1:
            side = between(self.crop, 1, cropped)
            crop_x = (1 - side) * width * (crop_left - 0.5)
            crop_y = (1 - side) * height * (crop_top - 0.5)
        # The matrices map the new image back to the old one, so each is the inverse of what its
        # name says. The old image is cropped, flipped, scaled, sheared, turned and then shifted:
        #
        # crop           flip          scale           shear         turn            shift
        # side 0 crop_x  mirror 0 0    shrink 0 0      1 slope 0     cos  sin 0      1 0 -shift_x
        # 0 side crop_y    0    1 0    0 shrink 0      0   1   0     -sin cos 0      0 1 -shift_y
        #
        # Their product, from left to right:
        xx, yy = side, side
        if self.flip:
            xx = torch.where(flipped < self.flip, -1.0, 1.0) * side
        if self.scale != (1, 1):
            shrink = 1 / between(*self.scale, scaled)
            xx, yy = xx * shrink, yy * shrink
        xy: Tensor | float = 0.0
        yx: Tensor | float = 0.0
        if self.shear:
            xy = xx * torch.tan(between(-self.shear, self.shear, sheared) * (math.pi / 180))
        if self.rotate:
            angle = between(-self.rotate, self.rotate, turned) * (math.pi / 180)
            cos, sin = angle.cos(), angle.sin()
            xx, xy = xx * cos - xy * sin, xx * sin + xy * cos
            yx, yy = -yy * sin, yy * cos
        if self.translate:
            shift_x = between(-self.translate, self.translate, right) * width
            shift_y = between(-self.translate, self.translate, down) * height
            crop_x = crop_x - (xx * shift_x + xy * shift_y)
            crop_y = crop_y - (yx * shift_x + yy * shift_y)
        matrix = torch.empty(n, 2, 3)
        for column, values in enumerate(((xx, yx), (xy, yy), (crop_x, crop_y))):
            matrix[:, 0, column], matrix[:, 1, column] = values

        box = torch.zeros(n, 4)
        if self.erase:
            pixels = between(*self.erase_area, area) * height * width
            sides = torch.exp(between(math.log(0.3), math.log(3.3), ratio))
            box_height = (pixels * sides).sqrt().round().clamp(1, height)
            box_width = (pixels / sides).sqrt().round().clamp(1, width)
            y = ((height - box_height + 1) * top).floor()
            x = ((width - box_width + 1) * left).floor()
            corners = torch.stack([x, y, x + box_width, y + box_height], 1)
            box = torch.where((erased < self.erase)[:, None], corners, box)

        def factor(strength: float, share: Tensor) -> Tensor:
            return between(1 - strength, 1 + strength, share) if strength else torch.ones(n)

        return AugmentParams(
            matrix=matrix,
            contrast=factor(self.contrast, contrast),
            brightness=factor(self.brightness, brightness),
            box=box,
        )

    def __call__(
        self,
        images: Tensor,
        params: AugmentParams | None = None,
        *,
        seed: int = 0,
        mean: tuple[float, ...] | None = None,
        std: tuple[float, ...] | None = None,
    ) -> Tensor:
        """Augment images.

        Parameters
        ----------
        images
            ``(N, C, H, W)``, on any device: uint8, 0 to 255, or floats, 0 to 1.
        params
            Parameters for each image; drawn with `seed` if not given.
        seed
            Seed of the draw, used only without `params`.
        mean, std
            Mean and standard deviation per channel, of images scaled to 0…1, to normalize with.
            Without them the result lies in 0…1.

        Returns
        -------
        Tensor
            ``(N, C, H, W)``, on the images' device; float32, or the type of float images.

        Raises
        ------
        ValueError
            If `images` are not four-dimensional uint8 or floats, or `params` are for a different
            number of images; or if contrast or brightness, which are defined for pixels of 0 to 1,
            would change floats outside that range, such as images already normalized.

        Notes
        -----
        Floats outside 0 … 1 are taken as they are by the transforms that only move pixels. Areas
        outside the image and erased rectangles then get the value `fill` / 255.

        On a CUDA GPU, one kernel does everything in one pass: it reads each image once, as it is
        stored, and writes the result. It is made by Triton, which comes with torch for Linux;
        without it, torch's operations do the same in about ten passes. Nothing waits for the GPU,
        except where contrast or brightness has to check the range of floats.

        Examples
        --------
        >>> from cnnbook import data
        >>> images = data.load("digits")[1].images[:4]
        >>> augment = Augment(rotate=10, brightness=0.2)
        >>> torch.allclose(augment(images), augment(images / 255), atol=1e-6)
        True
        """
        if not isinstance(images, Tensor):
            raise no_tensor("images", images)
        # Half precision would round the 256 values; the result gets the images' type again.
        type_of_result = torch.float32
        if images.is_floating_point() and images.ndim == 4:
            type_of_result = images.dtype
            if self.contrast or self.brightness:
                _check_range(images)
        else:
            check_images(images)
        n, channels, height, width = images.shape
        if n and not images[0].numel():
            raise ValueError(f"images without a pixel, of shape {tuple(images.shape)}")
        if params is None:
            params = self.draw(n, (height, width), seed)
        if len(params) != n:
            raise ValueError(
                f"parameters for {counted(len(params), 'image')}, but {counted(n, 'image')}; draw "
                "one set per image"
            )
        if params.matrix.device != images.device:
            params = params.to(images.device)
        fill = 0.0 if isinstance(self.fill, str) else float(self.fill)
        mean = tuple(mean) if mean else (0.0,) * channels
        std = tuple(std) if std else (1.0,) * channels
        scale, offset = normalization(mean, std, images.device, fill)

        # Gradients of the images, which only torch's own operations have, are wanted rarely.
        gradients = images.requires_grad and torch.is_grad_enabled()
        if _on_gpu(images) and not gradients and not torch.compiler.is_compiling():
            result = self._in_one_pass(images, params, scale, offset, fill, type_of_result)
            if result is not None:
                return result
        group = n
        if images.device.type == "cpu" and not gradients:
            group = _images_at_once(n, channels, height * width)
        if group >= n:
            return self._apply(images, params, scale, offset, fill).to(type_of_result)
        out = torch.empty(images.shape, device=images.device)
        for i in range(0, n, group):
            part = slice(i, i + group)
            self._apply(images[part], params[part], scale, offset, fill, out[part])
        return out.to(type_of_result)

    def _padding(self) -> str:
        if isinstance(self.fill, str):
            return {"edge": "border", "reflect": "reflection"}[self.fill]
        return "zeros"

    def _in_one_pass(
        self,
        images: Tensor,
        params: AugmentParams,
        scale: Tensor,
        offset: Tensor,
        fill: float,
        dtype: torch.dtype,
    ) -> Tensor | None:
        """Augment images on a GPU by one kernel, or return None where that cannot be done."""
        from cnnbook.data import _fused

        if not _fused.usable(images.device):
            return None
        gray = _mean_gray(images).flatten() if self.contrast else None
        try:
            return _fused.transform(
                images,
                params.matrix,
                params.contrast,
                params.brightness,
                params.box,
                gray=gray,
                scale=scale.flatten(),
                offset=offset.flatten(),
                dtype=dtype,
                change_brightness=self.brightness > 0,
                erase=self.erase > 0,
                fill=fill,
                padding=self._padding(),
                nearest=self.interpolation == "nearest",
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of Triton, of the compiler that it calls, of the driver
            _fused.give_up(error)
            return None

    def _apply(
        self,
        images: Tensor,
        params: AugmentParams,
        scale: Tensor,
        offset: Tensor,
        fill: float,
        out: Tensor | None = None,
    ) -> Tensor:
        x = images.float() if images.dtype == torch.uint8 else images.float() * 255
        if self.contrast:
            gray = _mean_gray(images)
            x = x.sub_(gray).mul_(params.contrast.view(-1, 1, 1, 1)).add_(gray).clamp_(0, 255)
        if self.brightness:
            x = x.mul_(params.brightness.view(-1, 1, 1, 1)).clamp_(0, 255)

        # grid_sample can only fill with zero, so the fill value is subtracted before and added
        # after it.
        x = x.sub_(fill) if fill else x
        x = F.grid_sample(
            x,
            _sampling_points(params.matrix, *images.shape[2:]),
            mode=self.interpolation,
            padding_mode=self._padding(),
            align_corners=False,
        )
        x = torch.mul(x, scale, out=out).add_(offset)
        if self.erase:
            x = torch.where(_inside(params.box, *images.shape[2:]), offset, x, out=out)
        return x

    def scaled(self, strength: float) -> "Augment":
        """Return the same transforms, weaker or stronger.

        Parameters
        ----------
        strength
            Multiplies every range and probability; 0 switches everything off. Results are clipped
            to the largest allowed value.

        Returns
        -------
        Augment

        Raises
        ------
        ValueError
            If `strength` is not a number of 0 or more.
        """
        if not is_number(strength) or not 0 <= strength < math.inf:
            raise ValueError(f"strength must be a number of 0 or more, got {strength!r}")
        strength = min(float(strength), 1e6)  # no range that is on reaches its limit later
        low, high = (_magnified(each, strength) for each in self.scale)
        return replace(
            self,
            rotate=min(180, self.rotate * strength),
            translate=min(1, self.translate * strength),
            scale=(low, high),
            shear=min(80, self.shear * strength),
            crop=max(0.01, 1 - (1 - self.crop) * strength),
            flip=min(1, self.flip * strength),
            contrast=min(1, self.contrast * strength),
            brightness=min(1, self.brightness * strength),
            erase=min(1, self.erase * strength),
        )


# A dataclass would name neither its options nor the nearest.
_init = Augment.__init__


@functools.wraps(_init)
def _checked_init(self: Augment, *values: Any, **options: Any) -> None:
    check_options("option of Augment", options, _init, without=("self",))
    _init(self, *values, **options)


setattr(Augment, "__init__", _checked_init)  # noqa: B010 (mypy: one does not assign to a method)


def _magnified(scale: float, strength: float) -> float:
    """Return a power of a magnification, or the limit if it is beyond."""
    logarithm = strength * math.log(scale)
    low, high = _SCALES
    if math.log(low) < logarithm < math.log(high):
        return float(scale**strength)
    return low if logarithm < 0 else high


def _on_gpu(images: Tensor) -> bool:
    return images.device.type == "cuda"


def _images_at_once(n: int, channels: int, pixels: int) -> int:
    """Return how many of `n` images to transform at once on a CPU."""
    threads = torch.get_num_threads()
    # A float of each channel before and after resampling, and two coordinates.
    group = max(1, _BYTES_AT_ONCE // (pixels * (8 * channels + 8)))
    # grid_sample gives each thread whole images, so all get equally many, and all groups alike.
    group = -(-group // threads) * threads
    groups = -(-n // group)
    return -(-n // groups) if groups else 1


@functools.lru_cache(maxsize=64)
def _centers(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pixels' x and y, from the image's center, and half of its width and height."""
    with torch.inference_mode(False):
        # Pixel i covers i … i + 1 and its center is i + 1/2; the image's center is the origin.
        x = torch.arange(width, device=device) + 0.5 - width / 2
        y = torch.arange(height, device=device) + 0.5 - height / 2
        return x, y[:, None], torch.tensor([[width / 2], [height / 2]], device=device)


def _sampling_points(matrix: Tensor, height: int, width: int) -> Tensor:
    """Return each new pixel's position in the old image, in grid_sample's coordinates, −1 … 1."""
    x, y, half = _centers(height, width, matrix.device)
    to_x, to_y, shift = (matrix / half)[..., None, None].unbind(2)
    # All x, then all y: written and read in longer runs than in pairs.
    return (x * to_x + (y * to_y + shift)).permute(0, 2, 3, 1)


def _mean_gray(images: Tensor) -> Tensor:
    """Return each image's mean brightness, ``(N, 1, 1, 1)``, 0 to 255."""
    if images.is_floating_point():
        sums = images.float().sum((2, 3)) * 255
    else:  # sums of integers are exact: the result cannot depend on the order of additions
        sums = images.sum((2, 3), dtype=torch.int64).float()
    if images.shape[1] == 3:
        red, green, blue = sums.unbind(1)
        sums = (0.2989 * red + 0.587 * green + 0.114 * blue)[:, None]  # ITU-R BT.601
    else:
        sums = sums.mean(1, keepdim=True)
    return (sums / images.shape[2:].numel())[:, :, None, None]


def _check_range(images: Tensor) -> None:
    """Refuse floats that are no pixels of 0 to 1; a resized image may overshoot a little."""
    if images.numel() == 0 or (images.is_cuda and torch.cuda.is_current_stream_capturing()):
        return
    low, high = (limit.item() for limit in images.aminmax())
    if not -0.05 <= low <= high <= 1.05:
        raise ValueError(
            f"contrast and brightness change pixels of 0 … 1, these images hold {low:.3g} … "
            f"{high:.3g}. If they are normalized, augment them before they are"
        )


def _inside(box: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels lie in each image's box, ``(N, 1, H, W)``."""
    x = torch.arange(width, device=box.device)
    y = torch.arange(height, device=box.device)[:, None]
    left, top, right, bottom = box[:, :, None, None, None].unbind(1)
    return (left <= x) & (x < right) & (top <= y) & (y < bottom)
