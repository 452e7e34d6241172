"""The turns before a question, and which of them are left out where all of them do not fit the model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import accumulate

from edge_server.engine import Model, Prompt
from edge_server.engine.ports import InvalidPromptError, PromptTooLongError
from edge_server.errors import TextTooLongError
from edge_server.frontdoor.ports import Ingested, LinkShape
from edge_server.frontdoor.questions import check_text, most_text_bytes


@dataclass(frozen=True)
class History:
    """What was said before a question.

    Attributes:
        turns: texts, oldest first.
        spare: numbers of the turns that may be left out, those that go first before the others.
    """

    turns: tuple[str, ...] = ()
    spare: tuple[int, ...] = ()

    def without(self, count: int) -> str:
        """The text of all turns but the first so many that may be left out."""
        gone = frozenset(self.spare[:count])
        return "\n".join(turn for number, turn in enumerate(self.turns) if turn and number not in gone)

    def within_bytes(self, shape: LinkShape) -> int:
        """How many turns have to be left out before language tokens are made of the others.

        Raises:
            TextTooLongError: none left out is enough.
        """
        gone = [0, *accumulate(len(self.turns[number]) for number in self.spare)]
        characters, bound = sum(map(len, self.turns)), most_text_bytes(shape)
        # By their lengths first: megabytes are not joined to be counted.
        count = next((n for n, less in enumerate(gone) if characters - less <= bound), len(self.spare))
        while True:
            try:
                check_text(self.without(count), "context", shape)
            except TextTooLongError:
                if count == len(self.spare):
                    raise
                count += 1
            else:
                return count


async def fitted(
    history: History,
    left_out: int,
    ready: Ingested,
    model: Model,
    ids_of: Callable[[str], Awaitable[tuple[int, ...]]],
) -> tuple[Ingested, int]:
    """Leave out as few turns as it takes; none where they fit, or where leaving all out is not enough.

    Args:
        history: of the question.
        left_out: how many turns are left out already.
        ready: the question with the others.
        model: is asked whether it fits.
        ids_of: language token ids of a text.

    Returns:
        The question as it fits, and how many turns are left out.
    """

    def fits(attempt: Ingested) -> bool:
        try:
            model.check(Prompt(attempt.blocks, attempt.question_ids, attempt.context_ids))
        except PromptTooLongError:
            return False
        except InvalidPromptError:
            pass  # told when it is submitted
        return True

    if left_out == len(history.spare) or fits(ready):
        return ready, left_out
    # Between one number that is too small and one that is enough, if any is.
    least, most = left_out, len(history.spare)
    best = replace(ready, context_ids=await ids_of(history.without(most)))
    if not fits(best):
        return ready, left_out
    while most - least > 1:
        count = (least + most) // 2
        attempt = replace(ready, context_ids=await ids_of(history.without(count)))
        if fits(attempt):
            most, best = count, attempt
        else:
            least = count
    return best, most
