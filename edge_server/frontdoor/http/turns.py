"""Conversations for a model that tells turns apart: each text and each file made ready, turn by turn.

messages ─▶ RestTurn, a message each ─ingest─▶ ReadyTurn ─▶ Prompt with turns
                                                 └ the oldest left out, where not all of them fit
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_server.engine import FeatureBlock, Model, Prompt
from edge_server.engine.ports import InvalidPromptError, PromptTooLongError, Role, Said
from edge_server.errors import InvalidQuestionError
from edge_server.frontdoor.ports import Ingest, Ingested, LinkSettings, RawMedia

MAX_SHOWN = 32
"""Pictures and sounds that one conversation may show: each is decoded before its answer begins."""


@dataclass(frozen=True)
class RestTurn:
    """One message as it came.

    Attributes:
        role: whose.
        pieces: in their order: a text, or the place of a file among the question's media.
    """

    role: Role
    pieces: tuple[str | int, ...]


@dataclass(frozen=True)
class ReadyTurn:
    """One message made ready for the model.

    Attributes:
        role: whose.
        pieces: in their order: language token ids of a text, or what is shown.
    """

    role: Role
    pieces: tuple[tuple[int, ...] | FeatureBlock, ...]


def check_shown(media: Sequence[RawMedia]) -> None:
    """Bound what a conversation shows, before any of it is decoded.

    Raises:
        InvalidQuestionError: it shows more.
    """
    if len(media) > MAX_SHOWN:
        raise InvalidQuestionError(
            media[MAX_SHOWN].field, f"is one of {len(media)} pictures and sounds; at most {MAX_SHOWN}"
        )


async def ready_turns(
    turns: Sequence[RestTurn], media: Sequence[RawMedia], ingest: Ingest, link: LinkSettings, user: str
) -> tuple[list[ReadyTurn], Ingested]:
    """Make each piece of a conversation ready, one after another.

    Args:
        turns: all of them, the one that asks at the end.
        media: files, to which the turns point.
        ingest: makes them ready; raises what that raises.
        link: what the tokens pass on their way.
        user: who asks.

    Returns:
        The turns, and what was made of all media: blocks, costs, the last window.
    """
    files = [await ingest.prepare((part,), "", "", link, user) for part in media]
    found: list[ReadyTurn] = []
    for turn in turns:
        pieces: list[tuple[int, ...] | FeatureBlock] = []
        for piece in turn.pieces:
            if isinstance(piece, int):
                pieces += files[piece].blocks
            else:
                pieces.append((await ingest.prepare((), piece, "", link, user)).question_ids)
        found.append(ReadyTurn(turn.role, tuple(pieces)))
    windows = [each.window for each in files if each.window is not None]
    shown = Ingested(
        blocks=tuple(block for each in files for block in each.blocks),
        question_ids=(),
        context_ids=(),
        costs=tuple(cost for each in files for cost in each.costs),
        sent=tuple(sent_TC for each in files for sent_TC in each.sent),
        subcarriers=tuple(subcarrier_TS for each in files for subcarrier_TS in each.subcarriers),
        window=windows[-1] if windows else None,
    )
    return found, shown


def prompt_of(turns: Sequence[ReadyTurn], conversation: str) -> Prompt:
    """A conversation as the model is asked; turns that say nothing are left out."""
    blocks: list[FeatureBlock] = []
    said: list[Said] = []
    for turn in turns:
        pieces: list[tuple[int, ...] | int] = []
        for piece in turn.pieces:
            if isinstance(piece, FeatureBlock):
                pieces.append(len(blocks))
                blocks.append(piece)
            elif piece:
                pieces.append(piece)
        if pieces:
            said.append(Said(turn.role, tuple(pieces)))
    asks = said[-1].pieces if said else ()
    asking = tuple(token_id for each in asks if not isinstance(each, int) for token_id in each)
    return Prompt(tuple(blocks), asking, turns=tuple(said), conversation=conversation)


def fitted_prompt(
    turns: Sequence[ReadyTurn], spare: Sequence[int], left_out: int, model: Model, conversation: str
) -> tuple[Prompt, int]:
    """A conversation with as few turns left out as it takes; none where leaving all out is not enough.

    Args:
        turns: all of them.
        spare: numbers of the turns that may be left out, those that go first before the others.
        left_out: how many are left out already.
        model: is asked whether it fits.
        conversation: as in :class:`~edge_server.engine.ports.Prompt`.

    Returns:
        The prompt, and how many turns are left out.
    """

    def without(count: int) -> Prompt:
        gone = frozenset(spare[:count])
        return prompt_of([turn for number, turn in enumerate(turns) if number not in gone], conversation)

    def fits(prompt: Prompt) -> bool:
        try:
            model.check(prompt)
        except PromptTooLongError:
            return False
        except InvalidPromptError:
            pass  # told when it is submitted
        return True

    whole = without(left_out)
    if left_out == len(spare) or fits(whole):
        return whole, left_out
    # Between one number that is too small and one that is enough, if any is.
    least, most = left_out, len(spare)
    best = without(most)
    if not fits(best):
        return whole, left_out
    while most - least > 1:
        count = (least + most) // 2
        attempt = without(count)
        if fits(attempt):
            most, best = count, attempt
        else:
            least = count
    return best, most
