"""The templates of :mod:`~edge_server.data.soundstage.questions` in other sentences with the same answers.

By the template's own text. ``training`` is learned from; ``reordered`` and ``synonyms`` are held out of
training and asked in evaluation only: the former are new sentences of words that training knows, each of the
latter has a word that training never shows (``tests/unit/edge_server/data/test_wordings.py`` sees to both).
A template without an entry is asked in its own words alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_PLACEHOLDER = re.compile("<[A-Za-z]+[0-9]*>")


@dataclass(frozen=True)
class Phrasings:
    """Other sentences for one template, with its placeholders."""

    training: tuple[str, ...]
    """Learned from."""
    reordered: tuple[str, ...]
    """Held out: new sentences of known words."""
    synonyms: tuple[str, ...]
    """Held out: sentences with a word that training never shows."""


def put_into(sentence: str, template: str, values: Sequence[str]) -> str:
    """A sentence with a template's values, each where the sentence has the placeholder of its name.

    Args:
        sentence: says the same as the template; it may have a placeholder elsewhere, or twice.
        template: its placeholders are those that the values are for, in their order.
        values: one for each.

    Raises:
        ValueError: there are more placeholders than values, or fewer.
        KeyError: the sentence has one that the template has not.
    """
    named = dict(zip(_PLACEHOLDER.findall(template), values, strict=True))
    return _PLACEHOLDER.sub(lambda found: named[found[0]], sentence)


PHRASINGS: dict[str, Phrasings] = {
    "How many musical instruments were heard throughout the video?": Phrasings(
        (
            "How many instruments can be heard in the video?",
            "How many instruments do you hear?",
            "What is the number of instruments heard in the clip?",
            "Count the instruments that can be heard.",
            "In the whole clip, how many different instruments are heard?",
            "How many instruments are audible?",
            "Tell me the number of instruments that I hear.",
            "The number of audible musical instruments in the video is what?",
            "How many musical instruments were heard?",
        ),
        (
            "Throughout the clip, how many instruments do you hear?",
            "Count how many musical instruments can be heard in the whole video.",
        ),
        ("How many instruments were heard during the footage?",),
    ),
    "Is there a <Object> sound?": Phrasings(
        (
            "Can you hear a <Object>?",
            "Is a <Object> heard?",
            "Do you hear a <Object>?",
            "Does a <Object> sound in the clip?",
            "Is there the sound of a <Object>?",
            "Is a <Object> audible?",
            "Can a <Object> be heard in the video?",
            "I wonder if a <Object> can be heard.",
            "Is there any <Object> to be heard?",
        ),
        ("Is the sound of a <Object> heard in the clip?", "In the video, can you hear any <Object>?"),
        ("Is some <Object> noise heard?",),
    ),
    "Is the <Object1> louder than the <Object2>?": Phrasings(
        (
            "Is the <Object2> quieter than the <Object1>?",
            "Does the <Object1> play louder than the <Object2>?",
            "Compared with the <Object2>, is the <Object1> louder?",
            "Between the <Object1> and the <Object2>, is the <Object1> the louder one?",
            "Is the <Object1> more loud than the <Object2>?",
            "Does the <Object1> sound louder than the <Object2>?",
            "Is the <Object2> softer than the <Object1>?",
            "Than the <Object2>, is the <Object1> louder?",
        ),
        (
            "Compared with the <Object2>, does the <Object1> sound louder?",
            "In the clip, is the <Object2> the quieter one compared with the <Object1>?",
        ),
        ("Is the <Object1> truly louder than the <Object2>?",),
    ),
    "Does the <Object1> come in before the <Object2>?": Phrasings(
        (
            "Does the <Object1> start before the <Object2>?",
            "Is the <Object1> earlier than the <Object2>?",
            "Does the <Object2> come in after the <Object1>?",
            "Does the <Object1> begin to play before the <Object2>?",
            "Before the <Object2>, does the <Object1> come in?",
            "Do we hear the <Object1> before the <Object2>?",
            "Does the <Object2> start later than the <Object1>?",
            "Is the <Object1> heard before the <Object2>?",
        ),
        ("Does the <Object2> begin after the <Object1>?", "Is the <Object2> heard later than the <Object1>?"),
        ("Does the <Object1> come in sometime before the <Object2>?",),
    ),
    "How many types of musical instruments appeared in the entire video?": Phrasings(
        (
            "How many instruments can be seen in the video?",
            "How many instruments do you see?",
            "How many instruments are on the stage?",
            "What is the number of instruments shown in the clip?",
            "Count the instruments that can be seen.",
            "How many different instruments appear in the video?",
            "How many instruments are visible?",
            "Tell me the number of instruments that I see.",
            "How many kinds of instruments appeared?",
        ),
        (
            "In the clip, how many instruments are shown on the stage?",
            "Count how many kinds of instruments are visible.",
        ),
        ("How many types of musical instruments appeared in the footage?",),
    ),
    "Is there a <Object> in the entire video?": Phrasings(
        (
            "Can you see a <Object>?",
            "Is a <Object> shown in the video?",
            "Do you see a <Object>?",
            "Does a <Object> appear in the clip?",
            "Is there a <Object> on the stage?",
            "Is a <Object> visible?",
            "Can a <Object> be seen?",
            "I wonder if a <Object> is on the stage.",
            "Is there any <Object> to be seen?",
        ),
        ("Can any <Object> be seen on the stage?", "In the video, do you see a <Object>?"),
        ("Is there a <Object> anywhere in the entire film?",),
    ),
    "What kind of instrument is on the <LR> of the stage?": Phrasings(
        (
            "Which instrument is on the <LR>?",
            "What instrument do you see on the <LR>?",
            "What is on the <LR> of the stage?",
            "What stands on the <LR>?",
            "On the <LR> of the stage, which instrument is there?",
            "Name the instrument on the <LR>.",
            "Tell me which instrument stands at the <LR>.",
            "The instrument on the <LR> is what?",
            "What kind of instrument is at the <LR>?",
            "Which instrument is in the <LR>?",
        ),
        ("Name what stands on the <LR> of the stage.", "On the <LR>, what instrument is shown?"),
        ("What sort of instrument is on the <LR> side?",),
    ),
    "Where is the <Object>?": Phrasings(
        (
            "On which side is the <Object>?",
            "Where does the <Object> stand?",
            "Where can I see the <Object>?",
            "Where on the stage is the <Object>?",
            "Tell me where the <Object> is.",
            "The <Object> is where?",
            "At which place is the <Object>?",
            "What is the place of the <Object>?",
            "Where do you see the <Object>?",
        ),
        ("On the stage, where does the <Object> stand?", "On which side can I see the <Object>?"),
        ("Where precisely is the <Object> located?",),
    ),
    "Is this sound from the instrument in the video?": Phrasings(
        (
            "Does the sound come from the instrument in the video?",
            "Is the instrument in the video making this sound?",
            "Does this sound belong to the instrument on the stage?",
            "Is the sound made by the instrument that is seen?",
            "Does the instrument on the stage make this sound?",
            "Is what I hear from the instrument in the video?",
            "This sound, is it from the instrument in the video?",
        ),
        (
            "Is this sound made by the instrument on the stage?",
            "Does what I hear come from the instrument that is seen?",
        ),
        ("Is this sound originating from the instrument in the video?",),
    ),
    "Is the <Object> in the video playing?": Phrasings(
        (
            "Is the <Object> playing?",
            "Does the <Object> on the stage play?",
            "Is the <Object> on the stage really playing?",
            "Is the <Object> that is seen also heard?",
            "Does the <Object> in the video make any sound?",
            "Is somebody playing the <Object>?",
            "Is the <Object> being played?",
            "Can the <Object> in the video be heard?",
        ),
        ("Is the <Object> on the stage being played?", "In the clip, does the <Object> really play?"),
        ("Is the <Object> in the video actively playing?",),
    ),
    "Is there a voiceover?": Phrasings(
        (
            "Does somebody speak?",
            "Is somebody speaking over it?",
            "Is there a voice in the clip?",
            "Can you hear a voice?",
            "Does a voice speak over the video?",
            "Is anybody talking?",
            "Do you hear somebody speak?",
            "Is there any voiceover to be heard?",
            "Is there speech in the video?",
        ),
        ("Can any voice be heard in the clip?", "Is somebody talking over the video?"),
        ("Is there a narrating voiceover?",),
    ),
    "Where is the first sounding instrument?": Phrasings(
        (
            "Where is the instrument that sounds first?",
            "Where does the first sound come from?",
            "Where is the instrument that plays first?",
            "From where do we hear the first instrument?",
            "Tell me where the first sounding instrument is.",
            "The first sounding instrument is where?",
            "On which side is the instrument that starts first?",
            "Which place does the first sound come from?",
        ),
        ("On which side is the first sounding instrument?", "Tell me where the first sound comes from."),
        ("Where is the initially first sounding instrument?",),
    ),
    "Where is the loudest instrument?": Phrasings(
        (
            "Where does the loudest sound come from?",
            "Where is the instrument that is loudest?",
            "Where is the instrument that plays loudest?",
            "From where do we hear the loudest instrument?",
            "Tell me where the loudest instrument is.",
            "The loudest instrument is where?",
            "On which side is the loudest instrument?",
            "Which place does the loudest sound come from?",
        ),
        (
            "On which side is the instrument that is loudest?",
            "Tell me from where the loudest sound comes.",
        ),
        ("Where is the loudest instrument positioned?",),
    ),
    "Is the first sound coming from the <LR> instrument?": Phrasings(
        (
            "Does the first sound come from the <LR>?",
            "Is the <LR> instrument the first to sound?",
            "Does the instrument on the <LR> sound first?",
            "Is the instrument on the <LR> the first one that plays?",
            "Does the <LR> instrument come in first?",
            "Is the first sound from the instrument on the <LR>?",
            "Does the instrument on the <LR> start first?",
        ),
        (
            "Is the first sound made by the instrument on the <LR>?",
            "Does the <LR> instrument start first?",
        ),
        ("Is the first sound emerging from the <LR> instrument?",),
    ),
    "How many instruments are sounding in the video?": Phrasings(
        (
            "How many instruments on the stage are sounding?",
            "How many of the instruments in the video sound?",
            "How many instruments on the stage are playing?",
            "How many instruments in the video make a sound?",
            "Of the instruments that are seen, how many sound?",
            "Count the instruments on the stage that are sounding.",
            "What is the number of sounding instruments in the video?",
            "How many of the instruments on the stage are really playing?",
        ),
        (
            "Of the instruments on the stage, how many are sounding?",
            "What is the number of instruments on the stage that make a sound?",
        ),
        ("How many instruments are sounding onscreen?",),
    ),
    "How many instruments in the video did not sound from beginning to end?": Phrasings(
        (
            "How many instruments on the stage are silent?",
            "How many instruments in the video do not sound?",
            "How many of the instruments on the stage make no sound?",
            "How many instruments in the video never play?",
            "Of the instruments that are seen, how many are silent?",
            "Count the silent instruments on the stage.",
            "What is the number of silent instruments in the video?",
            "How many instruments in the video did not sound?",
        ),
        (
            "Of the instruments on the stage, how many never sound?",
            "What is the number of instruments in the video that make no sound?",
        ),
        ("How many instruments in the video stayed silent from beginning to end?",),
    ),
    "Is the instrument on the <LR> louder than the instrument on the <RL>?": Phrasings(
        (
            "Is the <LR> instrument louder than the <RL> one?",
            "Is the instrument on the <RL> quieter than the instrument on the <LR>?",
            "Does the instrument on the <LR> play louder than the one on the <RL>?",
            "Compared with the instrument on the <RL>, is the instrument on the <LR> louder?",
            "Is the one on the <LR> louder than the one on the <RL>?",
            "Is the <RL> instrument softer than the <LR> instrument?",
            "Does the <LR> instrument sound louder than the <RL> instrument?",
            "Is the <LR> louder than the <RL>?",
        ),
        (
            "Is the one on the <RL> quieter than the one on the <LR>?",
            "Compared with the <RL> instrument, does the <LR> one sound louder?",
        ),
        ("Is the instrument on the <LR> noticeably louder than the instrument on the <RL>?",),
    ),
    "Does the instrument on the <LR> come in before the instrument on the <RL>?": Phrasings(
        (
            "Does the <LR> instrument start before the <RL> one?",
            "Does the instrument on the <RL> come in after the instrument on the <LR>?",
            "Is the instrument on the <LR> earlier than the one on the <RL>?",
            "Does the one on the <LR> begin before the one on the <RL>?",
            "Before the instrument on the <RL>, does the instrument on the <LR> come in?",
            "Is the <LR> instrument heard before the <RL> instrument?",
            "Does the <RL> instrument start later than the <LR> instrument?",
            "Does the <LR> come in before the <RL>?",
        ),
        (
            "Does the one on the <RL> start after the one on the <LR>?",
            "Is the one on the <LR> heard before the instrument on the <RL>?",
        ),
        ("Does the instrument on the <LR> come in sometime before the instrument on the <RL>?",),
    ),
    "What is the first instrument that comes in?": Phrasings(
        (
            "Which instrument comes in first?",
            "What instrument is heard first?",
            "Which instrument starts first?",
            "Which instrument plays first?",
            "Name the first instrument.",
            "Tell me which instrument begins.",
            "The first instrument that comes in is what?",
            "Which is the first instrument to sound?",
            "What is the first instrument?",
        ),
        ("Name the instrument that starts first.", "Tell me which instrument is heard first."),
        ("What is the very first instrument that arrives?",),
    ),
    "What is the last instrument that comes in?": Phrasings(
        (
            "Which instrument comes in last?",
            "What instrument is heard last?",
            "Which instrument starts last?",
            "Which instrument is the last to play?",
            "Name the last instrument.",
            "Tell me which instrument comes in at the end.",
            "The last instrument that comes in is what?",
            "Which is the last instrument to sound?",
            "What is the last instrument?",
        ),
        ("Name the instrument that starts last.", "Tell me which instrument comes in last."),
        ("What is the very last instrument that arrives?",),
    ),
    "Which instrument makes sounds right before the <Object>?": Phrasings(
        (
            "Which instrument comes in right before the <Object>?",
            "What instrument starts just before the <Object>?",
            "What do we hear right before the <Object>?",
            "Right before the <Object>, which instrument comes in?",
            "Name the instrument that starts right before the <Object>.",
            "Tell me which instrument the <Object> comes right after.",
            "Which instrument is followed by the <Object>?",
            "Which instrument plays before the <Object>?",
        ),
        (
            "Just before the <Object>, what instrument comes in?",
            "Name the instrument that is followed by the <Object>.",
        ),
        ("Which instrument makes sounds immediately before the <Object>?",),
    ),
    "Which instrument makes sounds right after the <Object>?": Phrasings(
        (
            "Which instrument comes in right after the <Object>?",
            "What instrument starts just after the <Object>?",
            "What do we hear right after the <Object>?",
            "Right after the <Object>, which instrument comes in?",
            "Name the instrument that starts right after the <Object>.",
            "Tell me which instrument the <Object> comes right before.",
            "Which instrument follows the <Object>?",
            "Which instrument plays after the <Object>?",
        ),
        (
            "Just after the <Object>, what instrument comes in?",
            "Name the instrument that follows the <Object>.",
        ),
        ("Which instrument makes sounds immediately after the <Object>?",),
    ),
}
"""By the text of the template."""
