"""MUSIC-AVQA (Li et al. 2022): questions about recorded music performances, in the authors' layout.

A row of its annotation has the keys ``video_id``, ``question_id``, ``type`` (a JSON list within a text),
``question_content`` (with placeholders), ``templ_values`` (a JSON list within a text) and ``anser``, which is
spelt so.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_server.data.annotations import QuestionRow, fill
from edge_server.data.authors_layout import (
    MediaFolder,
    Survey,
    Videos,
    annotation_rows,
    list_of,
    name_of,
    plain,
    survey,
    text_of,
    usable,
    video_id_of,
)
from edge_server.data.faults import RowReport

#: Its folder in the folder of all recorded data sets.
FOLDER = "MUSIC-AVQA"


@dataclass(frozen=True)
class MusicAvqa:
    """A split whose rows can all be used.

    Attributes:
        media: frames and sound.
        video_ids: of each clip.
        questions: every question; ``clip`` indexes ``video_ids``.
        report: what was left out.
    """

    media: MediaFolder
    video_ids: tuple[str, ...]
    questions: tuple[QuestionRow, ...]
    report: RowReport


def load_music_avqa(
    media: MediaFolder, split: str, look: Survey = survey, videos: Videos = "all"
) -> MusicAvqa:
    """Read a split's questions and see to it that their clips can be read.

    Args:
        media: the data set's folder.
        split: ``train``, ``val`` or ``test``.
        look: says which clips cannot be read.
        videos: which of them are asked about.

    Raises:
        DatasetError: there is no such split, or more than 1 % of its rows are bad.
    """
    rows = [row for row in annotation_rows(media.folder, split, videos) if not _deleted(row)]
    report = RowReport(f"{media.folder} {split}", len(rows))
    parsed: list[tuple[str, str, QuestionRow]] = []
    for number, row in enumerate(rows, 1):
        name = name_of(row, number)
        try:
            video_id, template, kind = video_id_of(row), plain(text_of(row, "question_content")), _type(row)
            values, answer = list_of(row, "templ_values"), plain(text_of(row, "anser", "answer"))
        except (ValueError, RecursionError):
            report.add("malformed row", name)
            continue
        try:
            text = fill(template, [plain(value) for value in values])
        except ValueError:
            report.add("wrong number of values", name)
            continue
        parsed.append((video_id, name, QuestionRow(-1, kind, template, text, answer)))
    # Before any file is opened: a wrong annotation shows at once.
    report.stop_if_too_many()
    index = usable(media, [(video_id, name) for video_id, name, _ in parsed], report, look)
    report.stop_if_too_many()
    questions = tuple(
        QuestionRow(index[video_id], q.type, q.template, q.text, q.answer)
        for video_id, _, q in parsed
        if video_id in index
    )
    return MusicAvqa(media, tuple(index), questions, report)


def _deleted(row: object) -> bool:
    """Whether the data set's own authors took the row back."""
    return isinstance(row, dict) and bool(row.get("question_deleted"))


def _type(row: object) -> tuple[str, str]:
    found = list_of(row, "type")
    if len(found) != 2:
        raise ValueError(f"type: modality and task are needed, not {found!r}")
    return found[0], found[1]
