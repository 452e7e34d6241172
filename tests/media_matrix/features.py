"""What may be in a file: each feature writes a file of a kind that has it, or says that the kind cannot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.media_matrix import stills
from tests.media_matrix.kinds import Kind
from tests.media_matrix.making import (
    HEIGHT,
    VIDEO_OF_A_TRACK,
    WIDTH,
    Wish,
    copied,
    element,
    with_aperture,
    with_elements,
    with_matrix,
    write,
)

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Made:
    """A file, and what players do with it that the ffmpeg program of 5.1 leaves out.

    Attributes:
        path: of the file.
        shown: makes of its frames, [T, H, W, 3], those on show.
        rotates: the program is to turn pictures itself. What H.264 says of all of them it does to the first.
    """

    path: Path
    shown: Callable[[Pixels], Pixels] = lambda frames: frames
    rotates: bool = True


Feature = Callable[[Kind, Path], Made | None]
"""None: the kind cannot hold it, or nobody writes it so."""


def plain(kind: Kind, path: Path) -> Made | None:
    """As a program writes it by itself."""
    return _written(kind, path, Wish())


def turned(kind: Kind, path: Path) -> Made | None:
    """A phone was held upright: a quarter turn."""
    if kind.shape == "still":
        return _maybe(stills.save(kind, path, orientation=6))
    if kind.shape != "film":
        return None
    if kind.boxes:
        write(kind, path)
        path.write_bytes(with_matrix(path.read_bytes(), (0, 1), (-1, 0)))
        return Made(path)
    if kind.h264:
        write(kind, path, Wish(video=("-bsf:v", "h264_metadata=display_orientation=insert:rotate=90")))
        return Made(path, lambda frames: np.rot90(frames, 1, axes=(1, 2)), rotates=False)
    return None


def mirrored(kind: Kind, path: Path) -> Made | None:
    """Front cameras write what they see the wrong way round."""
    if kind.shape == "still":
        return _maybe(stills.save(kind, path, orientation=2))
    if kind.shape != "film":
        return None
    if kind.boxes:
        write(kind, path)
        path.write_bytes(with_matrix(path.read_bytes(), (-1, 0), (0, 1)))
        return Made(path)
    if kind.h264:
        write(kind, path, Wish(video=("-bsf:v", "h264_metadata=display_orientation=insert:flip=horizontal")))
        return Made(path, lambda frames: frames[:, :, ::-1], rotates=False)
    return None


def transparent(kind: Kind, path: Path) -> Made | None:
    """What is behind shines through: white behind pictures, black behind films."""
    if kind.shape in ("still", "animation"):
        return _maybe(stills.save(kind, path, transparent=True))
    pixels = {"ffv1": "yuva420p", "prores_ks": "yuva444p10le", "libvpx": "yuva420p", "libvpx-vp9": "yuva420p"}
    name = next((pixels[codec] for codec in kind.video if codec in pixels), None)
    if name is None:
        return None
    more = ("-auto-alt-ref", "0") if kind.muxer == "webm" else ()
    return _written(
        kind, path, Wish(video=("-vf", "format=rgba,colorchannelmixer=aa=0.5", "-pix_fmt", name, *more))
    )


def cropped(kind: Kind, path: Path) -> Made | None:
    """Less is shown than is coded."""
    if kind.muxer == "HEIC":
        return _maybe(stills.save(kind, path, aperture=(64, 48)))
    if kind.shape != "film":
        return None
    left, top, width, height = 32, 16, 64, 48
    if kind.boxes:
        write(kind, path)
        data = path.read_bytes()
        begin = data.index(b"stsd") + 16
        offset = (left + width // 2 - WIDTH // 2, top + height // 2 - HEIGHT // 2)
        path.write_bytes(with_aperture(data, data[begin : begin + 4], (width, height), offset))
    elif kind.elements:
        write(kind, path, Wish(output=("-write_crc32", "0")))
        sides = (
            (b"\x54\xcc", left),
            (b"\x54\xdd", WIDTH - left - width),
            (b"\x54\xbb", top),
            (b"\x54\xaa", HEIGHT - top - height),
        )
        more = b"".join(element(name, bytes([value])) for name, value in sides)
        path.write_bytes(with_elements(path.read_bytes(), VIDEO_OF_A_TRACK, more))
    elif kind.h264:
        return _written(kind, path, Wish(video=("-bsf:v", "h264_metadata=crop_right=32:crop_bottom=16")))
    else:
        return None
    return Made(path, lambda frames: frames[:, top : top + height, left : left + width])


def full_range(kind: Kind, path: Path) -> Made | None:
    """Black is 0, and colours are those of BT.709, as its headers say."""
    if not any(codec in kind.video for codec in ("libx264", "libx265", "libvpx-vp9", "libsvtav1")):
        return None
    scaled = "scale=out_color_matrix=bt709:out_range=full"
    return _written(kind, path, Wish(video=("-vf", scaled, "-colorspace", "bt709", "-color_range", "pc")))


def finer(kind: Kind, path: Path) -> Made | None:
    """Colours in more bits, or not halved, or of a palette."""
    if kind.shape == "still":
        return _maybe(stills.save(kind, path, mode={"PNG": "I;16", "JPEG": "CMYK"}.get(kind.muxer, "P")))
    pixels = {
        "libx264": "yuv444p10le",
        "libx265": "yuv420p10le",
        "libsvtav1": "yuv420p10le",
        "ffv1": "yuv444p10le",
        "mjpeg": "yuvj444p",
        "prores_ks": "yuv444p10le",
        "libvpx-vp9": "yuv444p",
    }
    name = next((pixels[codec] for codec in kind.video if codec in pixels), None)
    return None if name is None else _written(kind, path, Wish(video=("-pix_fmt", name)))


def grey(kind: Kind, path: Path) -> Made | None:
    """Without colours."""
    if kind.shape == "still":
        return _maybe(stills.save(kind, path, mode="L"))
    name = next((codec for codec in ("libx264", "ffv1") if codec in kind.video), None)
    return None if name is None else _written(kind, path, Wish(video=("-pix_fmt", "gray")))


def late_pictures(kind: Kind, path: Path) -> Made | None:
    """Pictures begin half a second after the sound."""
    return _written(kind, path, Wish(pictures_at_s=0.5)) if kind.shape == "film" else None


def late_sound(kind: Kind, path: Path) -> Made | None:
    """Sound begins half a second after the pictures."""
    return _written(kind, path, Wish(sound_at_s=0.5)) if kind.shape == "film" else None


def gap_in_sound(kind: Kind, path: Path) -> Made | None:
    """Packets were lost, or silence was not sent."""
    if kind.shape != "film" or kind.muxer in ("avi", "vob"):
        return None  # in which sound has no time of its own
    whole = write(kind, path.with_name("whole" + path.name))
    return Made(copied(whole, path, kind, "-bsf:a", "noise=drop=between(n\\,20\\,35)"))


def uneven_pictures(kind: Kind, path: Path) -> Made | None:
    """Phones film as many frames a second as there is light for; animations say how long each is shown."""
    if kind.shape == "animation":
        return _maybe(stills.save(kind, path, durations_ms=(250, 125, 500, 375, 250)))
    if kind.shape != "film":
        return None
    return _written(kind, path, Wish(video=("-vf", "select=not(between(n\\,10\\,20))", "-vsync", "vfr")))


def second_track(kind: Kind, path: Path) -> Made | None:
    """Two tracks of each sort, the second of them the default."""
    if kind.shape == "still" or kind.shape == "animation" or kind.muxer in ("flv", "ogg", "asf", "vob"):
        return None
    if kind.shape == "sound" and not kind.boxes:
        return None
    marks = [
        part
        for sort, has in (("v", kind.video), ("a", kind.audio))
        for number, mark in ((0, "0"), (1, "default"))
        if has
        for part in (f"-disposition:{sort}:{number}", mark)
    ]
    return _written(kind, path, Wish(tracks=2, output=tuple(marks)))


def mono(kind: Kind, path: Path) -> Made | None:
    """One channel."""
    return _written(kind, path, Wish(channels="mono")) if kind.audio else None


def surround(kind: Kind, path: Path) -> Made | None:
    """Six channels."""
    codecs = ("libmp3lame", "mp2", "wmav2")
    if not kind.audio or kind.audio[-1] in codecs or kind.muxer in ("flv", "3gp"):
        return None
    return _written(kind, path, Wish(channels="5.1"))


def slow_sound(kind: Kind, path: Path) -> Made | None:
    """Fewer samples a second."""
    if not kind.audio:
        return None
    return _written(kind, path, Wish(rate_hz=32_000 if kind.audio[-1] == "ac3" else 22_050))


def wide_pixels(kind: Kind, path: Path) -> Made | None:
    """Pixels twice as wide as high; of a picture, that its print would be so, which no viewer heeds."""
    if kind.shape == "still":
        return _maybe(stills.save(kind, path, density=(72, 144)))
    if kind.shape != "film" or "h263" in kind.video or kind.muxer in ("ogg", "asf"):
        return None
    return _written(kind, path, Wish(video=("-vf", "setsar=2")))


def in_pieces(kind: Kind, path: Path) -> Made | None:
    """Written while it was made: fragments, or elements of unknown length."""
    if kind.boxes:
        flags = "frag_keyframe+empty_moov+default_base_moof"
        return _written(kind, path, Wish(output=("-movflags", flags, "-g", "10")))
    if kind.elements:
        return _written(kind, path, Wish(output=("-live", "1")))
    return None


def cut(kind: Kind, path: Path) -> Made | None:
    """The beginning was cut off without coding anew."""
    if kind.shape not in ("film", "sound") or "libtheora" in kind.video:
        return None  # of Theora the program writes times that overflow
    often = ("-g", "10") if kind.video else ()
    whole = write(kind, path.with_name("whole" + path.name), Wish(video=often))
    return Made(copied(whole, path, kind, before=("-ss", "0.7")))


def data_behind(kind: Kind, path: Path) -> Made | None:
    """Something was added behind the end."""
    made = plain(kind, path)
    if made is not None:
        path.write_bytes(path.read_bytes() + b"TAG" + b"title".ljust(125, b"\0") + b"\xff" * 100)
    return made


def tags(kind: Kind, path: Path) -> Made | None:
    """Titles and comments, in letters of all the world."""
    if kind.shape in ("still", "animation"):
        return _maybe(stills.save(kind, path, comment="Straße, 街, \N{MUSICAL NOTE}" * 20))
    texts = ("-metadata", "title=Straße, 街", "-metadata", "comment=" + "\N{MUSICAL NOTE}" * 500)
    return _written(kind, path, Wish(output=texts))


def disposal(kind: Kind, path: Path) -> Made | None:
    """Of an animation, what one frame leaves for the next: nothing, itself, what was before."""
    return _maybe(stills.save(kind, path, disposal=True)) if kind.muxer in ("GIF", "PNG") else None


FEATURES: Mapping[str, Feature] = {
    "plain": plain,
    "turned": turned,
    "mirrored": mirrored,
    "transparent": transparent,
    "cropped": cropped,
    "full range, BT.709": full_range,
    "finer colours": finer,
    "grey": grey,
    "late pictures": late_pictures,
    "late sound": late_sound,
    "gap in the sound": gap_in_sound,
    "uneven pictures": uneven_pictures,
    "second track the default": second_track,
    "mono": mono,
    "six channels": surround,
    "slow sound": slow_sound,
    "pixels not square": wide_pixels,
    "in pieces": in_pieces,
    "cut without coding": cut,
    "data behind the end": data_behind,
    "tags": tags,
    "disposal": disposal,
}
"""All that are tried."""


def _written(kind: Kind, path: Path, wish: Wish) -> Made | None:
    if kind.shape in ("still", "animation"):
        return _maybe(stills.save(kind, path))
    return Made(write(kind, path, wish))


def _maybe(path: Path | None) -> Made | None:
    return None if path is None else Made(path)
