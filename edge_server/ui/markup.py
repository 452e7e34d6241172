"""What the page shows, as HTML. Pure functions; whatever came from outside is escaped here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from edge_server.cell import DeviceStatus
from edge_server.engine import Completion
from edge_server.frontdoor.ports import ShownWindow
from edge_server.ui.pictures import (
    DEEPEST_DB,
    FULL_SCALE,
    band_parts,
    constellation,
    heatmap,
    over_subcarriers,
    sparkline,
)
from edge_server.ui.trial import Bill, Codeword
from edge_server.ui.watch import RecentAnswer, View
from edge_server.ui.window import Quantiles

DEVICES_SHOWN = 100
NOTHING = "–"
_GAP = "\u00a0"

HEATMAP_KEY = (
    '<p class="tl-note">A row is a token, a column one of its values.</p>'
    f'<p class="tl-note tl-scale"><span>−{FULL_SCALE:g} and below</span><i aria-hidden="true"></i>'
    f"<span>{FULL_SCALE:g} and above</span></p>"
)
"""What the colours of the heatmaps mean."""

_REASONS = {
    "queue": "queue full",
    "pages": "too many pages opened at once",
    "spool": "too much media on its way in",
    "held_bytes": "too many bytes on their way",
    "too_large": "larger than allowed",
    "sessions_of_one": "too many sessions of one device",
    "streams": "too many streams of one client",
    "arrivals": "too many bytes on their way in",
    "device_id": "another device's name",
    "foreign_session": "another device's session",
    "expired": "credential expired",
    "revoked": "credential revoked",
    "no_key": "no API key",
    "unknown_key": "unknown API key",
    "no_certificate": "no certificate",
    "unknown_certificate": "unknown certificate",
    "slow_sender": "sent too slowly",
    "slow_reader": "read too slowly",
    "tls_handshake": "TLS handshake not finished",
    "queue_per_user": "one user's share of the queue full",
    "evicted": "left the full queue for a lighter user",
    "sessions": "too many sessions",
    "questions_in_flight": "too many questions of one device",
    "bundle": "another bundle",
    "session": "unknown session",
    "draining": "shutting down",
    "invalid": "not a valid question",
    "ingest": "too many media files at once",
}


def seconds(value: float) -> str:
    """A time in a unit that suits it."""
    if math.isnan(value):
        return NOTHING
    if value < 0.9995e-3:
        return f"{value * 1e6:.0f}{_GAP}µs"
    if value < 0.9995:
        return f"{value * 1e3:.3g}{_GAP}ms"
    return f"{value:.3g}{_GAP}s" if value < 120 else _long(value)


def ago(silent_s: float) -> str:
    """How long ago something was, no finer than seconds."""
    if silent_s < 1:
        return "now"
    return f"{silent_s:.0f}{_GAP}s{_GAP}ago" if silent_s < 120 else f"{_long(silent_s)}{_GAP}ago"


def counted(count: int, what: str) -> str:
    """So many things, one of them in the singular."""
    return f"{amount(count)} {what}" + "s" * (count != 1)


def amount(value: float) -> str:
    """A large number with thin gaps between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def size(value: int) -> str:
    """Bytes in a unit that suits them."""
    if value < 1000:
        return f"{value}{_GAP}B"
    return f"{value / 1e3:.3g}{_GAP}kB" if value < 999_500 else f"{value / 1e6:.3g}{_GAP}MB"


def decibels(value: float) -> str:
    """A level, with a minus that is one."""
    return f"{value:.1f}{_GAP}dB".replace("-", "\u2212")


def tiles(view: View, devices: int) -> str:
    """The numbers that tell at a glance how the server is."""
    refused = sum(view.refusals.values())
    shown = [
        ("Devices", amount(devices), "with an open session", ""),
        ("Waiting", amount(view.queue_depth), "questions in the queue", ""),
        ("In the batch", amount(view.batch_rows), "questions right now", ""),
        ("Answered", amount(view.answered), f"started {ago(view.up_s)}", ""),
        ("Refused", amount(refused), "since start", "warn" if refused else ""),
    ]
    cells = "".join(
        f'<div class="tl-tile {tone}"><dt>{name}</dt><dd>{value}</dd><p>{note}</p></div>'
        for name, value, note, tone in shown
    )
    return f'<dl class="tl-tiles">{cells}</dl>'


def rate(view: View) -> str:
    """Answers of each second of the last minute."""
    said = counted(sum(view.answers_per_s), "answer")
    most, span_s = max([*view.answers_per_s, 1]), len(view.answers_per_s)
    picture = sparkline(view.answers_per_s, f"Answers per second: {said} in the last minute")
    ticks = "".join(f"<span>{tick}</span>" for tick in (f"−{span_s}{_GAP}s", f"−{span_s // 2}{_GAP}s", "now"))
    return (
        f'<div class="tl-chart"><div class="tl-axis"><span>{most}</span><span>0</span></div>{picture}'
        f'<div class="tl-ends">{ticks}</div></div><p class="tl-note">{said} in the last minute</p>'
    )


def devices_table(devices: Sequence[DeviceStatus]) -> str:
    """Every device, the one heard of last first."""
    if not devices:
        return _empty(
            "No device has a session.",
            "One opens with a device's first question: "
            '<code>device-agent ask clip.mp4 "Where is the loudest instrument?"</code>',
        )
    rows = [
        (
            f'<span class="tl-name">{escape(device.device_id)}</span>',
            f'<span class="tl-state {device.state}">{device.state}</span>',
            decibels(device.snr_db),
            f"{device.grant.token_length} of {device.grant.max_token_length}",
            f"{device.grant.max_token_length / device.grant.token_length:.3g}×",
            size(device.question_bytes) if device.question_bytes else NOTHING,
            str(device.in_flight),
            ago(device.silent_s),
        )
        for device in devices[:DEVICES_SHOWN]
    ]
    heads = (
        "Device",
        "State",
        "SNR",
        "Granted tokens",
        "Compression",
        "Last question",
        "In flight",
        "Seen",
    )
    table = table_of("Devices with a session", heads, rows, "tl-devices") + (
        '<p class="tl-note">Compression: how many tokens the encoder makes of each that may be sent.</p>'
    )
    hidden = len(devices) - DEVICES_SHOWN
    return table + (f'<p class="tl-note">and {amount(hidden)} more</p>' if hidden > 0 else "")


def timings(view: View) -> str:
    """Median and 99th percentile of queue, channel and inference."""
    rows = [
        ("Queue", *_quantiles(view.queue)),
        ("Channel", *_quantiles(view.airtime)),
        ("Inference", *_quantiles(view.inference)),
    ]
    table = table_of("Times in the last five minutes", ("", "p50", "p99", "observed"), rows, "tl-timings")
    return table + '<p class="tl-note">Last five minutes. Channel: airtime of one codeword.</p>'


def batch_sizes(view: View) -> str:
    """How many questions were decoded together."""
    if not view.batch_sizes:
        return _empty("No batch in the last five minutes.", "")
    return _bars(
        [(str(rows), steps) for rows, steps in view.batch_sizes.items()], "questions", "decode steps"
    )


def refusals(view: View) -> str:
    """What was not accepted, by reason."""
    if not view.refusals:
        return _empty("Nothing was refused.", "")
    ordered = sorted(view.refusals.items(), key=lambda item: -item[1])
    return _bars(
        [(_REASONS.get(reason, reason.replace("_", " ")), count) for reason, count in ordered],
        "reason",
        "refused",
    )


def recent_answers(
    answers: Iterable[RecentAnswer], text_of: Callable[[tuple[int, ...]], str], now: float
) -> str:
    """The last answers.

    Args:
        answers: the latest first.
        text_of: what language tokens of a question spell.
        now: on the watch's clock [s].
    """
    rows = [
        (
            escape(text_of(answer.question_ids)) or '<span class="tl-dim">sent as tokens</span>',
            f"<strong>{escape(answer.text.strip()) or NOTHING}</strong>",
            f"{answer.probability if answer.confidence is None else answer.confidence:.0%}",
            escape(", ".join(f"{modality} {length}" for modality, length in answer.blocks)) or NOTHING,
            f'<span class="tl-name">{escape(answer.asker)}</span>',
            seconds(answer.queue_s + answer.compute_s),
            ago(now - answer.at),
        )
        for answer in answers
    ]
    if not rows:
        return _empty("Nothing was answered yet.", "Ask something in the playground.")
    heads = ("Question", "Answer", "Probability", "Tokens", "Asker", "Took", "When")
    return table_of("Recent answers", heads, rows, "tl-answers")


def window_note(window: ShownWindow | None) -> str:
    """Which part of a recording the answer is about; nothing of what has no time."""
    if window is None:
        return ""
    whole = "" if window.duration_s is None else f" of {window.duration_s:.4g} s"
    return f'<p class="tl-note">About {window.start_s:.4g} to {window.end_s:.4g} s{whole}.</p>'


def answer_facts(completion: Completion, truth: str | None) -> str:
    """How sure the answer is, how long it took, and whether it is right where that is known."""
    verdict = ""
    if truth is not None:
        right = completion.text.strip().lower() == truth.strip().lower()
        verdict = (
            '<span class="tl-verdict right">✓ right</span>'
            if right
            else f'<span class="tl-verdict wrong">✗ the true answer is “{escape(truth)}”</span>'
        )
    name, share = "Probability", completion.probability
    if completion.confidence is not None:
        name, share = "Confidence", completion.confidence
    if completion.guess:
        verdict = f'<span class="tl-verdict wrong">held back: “{escape(completion.guess.strip())}”</span>'
    elif completion.abstained:
        verdict = '<span class="tl-verdict wrong">not what this model was trained for</span>'
    percent = f"{share:.0%}"
    return (
        f'<div class="tl-facts"><p>{name} <strong class="tl-probability">{percent}</strong></p>'
        f'<div class="tl-bar" aria-hidden="true"><span style="width:{percent}"></span></div>{verdict}'
        f'<p class="tl-note">{seconds(completion.queue_s)} in the queue · {seconds(completion.compute_s)} of '
        f"inference · the model read {counted(completion.prompt_tokens, 'token')} of clip and question"
        "</p></div>"
    )


def comparison(tokens: Bill, clip: Bill, media: str) -> str:
    """What the tokens cost beside the clip's own file."""
    times = clip.size_bytes / max(tokens.size_bytes, 1)
    head = (
        f'<p class="tl-headline"><strong>{times:,.0f}×</strong> fewer bytes than the {media} itself</p>'
        if times >= 1
        else f'<p class="tl-headline">The {media} itself is smaller than its tokens</p>'
    )
    rows = [
        ("Bytes", size(tokens.size_bytes), size(clip.size_bytes)),
        ("Channel uses", _or_nothing(tokens.channel_uses, amount), _at_least(clip.channel_uses, amount)),
        ("Airtime", _or_nothing(tokens.airtime_s, seconds), _at_least(clip.airtime_s, seconds)),
    ]
    note = (
        "A perfect wire has no capacity to count the file's symbols with."
        if clip.channel_uses is None
        else "At least: the file's bits at the channel's capacity, which no real code reaches."
    )
    table = table_of("Cost", ("", "Tokens", f"The {media} itself"), rows, "tl-cost")
    return f'{head}{table}<p class="tl-note">{note}</p>'


def pictures(word: Codeword) -> str:
    """One modality's tokens before and after the channel."""
    cost = word.cost
    name = escape(cost.modality)
    tokens, reals = word.sent_TC.shape
    facts = (
        f"{counted(tokens, 'token')} of {reals} reals · "
        f"{amount(cost.channel_uses)} channel uses · "
        f"effective SNR {decibels(cost.effective_snr_db)} · {_error(word.error_db)}"
    )
    images = "".join(
        f'<figure><figcaption>{caption}</figcaption><img class="tl-heatmap" alt="{name} tokens, {alt}: '
        f'{tokens} rows of {reals} values as colours" src="{heatmap(block)}"></figure>'
        for caption, alt, block in (
            ("Before the channel", "as the device sent them", word.sent_TC),
            ("After the channel", "as they arrived", word.received_TC),
            ("What the channel added", "what was added on the way", word.received_TC - word.sent_TC),
        )
    )
    symbols = constellation(
        word.sent_TC,
        word.received_TC,
        f"{name} symbols in the complex plane, as sent and as received",
        word.subcarrier_TS,
    )
    return (
        f'<section class="tl-word"><h3>{name.capitalize()}</h3><p class="tl-note">{facts}</p>'
        f'<div class="tl-word-pictures"><div class="tl-maps">{images}</div>'
        f'<figure><figcaption>Symbols: <span class="tl-key sent">sent</span> '
        f"{_received_key(word)}; the circle has the power 1</figcaption>"
        f"{symbols}</figure></div>{_subcarriers(word)}</section>"
    )


def _received_key(word: Codeword) -> str:
    """Colours of what was received: one, or over OFDM one of each part of the band."""
    if word.subcarrier_TS is None:
        return '<span class="tl-key received">received</span>'
    keys = (
        f'<span class="tl-key band{part}">{first} to {last}</span>'
        for part, (first, last) in enumerate(band_parts(word.subcarrier_TS))
    )
    return f"received over subcarriers {' '.join(keys)}"


def _subcarriers(word: Codeword) -> str:
    """Where in the band the channel took most; nothing of what did not go over OFDM."""
    if word.subcarrier_TS is None:
        return ""
    label = f"{word.cost.modality}: error on each subcarrier"
    bars = over_subcarriers(word.sent_TC, word.received_TC, word.subcarrier_TS, label)
    last = int(word.subcarrier_TS.max())
    return (
        f"<figure><figcaption>Error over subcarriers 0 to {last}: a full bar is as strong as the tokens, "
        f"none is {decibels(DEEPEST_DB)} weaker</figcaption>{bars}</figure>"
    )


def _error(error_db: float) -> str:
    if not math.isfinite(error_db):
        return "arrived as sent"
    side = "weaker" if error_db <= 0 else "stronger"
    return f"what was added is {decibels(abs(error_db))} {side} than the tokens"


def _long(value: float) -> str:
    minutes = value / 60
    return f"{minutes:.0f}{_GAP}min" if minutes < 120 else f"{minutes / 60:.0f}{_GAP}h"


def _quantiles(found: Quantiles) -> tuple[str, str, str]:
    return seconds(found.p50), seconds(found.p99), amount(found.count)


def _or_nothing(value: float | None, shown: Callable[[float], str]) -> str:
    return NOTHING if value is None else shown(value)


def _at_least(value: float | None, shown: Callable[[float], str]) -> str:
    return NOTHING if value is None else f"≥ {shown(value)}"


def table_of(caption: str, heads: Sequence[str], rows: Iterable[Sequence[str]], style: str) -> str:
    """Cells are HTML already; the first of a row is its head. Each knows its column, for narrow screens."""
    head = "".join(f'<th scope="col">{name}</th>' for name in heads)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(
            f'<td data-head="{name}">{cell}</td>' for name, cell in zip(heads[1:], row[1:], strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="tl-scroll"><table class="tl-table {style}"><caption>{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _bars(counts: Sequence[tuple[str, int]], what: str, of: str) -> str:
    longest = max(count for _, count in counts)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><span class="tl-bar"><span style="width:'
        f'{100 * count / longest:.1f}%"></span></span></td><td>{amount(count)}</td></tr>'
        for name, count in counts
    )
    return (
        f'<table class="tl-table tl-bars"><caption>{what}, {of}</caption>'
        f'<thead><tr><th scope="col">{what}</th><td></td><th scope="col">{of}</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>"
    )


def _empty(what: str, then: str) -> str:
    return f'<div class="tl-empty"><p>{what}</p><p class="tl-note">{then}</p></div>'
