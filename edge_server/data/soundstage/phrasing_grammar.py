"""Sentences without end for each template of :mod:`~edge_server.data.soundstage.questions`, to learn from.

A handful of sentences is learned by heart. A small grammar makes hundreds of each, so that what stays is how
they are built. ``{a|b|}`` is one of its alternatives, ``[name]`` a part of :data:`PARTS`; placeholders stay.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

_CHOICE = re.compile(r"\{([^{}]*)\}")
_PART = re.compile(r"\[([a-z]+)\]")

#: Parts of sentences that several templates share.
PARTS: Mapping[str, str] = {
    "clip": "{the|this} {|whole |entire |full }{video|clip|film|recording|scene}",
    "in": "{|| in [clip]| throughout [clip]| here| from beginning to end| at any time}",
    "ins": "{instruments|instruments|musical instruments|different instruments|kinds of instruments"
    "|types of instruments|different musical instruments}",
    "on": "{on the stage|on stage|in the picture|in the video|in view|there|in the clip|up there}",
    "tell": "{tell me|say|do you know|i want to know|i wonder|can you say|find out|let me know"
    "|can you tell me"
    "|please tell me|could you say|we ask}",
    "if": "[tell] {if|whether}",
    "name": "{name|tell me|give me|say|what is|please name|i want to know|can you name|find}",
    "which": "{which|what} {instrument|instrument|musical instrument|kind of instrument|one}",
    "where": "{where|on which side|on what side|at which place|in which place|at what place|whereabouts}",
    "heard": "{can be heard|is heard|is to be heard|is audible|was heard|sounds|can we hear|do i hear}",
    "seen": "{can be seen|is seen|is visible|is shown|is to be seen|appears|is in view|is on the stage}",
    "pl": "{plays|sounds|is heard|makes a sound|is playing|is sounding}",
    "begins": "{begins|starts|comes in|sets in|is first heard|enters|begins to play|starts to play|joins}",
    "begin": "{begin|start|come in|set in|enter|begin to play|start to play|join}",
    "before": "{before|earlier than|ahead of|sooner than|prior to}",
    "after": "{after|later than}",
    "louder": "{louder than|more loud than|stronger than|noisier than|playing louder than}",
    "softer": "{softer than|quieter than|less loud than|weaker than|not as loud as|playing quieter than}",
    "at": "{on|at|to} the <LR>{| side| of the stage| hand side}",
    "left": "{the <LR> instrument|the instrument on the <LR>|the one on the <LR>|the instrument at the <LR>"
    "|the instrument to the <LR>|what stands on the <LR>}",
    "right": "{the <RL> instrument|the instrument on the <RL>|the one on the <RL>|the instrument at the <RL>"
    "|the instrument to the <RL>|what stands on the <RL>|the <RL> one}",
}

#: For each template, by its own text.
GRAMMAR: Mapping[str, tuple[str, ...]] = {
    "How many musical instruments were heard throughout the video?": (
        "how many [ins] {can be heard|are heard|were heard|do you hear|do we hear|can i hear|are audible"
        "|are to be heard|could be heard|did you hear|can you make out by ear}[in]?",
        "[tell] how many [ins] {are heard|can be heard|are audible|you hear|you can hear|we hear"
        "|were heard}[in].",
        "{what is|give me|tell me|say} the {number|count|total} of [ins] {heard|that are heard"
        "|that can be heard"
        "|to be heard|that you hear|audible}[in].",
        "{count|please count|can you count|try to count} {the|all} [ins] {that you hear|that can be heard"
        "|heard"
        "|you can hear|that are audible}[in].",
        "[in], how many [ins] {are heard|do you hear|are audible|can be heard}?",
        "{the number of|number of|how many} [ins] {heard|audible|in the sound|to be heard}{?|, please}",
        "{by ear|going by the sound|only listening|with closed eyes}, how many [ins] are there?",
        "[ins] {that are heard|heard|that one hears}: how many?",
    ),
    "Is there a <Object> sound?": (
        "{can you hear|do you hear|can i hear|do we hear|could you hear|did you hear|is there} {a|any|some} "
        "<Object>{| sound| music| playing}[in]?",
        "is {a|the|any} <Object> {heard|audible|to be heard|sounding|in the sound|among what is heard}[in]?",
        "{does|did} {a|any} <Object> {sound|make a sound|play audibly}[in]?",
        "can {a|the|any} <Object> be heard[in]?",
        "[if] {a <Object> [heard]|there is the sound of a <Object>|you hear a <Object>"
        "|a <Object> is heard}[in].",
        "<Object>{, audible?| heard?|: do you hear it?|, can you hear it?| in the sound?}",
        "{is it true that|would you say that} {a <Object> is heard|you hear a <Object>"
        "|one hears a <Object>}?",
        "{listen:|by ear:|in the sound,} is there a <Object>?",
    ),
    "Is the <Object1> louder than the <Object2>?": (
        "is the <Object1> {|much |really }[louder] the <Object2>{|[in]}?",
        "is the <Object2> {|much |really }[softer] the <Object1>{|[in]}?",
        "{does|did} the <Object1> {play|sound} louder than the <Object2>?",
        "{does|did} the <Object2> {play|sound} {softer|quieter} than the <Object1>?",
        "[if] the <Object1> is [louder] the <Object2>.",
        "[if] the <Object2> is [softer] the <Object1>.",
        "{compared with|beside|next to|against} the <Object2>, is the <Object1> {louder|the louder one"
        "|stronger}?",
        "{of|between} the <Object1> and the <Object2>, is the <Object1> {louder|the louder|the louder one}?",
        "<Object1> louder than <Object2>?",
        "{is it true that|would you say that} the <Object1> is louder than the <Object2>?",
    ),
    "Does the <Object1> come in before the <Object2>?": (
        "{does|did} the <Object1> [begin] [before] the <Object2>{|[in]}?",
        "{does|did} the <Object2> [begin] [after] the <Object1>{|[in]}?",
        "is the <Object1> {first heard|heard|earlier|playing} [before] the <Object2>?",
        "[if] the <Object1> [begins] [before] the <Object2>.",
        "[if] the <Object2> [begins] [after] the <Object1>.",
        "[before] the <Object2>, {does|did} the <Object1> [begin]?",
        "{of|between} the <Object1> and the <Object2>, {does|is it} the <Object1> {come in first|first"
        "|the first}?",
        "{do|did} we hear the <Object1> [before] the <Object2>?",
        "<Object1> before <Object2>?",
        "{is it true that|would you say that} the <Object1> comes in [before] the <Object2>?",
    ),
    "How many types of musical instruments appeared in the entire video?": (
        "how many [ins] {can be seen|are seen|were seen|do you see|do we see|can i see|are visible|are shown"
        "|appear|appeared|are to be seen|did you see|are on the stage|stand on the stage}[in]?",
        "[tell] how many [ins] {are seen|can be seen|are visible|you see|you can see|we see|appear"
        "|are shown}[in].",
        "{what is|give me|tell me|say} the {number|count|total} of [ins] {seen|that are seen|that can be seen"
        "|to be seen|that you see|visible|shown|on the stage}[in].",
        "{count|please count|can you count|try to count} {the|all} [ins] {that you see|that can be seen|seen"
        "|you can see|that are visible|that are shown|on the stage}[in].",
        "[in], how many [ins] {are seen|do you see|are visible|appear}?",
        "{the number of|number of|how many} [ins] {seen|visible|in the picture|on stage|shown}{?|, please}",
        "{going by the picture|only looking|without the sound|by eye}, how many [ins] are there?",
        "[ins] {that are seen|shown|that one sees}: how many?",
    ),
    "Is there a <Object> in the entire video?": (
        "{can you see|do you see|can i see|do we see|could you see|did you see} {a|any|some} <Object>[in]?",
        "is {a|the|any} <Object> {seen|visible|to be seen|shown|on the stage|in the picture|in view}[in]?",
        "is there {a|any} <Object> {on the stage|to see|to be seen|in the picture|in view"
        "|among the instruments"
        "|standing there}?",
        "{does|did} {a|any} <Object> {appear|show|stand on the stage}[in]?",
        "can {a|the|any} <Object> be seen[in]?",
        "[if] {a <Object> [seen]|there is a <Object> on the stage|you see a <Object>"
        "|a <Object> is shown}[in].",
        "<Object>{, visible?| seen?|: do you see it?|, can you see it?| on the stage?| in the picture?}",
        "{is it true that|would you say that} {a <Object> is seen|you see a <Object>|one sees a <Object>}?",
        "{look:|by eye:|in the picture,} is there a <Object>?",
    ),
    "What kind of instrument is on the <LR> of the stage?": (
        "[which] {is|stands|do you see|can be seen|is shown|is seen|do we see|is there} [at]?",
        "{what|what do you see|what can be seen|what stands|what is|what is shown} [at]?",
        "[at], {which instrument is there|what do you see|what is there|which instrument stands"
        "|what can be seen}?",
        "[name] the {|kind of |musical }instrument [at].",
        "[tell] {which|what} instrument {is|stands|is seen|you see} [at].",
        "{the|that} instrument [at] is {what|which one|what kind}?",
        "<LR> instrument{?|: which one?|, please?| is what?|, what is it?}",
        "{look|look at the stage}: what is [at]?",
    ),
    "Where is the <Object>?": (
        "[where] {is|stands|do you see|can i see|do we see|was|would i find} the <Object>{|[in]}?",
        "[where] {on the stage|in the picture|in the video} is the <Object>?",
        "{where|on which side|at which place} {does|did} the <Object> {stand|appear}?",
        "[tell] [where] the <Object> {is|stands|can be seen|is seen|is placed}.",
        "[name] the {place|side} of the <Object>.",
        "the <Object> {is|stands} {where|on which side|at which place}?",
        "<Object>{: where?|, where?| is where?|: which side?|: left, middle, right or off stage?}",
        "{find|look for|show me} the <Object>{: where is it?|. where does it stand?|, and say where it is}",
    ),
    "Is this sound from the instrument in the video?": (
        "{does|did} {this|the|that} {sound|music} {come from|belong to|fit} the instrument [on]?",
        "is {this|the|that} {sound|music} {made by|from|of|that of} the instrument {[on]|that is seen"
        "|that i see"
        "|we see|which is shown}?",
        "is the instrument {[on]|that is seen} {making|the one that makes|what makes} {this|the} sound?",
        "[if] {this|the} {sound|music} {comes from|belongs to|is from|is made by} the instrument [on].",
        "is what {i hear|is heard|we hear|you hear} {from|made by|of} the instrument {[on]|that is seen"
        "|shown}?",
        "does the instrument {[on]|that is seen|shown} make {this|the|that} sound?",
        "{is it|would you say it is} the instrument {[on]|that is seen} that {we hear|i hear|is heard"
        "|sounds}?",
        "{sound and picture|what is heard and what is seen}: {the same instrument|one instrument}?",
    ),
    "Is the <Object> in the video playing?": (
        "is the <Object> {playing|being played|sounding|really playing|actually playing|also heard"
        "|making sound}?",
        "is the <Object> {[on]|that is seen|that i see|shown} {playing|being played|sounding|heard|played"
        "|audible}?",
        "{does|did} the <Object> {[on]|that is seen|shown} {play|sound|make a sound|make any sound}?",
        "is {somebody|anybody|someone} playing the <Object>{| [on]}?",
        "[if] the <Object> {[on]|that is seen|shown} {is playing|plays|is being played|makes a sound"
        "|is heard}.",
        "can the <Object> {[on]|that is seen} be heard{| too| as well}?",
        "<Object>{: playing or silent?|: is it playing?|, is it playing?|: does it play?}",
        "we see {a|the} <Object>: does it {play|sound|make a sound}?",
    ),
    "Is there a voiceover?": (
        "{does|did} {somebody|anybody|someone|a person|a voice} {speak|talk|say something"
        "|speak over it}[in]?",
        "is {somebody|anybody|someone|a person} {speaking|talking|saying something}[in]?",
        "is there {a voice|any voice|speech|talking|a speaker|somebody who speaks|a human voice"
        "|any voiceover}[in]?",
        "can you hear {a voice|somebody speak|speech|anybody talking|a person speak}[in]?",
        "do you hear {a voice|somebody speak|speech|anybody talking|a person speak}[in]?",
        "[if] {somebody speaks|there is a voice|a voice is heard|there is a voiceover|someone talks}[in].",
        "{voiceover|voice|speech}{?|, yes or no?|: is there any?| in the sound?}",
        "is {a voice|speech|a voiceover} {heard|to be heard|audible|part of it}[in]?",
    ),
    "Where is the first sounding instrument?": (
        "[where] is the {first instrument|instrument} that {sounds|plays|is heard|begins|starts"
        "|comes in} first?",
        "[where] is the first {instrument heard|one to sound|instrument to play|playing instrument"
        "|one heard}?",
        "{where|from where|from which side|from which place} {does|did} the {first sound"
        "|first music} come{| from}?",
        "[tell] [where] the {first sounding instrument|instrument that sounds first"
        "|instrument that starts} {is|stands}.",
        "the {first sounding instrument|instrument that begins|instrument that sounds first} {is"
        "|stands} where?",
        "[name] the {place|side} of the instrument that {begins|starts|sounds first|comes in first}.",
        "first {sounding instrument|instrument heard|sound}: where{?| is it?}",
        "[where] does the instrument {stand|play} that {begins|starts|comes in first|is heard first}?",
    ),
    "Where is the loudest instrument?": (
        "[where] is the {instrument|one} that {is loudest|plays loudest|sounds loudest|is the loudest}?",
        "[where] is the {loudest|loudest sounding|strongest|noisiest} {instrument|one}{|[in]}?",
        "{where|from where|from which side|from which place} {does|did} the loudest sound come{| from}?",
        "[tell] [where] the {loudest instrument|instrument that is loudest"
        "|instrument that plays loudest} {is|stands}.",
        "the {loudest instrument|instrument that is loudest} {is|stands} where?",
        "[name] the {place|side} of the {loudest instrument|instrument that is loudest}.",
        "loudest {instrument|sound|one}: where{?| is it?}",
        "[where] does the {loudest instrument|loudest one} {stand|play}?",
    ),
    "Is the first sound coming from the <LR> instrument?": (
        "{does|did} the first {sound|music} come from {[left]|the <LR>|the <LR> side}?",
        "is [left] the first {|one }{to sound|that sounds|heard|that plays|to play|that comes in"
        "|to be heard}?",
        "{does|did} [left] {sound|play|begin|start|come in} first?",
        "is the first {sound|music} {from|made by|that of} {[left]|the <LR>}?",
        "[if] {[left] {sounds|plays|starts|comes in} first|the first sound comes from [left]}.",
        "{first sound|first}: {the <LR> instrument|from the <LR>}?",
        "is it [left] that {begins|starts|sounds first|comes in first|is heard first}?",
        "{is it true that|would you say that} [left] {sounds|plays|starts} first?",
    ),
    "How many instruments are sounding in the video?": (
        "how many {of the instruments|instruments} {on the stage|on stage|that are seen"
        "|in view} {are sounding|sound"
        "|are playing|play|make a sound|are heard|are being played|can be heard}?",
        "of {the|all} instruments {on the stage|that are seen|in the picture"
        "|shown}, how many {are sounding|sound|play"
        "|are playing|make a sound|are heard}?",
        "{count|please count|can you count} the {sounding|playing} instruments {on the stage|in the video"
        "|in view}.",
        "[tell] how many {of the instruments|instruments} {on the stage|that are seen} {sound|play"
        "|are sounding}.",
        "{what is|give me|say} the number of {sounding|playing} instruments {on the stage|in the video"
        "|in view}.",
        "how many {sounding|playing} instruments {are there|do you see|are on the stage|are in the video}?",
        "{number of|how many} instruments {on the stage|in the video} that {sound|play|are sounding}{?"
        "|, please}",
    ),
    "How many instruments in the video did not sound from beginning to end?": (
        "how many {of the instruments|instruments} {on the stage|on stage|that are seen"
        "|in view} {are silent|never sound"
        "|do not play|make no sound|are not heard|are not being played|stay silent|did not sound"
        "|never play}?",
        "of {the|all} instruments {on the stage|that are seen|in the picture|shown}, how many {are silent"
        "|do not sound"
        "|do not play|never play|make no sound|are not heard|stay silent}?",
        "{count|please count|can you count} the {silent|mute} instruments {on the stage|in the video"
        "|in view}.",
        "[tell] how many {of the instruments|instruments} {on the stage|that are seen} {are silent"
        "|do not play}.",
        "{what is|give me|say} the number of silent instruments {on the stage|in the video|in view}.",
        "how many {silent|mute} instruments {are there|do you see|are on the stage|are in the video}?",
        "{number of|how many} instruments {on the stage|in the video} that {are silent|do not sound}{?"
        "|, please}",
        "from {beginning|start} to end, how many {of the instruments|instruments} in the video {are silent"
        "|make no sound}?",
    ),
    "Is the instrument on the <LR> louder than the instrument on the <RL>?": (
        "is [left] {|much |really }[louder] [right]?",
        "is [right] {|much |really }[softer] [left]?",
        "{does|did} [left] {play|sound} louder than [right]?",
        "{does|did} [right] {play|sound} {softer|quieter} than [left]?",
        "[if] [left] is [louder] [right].",
        "[if] [right] is [softer] [left].",
        "{compared with|beside|next to|against} [right], is [left] {louder|the louder one|stronger}?",
        "<LR> louder than <RL>?",
        "is the <LR> {side |}louder than the <RL>{ side|}?",
        "{is it true that|would you say that} [left] is louder than [right]?",
    ),
    "Does the instrument on the <LR> come in before the instrument on the <RL>?": (
        "{does|did} [left] [begin] [before] [right]?",
        "{does|did} [right] [begin] [after] [left]?",
        "is [left] {first heard|heard|earlier|playing} [before] [right]?",
        "[if] [left] [begins] [before] [right].",
        "[if] [right] [begins] [after] [left].",
        "[before] [right], {does|did} [left] [begin]?",
        "{do|did} we hear [left] [before] [right]?",
        "<LR> before <RL>?",
        "does the <LR> {come in|start|begin} before the <RL>?",
        "{is it true that|would you say that} [left] comes in [before] [right]?",
    ),
    "What is the first instrument that comes in?": (
        "[which] {|is heard |plays |starts |comes in |sounds |begins |is to be heard |do you hear "
        "|can be heard }first?",
        "[name] the first {|musical }instrument{| that comes in| that is heard| to sound| to play"
        "| that plays| heard}.",
        "[tell] {which|what} instrument {begins|starts|comes in first|plays first|is heard first"
        "|sounds first}.",
        "{which|what} is the first {|musical }instrument {heard|to be heard|to play|that plays|to come in"
        "|that sounds}?",
        "the {first instrument|instrument that begins|instrument that comes in first} is {what|which one}?",
        "first instrument{?|: which one?|, please?| to come in?| heard?}",
        "{which|what} instrument {begins|opens|starts}{|[in]}?",
        "{with which|by which} instrument does {it|the music|the clip|the video} {begin|start}?",
    ),
    "What is the last instrument that comes in?": (
        "[which] {|is heard |plays |starts |comes in |sounds |begins |joins |enters |do you hear }last?",
        "[name] the last {|musical }instrument{| that comes in| that begins| to sound| to come in"
        "| that starts| to join}.",
        "[tell] {which|what} instrument {begins last|starts last|comes in last|joins last|sets in last}.",
        "{which|what} is the last {|musical }instrument {to begin|to start|to play|that joins|to come in"
        "|that starts}?",
        "the {last instrument|instrument that begins last|instrument that comes in last} is {what"
        "|which one}?",
        "last instrument{?|: which one?|, please?| to come in?| to begin?}",
        "{which|what} instrument {comes in|begins|starts} {after all others|after all the others"
        "|as the last|at the end}?",
        "{which|what} instrument is the last one {to come in|to start|to join|that begins}?",
    ),
    "Which instrument makes sounds right before the <Object>?": (
        "[which] {comes in|begins|starts|sounds|plays|is heard|makes sounds|do you hear|sets in} {right"
        "|just|directly|} "
        "before the <Object>?",
        "{right|just|directly} before the <Object>, {which|what} instrument {comes in|begins|starts"
        "|is heard}?",
        "[name] the instrument {right|just|directly} before the <Object>.",
        "[name] the instrument that {comes in|begins|starts|is heard} {right|just"
        "|directly} before the <Object>.",
        "[tell] {which|what} instrument {comes in|begins|starts|is heard} {right|just|directly"
        "|} before the <Object>.",
        "{which|what} instrument {is followed by the <Object>|comes in ahead of the <Object>"
        "|does the <Object> follow"
        "|does the <Object> come after}{?| right away?}",
        "before the <Object>{: which instrument?|, which one?|, what comes in?}",
        "{after|behind} which instrument does the <Object> {come in|begin|start}?",
    ),
    "Which instrument makes sounds right after the <Object>?": (
        "[which] {comes in|begins|starts|sounds|plays|is heard|makes sounds|do you hear|sets in} {right"
        "|just|directly|} "
        "after the <Object>?",
        "{right|just|directly} after the <Object>, {which|what} instrument {comes in|begins|starts"
        "|is heard}?",
        "[name] the instrument {right|just|directly} after the <Object>.",
        "[name] the instrument that {comes in|begins|starts|is heard} {right|just"
        "|directly} after the <Object>.",
        "[tell] {which|what} instrument {comes in|begins|starts|is heard} {right|just|directly"
        "|} after the <Object>.",
        "{which|what} instrument {follows the <Object>|comes behind the <Object>"
        "|is next after the <Object>}?",
        "after the <Object>{: which instrument?|, which one?|, what comes in?}",
        "{before|ahead of} which instrument does the <Object> {come in|begin|start}?",
    ),
}


def sentence(
    template: str,
    rng: np.random.Generator,
    rules: Mapping[str, tuple[str, ...]] = GRAMMAR,
    parts: Mapping[str, str] = PARTS,
) -> str:
    """A sentence that asks what a template asks, with its placeholders; the template where it has no rules.

    Args:
        template: its own text.
        rng: source of all randomness.
        rules: for each template, by its own text.
        parts: that rules name.
    """
    known = rules.get(template)
    return template if known is None else built(known, rng, parts)


def built(rules: tuple[str, ...], rng: np.random.Generator, parts: Mapping[str, str] = PARTS) -> str:
    """What one of some rules makes."""
    text = rules[int(rng.integers(len(rules)))]
    while (found := _PART.search(text)) or (found := _CHOICE.search(text)):
        text = text[: found.start()] + _of(found, rng, parts) + text[found.end() :]
    return re.sub(" +", " ", text).strip(" ,")


def _of(found: re.Match[str], rng: np.random.Generator, parts: Mapping[str, str]) -> str:
    if found.re is _PART:
        return parts[found[1]]
    choices = found[1].split("|")
    return choices[int(rng.integers(len(choices)))]


def words() -> frozenset[str]:
    """Every word that a sentence may have, in lower case."""
    texts = [*PARTS.values(), *(rule for rules in GRAMMAR.values() for rule in rules)]
    bare = (re.sub(r"<[A-Za-z0-9]+>|\[[a-z]+\]", " ", text) for text in texts)
    return frozenset(word for text in bare for word in re.findall(r"[a-z']+", text))
