"""Small files that ask for much: refused by name, before anything is decoded."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest

from device_agent.errors import MediaError, MediaLimitError
from device_agent.media import flash
from device_agent.media.boxes import MAX_SAMPLES, check_boxes
from device_agent.media.clip import MediaSpec
from device_agent.media.ebml import read_elements
from device_agent.media.flash import blanked_scripts
from device_agent.media.limits import MediaLimits
from device_agent.media.loading import clip_from_bytes, clip_from_file
from edge_server.server.config import ServerConfig
from tests import hostile_media as hostile

LIMITS = ServerConfig().media


@pytest.mark.parametrize("name", hostile.BOMBS)
def test_a_bomb_is_refused_by_its_field(name: str) -> None:
    bomb = hostile.BOMBS[name]
    with pytest.raises(MediaError) as refusal:
        clip_from_bytes(bomb.make(), kind=bomb.kind, field="media[0].data", limits=LIMITS)
    assert refusal.value.field == "media[0].data"


@pytest.mark.parametrize("name", hostile.LARGE)
def test_what_phones_make_is_taken_and_refused_by_lower_limits(name: str) -> None:
    large = hostile.LARGE[name]
    data = large.make()
    assert clip_from_bytes(data, kind=large.kind, limits=LIMITS).modalities == (large.kind,)
    with pytest.raises(MediaLimitError, match=r"\(media\.max_\w+\)"):
        clip_from_bytes(data, kind=large.kind, limits=hostile.LOW)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("PNG, 60,000 pixels a side by its header", "60000 × 60000 pixels; at most 120000000"),
        ("PNG, text of a gigabyte", "zTXt chunk inflates"),
        ("PNG, colour profile of a gigabyte", "iCCP chunk inflates"),
        ("PNG behind a tag of an MP3", "behind something else"),
        ("JPEG, two thousand scans", "more than 480 scans"),
        ("AVI, Motion JPEG of three thousand scans", "scans"),
        ("MP4, fifty million samples", "declares 50000000 samples"),
        ("MP4, fifty million samples in a fragment", "declares 50000000 samples"),
        ("MP4, fifty million offsets", "declares 50000000 samples"),
        ("MP4, three thousand tracks", "more than 64 tracks"),
        ("FLAC, eight channels at 655,350 Hz", "20971200 audio samples in its first 4 s"),
        ("Matroska, blocks deflated a thousandfold", "its packets take more than"),
        ("AVI, a codec of a game", "coded as cinepak; allowed: av1"),
        ("WAV, a sample a second", "at 1 Hz"),
    ],
)
def test_the_refusal_says_what_was_found_before_anything_is_decoded(
    monkeypatch: pytest.MonkeyPatch, name: str, complaint: str
) -> None:
    bomb = hostile.BOMBS[name]
    data = bomb.make()
    decoded: list[str] = []
    for taker in ("FrameSampler", "SoundCollector"):
        original = getattr(__import__("device_agent.media.decoding", fromlist=[taker]), taker)

        def push(self: object, frame: av.VideoFrame, *rest: object, original: type = original) -> None:
            decoded.append(original.__name__)
            original.push(self, frame, *rest)  # type: ignore[attr-defined]

        monkeypatch.setattr(f"device_agent.media.decoding.{taker}", type(taker, (original,), {"push": push}))
    with pytest.raises(MediaError, match=complaint):
        clip_from_bytes(data, kind=bomb.kind, limits=LIMITS)
    # FLAC's container does not say how fast it is: its first piece does.
    assert len(decoded) <= (1 if "FLAC" in name else 0)


@pytest.mark.parametrize("name", hostile.COSTLY)
def test_what_is_only_large_is_answered(name: str) -> None:
    costly = hostile.COSTLY[name]
    clip = clip_from_bytes(costly.make(), kind=costly.kind, limits=LIMITS)
    assert clip.modalities == (costly.kind,)
    if clip.pcm_S is not None:
        assert clip.pcm_S.size == 64_000


def test_decoding_that_takes_too_long_is_given_up(clip_file: Path) -> None:
    with pytest.raises(MediaLimitError, match="takes more than 0 s to decode"):
        clip_from_file(clip_file, limits=MediaLimits(max_decode_s=0.0))


def test_a_png_with_a_plain_text_and_profile_keeps_its_pixels() -> None:
    for kind in (b"zTXt", b"iCCP"):
        assert clip_from_bytes(hostile.png_with(kind, 100_000), limits=LIMITS).is_image


def test_a_progressive_jpeg_of_a_few_scans_is_decoded() -> None:
    clip = clip_from_bytes(hostile.jpeg_of_scans(1000, 5), kind="image", limits=LIMITS)
    assert clip.is_image


def test_a_jpeg_hides_no_picture_size_behind_its_first_scan() -> None:
    small, large = hostile.picture("JPEG", 16, 16), hostile.picture("JPEG", 6000, 6000)
    frame = large[large.find(b"\xff\xc0") : large.find(b"\xff\xc4")]
    with pytest.raises(MediaLimitError, match="6000 × 6000"):
        clip_from_bytes(small[:-2] + frame + small[-2:], kind="image", limits=hostile.LOW)


@pytest.mark.parametrize("codec", [b"sowt", b"twos"])
def test_plain_sound_of_any_length_is_no_bomb(codec: bytes) -> None:
    # One sample of PCM is one sample in the tables; they are indexed by the chunk.
    data = hostile.mov(50_000_000, sample_bytes=2, codec=codec, duration=1)
    assert clip_from_bytes(data, limits=LIMITS).modalities == ("audio",)


def test_two_tables_of_durations_do_not_hide_each_other() -> None:
    # The second says "plain sound"; a decoder goes by the first.
    second = hostile.full_box(b"stts", b"\0\0\0\1\0\0\0\1\0\0\0\1")
    data = hostile.mov(MAX_SAMPLES + 1, tables=second)
    with pytest.raises(MediaLimitError, match="samples in its tables"):
        check_boxes(io.BytesIO(data), "clip")


def test_a_file_of_nothing_but_boxes_is_refused() -> None:
    with pytest.raises(MediaLimitError, match="more than 50000 boxes"):
        check_boxes(io.BytesIO(hostile.box(b"free") * 60_000), "clip")


def test_boxes_within_boxes_are_followed_no_deeper_than_a_film_has_them() -> None:
    inner = b""
    for _ in range(30):
        inner = hostile.box(b"trak", inner)
    outermost = 8
    assert check_boxes(io.BytesIO(hostile.box(b"moov", inner)), "clip").patches == {
        outermost + 8 + 4: b"skip"  # the second track, in the first
    }


def test_boxes_that_lie_about_their_size_end_with_the_file() -> None:
    for data in (
        b"\xff\xff\xff\xffmoov" + bytes(20),
        b"\0\0\0\1moov" + b"\xff" * 8,
        bytes(4) + b"moov",
        b"\0\0",
    ):
        file = io.BytesIO(data)
        check_boxes(file, "clip")
        assert file.tell() == 0


def test_a_video_that_changes_its_picture_size_is_shown_at_its_first() -> None:
    sides = (64, 96)
    files = [hostile.stillness("mpegts", "mpeg2video", side, side, 25, 25) for side in sides]
    clip = clip_from_bytes(b"".join(files), kind="video", limits=LIMITS)
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape == (16, 64, 64, 3)


def test_every_format_that_cameras_write_is_still_taken() -> None:
    for file_format, codec in (
        ("mp4", "libx264"),
        ("matroska", "ffv1"),
        ("avi", "mpeg4"),
        ("mpegts", "mpeg2video"),
    ):
        data = hostile.stillness(file_format, codec, 64, 48, 25, 50)
        clip = clip_from_bytes(data, kind="video", spec=MediaSpec(), limits=LIMITS)
        assert clip.frames_THWC is not None, file_format
        assert clip.frames_THWC.shape[1:] == (48, 64, 3)


def film_with(place: bytes, *hidden: bytes) -> bytes:
    """An honest film with boxes put behind the last one within ``place``."""
    film = bytearray(hostile.stillness("mp4", "mpeg4", 64, 48, 8, 8))
    path = {
        b"stbl": (b"moov", b"trak", b"mdia", b"minf", b"stbl"),
        b"minf": (b"moov", b"trak", b"mdia", b"minf"),
        b"trak": (b"moov", b"trak"),
        b"moov": (b"moov",),
    }[place]
    more = b"".join(hidden)
    end = 0
    for name in path:
        at = film.index(name, end and film.index(path[0])) - 4
        size = int.from_bytes(film[at : at + 4], "big")
        film[at : at + 4] = (size + len(more)).to_bytes(4, "big")
        end = at + size
    return bytes(film[:end] + more + film[end:])


COUNTLESS = hostile.full_box(b"stsz", (1).to_bytes(4, "big"), (60_000_000).to_bytes(4, "big"))


@pytest.mark.parametrize("place", [b"minf", b"trak", b"moov"])
@pytest.mark.parametrize("disguise", [b"udta", b"dinf", b"tref", b"meta", b"junk", b"wave", b"sinf", b"stbl"])
def test_a_table_where_none_belongs_is_not_read(place: bytes, disguise: bytes) -> None:
    if (place, disguise) == (b"minf", b"stbl"):
        return  # there it does belong
    data = film_with(place, hostile.box(disguise, hostile.box(b"stbl", COUNTLESS)))
    clip = clip_from_bytes(data, kind="video", limits=LIMITS)
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == 8


def test_a_table_where_it_belongs_is_counted() -> None:
    with pytest.raises(MediaLimitError, match="samples in its tables"):
        clip_from_bytes(film_with(b"stbl", COUNTLESS), limits=LIMITS)


@pytest.mark.parametrize("name", [b"hoov", b"cmov", b"free", b"moof"])
def test_a_film_under_another_name_is_no_film(name: bytes) -> None:
    data = hostile.stillness("mp4", "mpeg4", 64, 48, 8, 8).replace(b"moov", name)
    with pytest.raises(MediaError):
        clip_from_bytes(data, limits=LIMITS)


@pytest.mark.parametrize("first", [b"junk", b"uuid", b"udta", b"pict", b"emsg", b"prfl", b"zzzz"])
def test_what_stands_first_hides_nothing(first: bytes) -> None:
    data = hostile.box(first, bytes(8)) + hostile.mov(60_000_000)
    with pytest.raises(MediaError):
        clip_from_bytes(data, limits=LIMITS)


def test_a_table_within_the_description_of_samples_is_refused() -> None:
    film = hostile.stillness("mp4", "mpeg4", 64, 48, 8, 8)
    disguised = film.replace(b"esds", b"stsz")
    with pytest.raises(MediaError, match="'stsz' box in the description"):
        clip_from_bytes(disguised, limits=LIMITS)


def test_sound_that_says_it_is_pcm_but_is_a_film_is_counted() -> None:
    data = hostile.mov(50_000_000, sample_bytes=2, codec=b"sowt", duration=1)
    with pytest.raises(MediaLimitError, match="samples in its tables"):
        clip_from_bytes(data.replace(b"soun", b"vide"), limits=LIMITS)


@pytest.mark.parametrize("table", [b"stco", b"stsc", b"stss", b"ctts"])
def test_a_table_of_more_entries_than_bytes_is_refused(table: bytes) -> None:
    with pytest.raises(MediaError, match="declares 268435456 entries"):
        clip_from_bytes(film_with(b"stbl", hostile.full_box(table, (2**28).to_bytes(4, "big"))))


def tagged(body: bytes) -> bytes:
    size = bytes(len(body) >> shift & 127 for shift in (21, 14, 7, 0))
    return b"ID3\4\0\0" + size + body


def test_tags_before_sound_are_not_read() -> None:
    """A frame of them may inflate to gigabytes, and thousands are each looked for among all before."""
    sound = hostile.silence("mp3", "libmp3lame", 16_000, "mono", 1)
    deflated = hostile.zeros(2**22)
    size = bytes(len(deflated) + 4 >> shift & 127 for shift in (21, 14, 7, 0))
    bomb = b"APIC" + size + b"\0\x09" + b"\x01\x7f\x7f\x7f" + deflated
    for tags in (tagged(bomb), tagged(bomb) * 3, tagged(b"TXXX\0\0\0\4\0\0\3a\0b" * 30_000)):
        clip = clip_from_bytes(tags + sound, kind="audio", limits=LIMITS)
        assert clip.pcm_S is not None
        assert clip.pcm_S.size == pytest.approx(16_000, abs=1200)


def test_a_png_of_very_many_texts_is_refused() -> None:
    png = hostile.picture("PNG", 16, 16)
    text = hostile.png_chunk(b"tEXt", b"a\0b")
    assert clip_from_bytes(png[:33] + text * 900 + png[33:], limits=LIMITS).is_image
    with pytest.raises(MediaLimitError, match="more than 1000 texts"):
        clip_from_bytes(png[:33] + text * 1100 + png[33:], limits=LIMITS)


def flash_script(keys: int) -> bytes:
    """A script tag of a Flash video that names so many things about it."""
    named = b"".join(b"\0\x08k%07d\x02\0\x01v" % number for number in range(keys))
    body = b"\x02\0\x0aonMetaData\x08" + keys.to_bytes(4, "big") + named + b"\0\0\x09"
    return b"\x12" + len(body).to_bytes(3, "big") + bytes(7) + body + (len(body) + 11).to_bytes(4, "big")


@pytest.mark.parametrize("before", [b"", tagged(b"TXXX")], ids=["plain", "behind a tag"])
def test_what_a_flash_video_says_of_itself_is_read_where_it_is_short(before: bytes) -> None:
    film = hostile.stillness("flv", "flv", 64, 48, 8, 8)
    plain, _ = blanked_scripts(io.BytesIO(before + film), len(before))
    assert plain == {}  # what encoders write
    first = int.from_bytes(film[5:9], "big") + 4
    long, few = flash_script(100_000), flash_script(3)
    data = before + film[:first] + long + few + few + film[first:]
    at = len(before) + first
    patches, end = blanked_scripts(io.BytesIO(data), len(before))
    second = at + len(long)
    assert patches.keys() == {at, second, second + len(few), second + 2 * len(few)}
    assert end == len(data)
    clip = clip_from_bytes(data, kind="video", limits=LIMITS)
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == 8


def test_a_flash_video_ends_where_its_tags_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    film = hostile.stillness("flv", "flv", 64, 48, 8, 8)
    monkeypatch.setattr(flash, "MAX_TAGS", 3)
    _, end = blanked_scripts(io.BytesIO(film))
    assert end < len(film)


@pytest.mark.parametrize("size_bytes", [1, 2, 4, 8])
def test_titles_of_a_matroska_file_are_not_read(size_bytes: int) -> None:
    titles = b"\x67\xc8\x85\x45\xa3\x82ab" * (10 if size_bytes == 1 else 1_000)
    head = b"\x12\x54\xc3\x67" + (len(titles) | 1 << 7 * size_bytes).to_bytes(size_bytes, "big")
    film = hostile.stillness("matroska", "mpeg4", 64, 48, 8, 8)
    segment = film.index(b"\x18\x53\x80\x67")
    data = film[: segment + 4] + b"\x01" + b"\xff" * 7 + head + titles + film[segment + 12 :]
    patches = read_elements(io.BytesIO(data), len(data)).patches
    at = segment + 12
    assert patches[at][:1] == b"\xec"
    void = patches[at]
    width = len(void) - 1
    rest = int.from_bytes(void[1:], "big") & (1 << 7 * width) - 1
    assert at + len(void) + rest == at + len(head) + len(titles)
    clip = clip_from_bytes(data, kind="video", limits=LIMITS)
    assert clip.frames_THWC is not None
    assert len(clip.frames_THWC) == 8
