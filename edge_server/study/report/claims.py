"""What the results do not show, and what analog tokens are worth: prose whose numbers come from JSON files.

A claim whose file is missing says that it was not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_server.study.report import alignment, semantic
from edge_server.study.report.markdown import percent, points, table
from edge_server.study.report.sections import Found

_CHANNELS = {
    ("awgn", "block"): "AWGN",
    ("rayleigh", "block"): "Rayleigh block fading",
    ("rayleigh", "fast"): "fast Rayleigh fading",
}


def not_shown(files: Found) -> str:
    """A point for each thing that one might read into the results and that they do not show."""
    told = []
    for title, make in _CLAIMS.items():
        try:
            body = make(files)
        except (KeyError, IndexError, StopIteration) as missing:
            body = f"Not measured: {missing} is missing."
        told.append(f"- **{title}** {body}")
    return "\n".join(told)


def worth(files: Found) -> str:
    """The paragraph on analog and quantised tokens, beside the differences themselves."""
    figure = files["token_worth"]
    rows, same, apart = [], [], []
    for curve in figure["analog_minus_quantised"]:
        name = _CHANNELS[curve["channel"], curve["fading"]]
        rows.append((name, *(f"{100 * point['difference']:+.1f}" for point in curve["points"])))
        if curve["equal_from_db"] is None:
            apart.append(name)
        else:
            same.append(f"within {points(curve['widest'])} from {curve['equal_from_db']:g} dB on ({name})")
    head = ("analog minus quantised [points]", *(f"{p['snr_db']:g} dB" for p in curve["points"]))
    low = figure["digital_link"][0]
    lowest = figure["lowest_scheme_bits_per_use"]
    parts = [
        f"Quantised tokens of the same link, sent with a real code, are answered as well as analog ones: "
        f"{'; '.join(same)}. There digital tokens do as well, and fit radios as they are."
        if same
        else "",
        f"Analog tokens are worth it over {', '.join(apart)}: whoever sends does not know the gain, no "
        "scheme has to be chosen, and answers get worse gradually where a code is lost as a whole."
        if apart
        else "",
        f"At {low['snr_db']:g} dB the comparison is against schemes that cannot work: the lowest of the "
        f"table carries {lowest:.3f} bits per use, the capacity is {low['capacity_bits_per_use']:.4f}. "
        + (
            f"With lower rates and retransmission: {semantic.claim(files)}"
            if "semantic_digital" in files
            else "Lower rates, repetition, retransmission and tokens learned to be quantised were not tried."
        )
        if lowest > low["capacity_bits_per_use"]
        else "",
    ]
    return "\n\n".join([" ".join(part for part in parts if part), table(head, rows)])


def _alignment(files: Found) -> str:
    rows = _rows(files)
    contrastive = _row(rows, "Contrastive alignment")
    whole = _row(rows, "Alignment with dictation")
    dictation = next(row["adds"] for row in files["ablation"]["ladder"] if row["system"] == "two-stage")
    steps = files["ablation"]["budget"]["alignment_steps"]
    return (
        f"At equal rounds of fine-tuning, the contrastive loss gains {points(contrastive['measured'])} over "
        f"no alignment ({contrastive['asked']} was asked), with its own {steps} steps not counted. The other "
        f"{points(dictation['mean'])} of the whole {points(whole['measured'])} are *dictation*: each place "
        "in the prompt is told its word. That takes labels of the scene word by word, which only a generated "
        "world has; it cannot run on recorded clips with free captions. Whether the contrastive loss adds "
        "anything beside dictation was not measured."
    )


def _rounds(files: Found) -> str:
    row = _row(_rows(files), "Rounds to 90% of the final")
    if "unsettled" in row:
        return f"{row['unsettled'].capitalize()}."
    bare = row["without_stage_1"]
    first, second = row["sides"].values()
    return (
        f"{bare['rounds']:.0f} rounds in place of {second:.0f} ({bare['ratio']:.3f}) leave out stage 1. With "
        f"its steps they are {first:.0f}: {row['measured']:.2f} times as many."
    )


def _short(files: Found) -> str:
    row = _row(_rows(files), "Rounds to 90%, 4 tokens")
    if row["met"] is not None:
        return f"Rounds of 4 over 16 tokens: {row['measured']:.3f}."
    few, many = (", ".join(f"{n:.0f}" for n in row[name]["values"]) for name in ("tokens_4", "tokens_16"))
    return f"Both begin about where they are to arrive ({few} rounds by seed with 4 tokens, {many} with 16)."


def _authors(files: Found) -> str:
    row = _row(_rows(files), "Two-stage minus a variant")
    differences = files["budgets"]["authors_variant"]
    told = "; ".join(f"{each['what']}: {each['here']} (theirs: {each['theirs']})" for each in differences)
    return (
        f"`authors` is a variant made here, at this model's scale; {points(row['measured'])} over it say "
        f"nothing about theirs, which was not run. What differs: {told}."
    )


def _media(files: Found) -> str:
    rows = [row for row in files["question_size"]["equal_accuracy"] if row.get("never_as_good")]
    where = ", ".join(
        f"{row['token_length']} tokens at {row['snr_db']:g} dB ({row['never_as_good']} of {row['seeds']} "
        "seeds)"
        for row in rows
        if row["kind"] == "jpeg-opus"
    )
    return (
        "Channel uses of equal accuracy do not exist where the media are never answered as well, so there is "
        f"no ratio. JPEG and Opus: {where}. The encoders were not trained on what codecs leave of a clip."
    )


def _digital(files: Found) -> str:
    row = _row(_rows(files), "Two-stage minus JPEG and Opus")
    why = row["unsettled"]
    told = f"{why[0].upper()}{why[1:]}."
    if "semantic_digital" not in files:
        return f"{told} A short digital description of the scene over a good code was not measured."
    return f"{told} {semantic.claim(files)}"


def _csi(files: Found) -> str:
    told = "In every curve the receiver knows the gain of each codeword or symbol."
    figure = files.get("shipped_estimated")
    if figure is None:
        return f"{told} With estimated gains nothing was measured."
    found = {(row["pilots"], row["snr_db"]): row["accuracy"] for row in figure["rows"]}
    falls = " and ".join(
        f"from {percent(found[None, snr])} to {percent(found[4, snr])} at {snr:g} dB" for snr in (0.0, -5.0)
    )
    return (
        f"{told} With 4 pilots per gain the shipped model, which was trained with perfect CSI, falls {falls} "
        "(Rayleigh block fading). "
        + (
            "A server refines such gains by the tokens, which wins most of it back; these figures are "
            "without (R)."
            if "pilots" in files
            else "Training with estimated gains was not tried."
        )
    )


def _worlds(files: Found) -> str:
    questions = files["accuracy_snr"]["questions"]
    told = (
        f"The {questions} held-out questions are about clips of the same generator: the same artwork, the "
        "same instruments and wordings. "
        + (
            "Unseen combinations were measured of links that are trained anew, not of the shipped model (Q)"
            if "combinations" in files
            else "Unseen combinations were not measured"
        )
    )
    elsewhere = files.get("worlds")
    if elsewhere is None:
        return f"{told}. Nor were unseen artwork and timbres."
    snr_db = elsewhere["rows"][0]["snr_db"]
    right = {row["world"]: row["accuracy"] for row in elsewhere["rows"] if row["snr_db"] == snr_db}
    usual = right.pop("usual")
    falls = ", ".join(f"to {percent(accuracy)} with other {world}" for world, accuracy in right.items())
    return f"{told}. At {snr_db:g} dB the shipped model falls from {percent(usual)} {falls} (M)."


def _tuning(files: Found) -> str:
    budget = files["accuracy_snr"]["budget"]
    rates = ", ".join(f"{budget[name]:g}" for name in ("dictated_rate", "contrastive_rate", "unaligned_rate"))
    return (
        f"Each kind of system has one learning rate ({rates}), chosen with one seed on the validation split; "
        "the search was not recorded, and the spread over seeds does not include pretraining."
    )


_CLAIMS: Mapping[str, Callable[[Found], str]] = {
    "That alignment as the paper has it gains what was asked.": _alignment,
    "That alignment needs no labels.": alignment.claim,
    "That alignment saves work.": _rounds,
    "That short tokens learn as fast as long ones.": _short,
    "A win over the authors' scheme.": _authors,
    "How many channel uses JPEG and Opus would take.": _media,
    "A win over digital transmission.": _digital,
    "Fading without perfect CSI.": _csi,
    "Other worlds.": _worlds,
    "Equal care for every system.": _tuning,
}


def _rows(files: Found) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = files["must_show"]["rows"]
    return found


def _row(rows: list[dict[str, Any]], begin: str) -> dict[str, Any]:
    """The row whose name begins so; KeyError where it was not measured."""
    row = next(row for row in rows if row["row"].startswith(begin))
    if "missing" in row:
        raise KeyError(row["row"])
    return row
