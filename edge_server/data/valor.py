"""VALOR-32K (Chen et al. 2023): recorded clips with one caption each of what is seen and heard.

A row of its annotation has the keys ``video_id`` and ``desc``. The layout is the authors'
(:mod:`edge_server.data.authors_layout`).
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.data.annotations import Caption
from edge_server.data.authors_layout import (
    MediaFolder,
    Survey,
    annotation_rows,
    name_of,
    plain,
    survey,
    text_of,
    usable,
    video_id_of,
)
from edge_server.data.faults import RowReport

#: Its folder in the folder of all recorded data sets.
FOLDER = "VALOR"


@dataclass(frozen=True)
class Valor:
    """A split whose rows can all be used.

    Attributes:
        media: frames and sound.
        video_ids: of each clip.
        captions: of each clip; one text describes picture and sound, and serves for both.
        report: what was left out.
    """

    media: MediaFolder
    video_ids: tuple[str, ...]
    captions: tuple[Caption, ...]
    report: RowReport


def load_valor(media: MediaFolder, split: str, look: Survey = survey) -> Valor:
    """Read a split's captions and see to it that their clips can be read.

    Args:
        media: the data set's folder.
        split: ``train``, ``val`` or ``test``.
        look: says which clips cannot be read.

    Raises:
        DatasetError: there is no such split, or more than 1 % of its rows are bad.
    """
    rows = annotation_rows(media.folder, split)
    report = RowReport(f"{media.folder} {split}", len(rows))
    captions: dict[str, str] = {}
    named: list[tuple[str, str]] = []
    for number, row in enumerate(rows, 1):
        name = name_of(row, number)
        try:
            video_id, text = video_id_of(row), plain(text_of(row, "desc"))
            if video_id in captions:
                raise ValueError(f"video_id: {video_id!r} has a caption already")
        except ValueError:
            report.add("malformed row", name)
            continue
        captions[video_id] = text
        named.append((video_id, name))
    # Before any file is opened: a wrong annotation shows at once.
    report.stop_if_too_many()
    index = usable(media, named, report, look)
    report.stop_if_too_many()
    texts = (captions[video_id] for video_id in index)
    return Valor(media, tuple(index), tuple(Caption(text, text, text) for text in texts), report)
