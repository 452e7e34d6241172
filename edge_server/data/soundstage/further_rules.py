"""Further rules of sentences for each template, which a model that knows the first ones learns from.

In the notation of :mod:`~edge_server.data.soundstage.phrasing_grammar`, whose parts they use beside their
own. They stand apart: words of the first grammar are tokens of the shipped tokenizer, and the recipe that
made it stays what it was. Of held-out sentences they may make some by chance;
:mod:`~edge_server.data.soundstage.further_wordings` leaves those out.
"""

from __future__ import annotations

from collections.abc import Mapping

#: Parts of sentences, beside those of the first grammar.
FURTHER_PARTS: Mapping[str, str] = {
    "so": "{, right?|, is it not?|, is that so?|: true?|. is this true?|, yes or no?|, correct?|: yes or "
    "no?"
    "|. do you agree?|?}",
    "truth": "{is it so that|can it be that|do you think that|is it right that|true or not:|check this:"
    "|do you agree that|is it the case that}",
    "person": "{i|we|you|one|somebody|people}",
    "sees": "{see|look at|find|notice|make out}",
    "hears": "{hear|listen to|make out|notice}",
    "stage": "{the stage|the picture|the video|the clip|this picture|this clip|the scene}",
    "music": "{the sound|the music|the clip|this sound|the recording|what is played}",
    "look": "{looking at [stage]|when you look at [stage]|if i look at [stage]|as far as one sees"
    "|from what is shown|in what you see|from the picture}",
    "listen": "{listening to [music]|when you listen to [music]|if i listen to [music]|as far as one hears"
    "|from what is heard|in what you hear|from the sound}",
    "ask": "{please say|i ask|i would like to know|answer me this:|we want to know|help me find out|show me"
    "|it would be good to know|my question is}",
    "kind": "{instrument|kind of instrument|one of the instruments|of the instruments|musical instrument}",
    "end": "{| at all| in it| now| here| in the end| on this stage| of them|, please| again}",
    "stands": "{stands|is|is placed|is standing|can be seen|is to be found|has its place}",
    "spot": "{place|side|part of the stage|spot|position}",
    "lrs": "{the <LR>|the <LR> side|the <LR> of the stage|the <LR> part|the <LR> hand side}",
}

#: For each template, by its own text.
FURTHER: Mapping[str, tuple[str, ...]] = {
    "How many musical instruments were heard throughout the video?": (
        "[listen], how many [ins] {are there|are heard|do you count|can be told apart|play|sound}?",
        "how many [ins] {does one hear|can one hear|do people hear|have you heard|were to be heard|reach "
        "the ear"
        "|can [person] hear|do [person] notice in the sound}[end]?",
        "[ask] {how many [ins] are heard|how many [ins] there are in the sound|the number of [ins] heard"
        "|how many [ins] [person] hear}.",
        "{the sound|the music|what i hear|what is heard} is {made by|from|of} how many [ins]?",
        "i hear [ins]{. how many?|: how many are they?|, but how many?|. what is their number?}",
        "[ins] in [music]: {how many|what number|count them|the count}{?|, please?}",
        "{add up|number} {the|all} [ins] {heard|that sound|in the sound|that are heard}.",
        "{heard|audible} [ins]{?|, how many?|: how many are there?|, in number?}",
        "how {large|great} is the number of [ins] {heard|to be heard|that one hears|in the sound}?",
    ),
    "Is there a <Object> sound?": (
        "a <Object> {is heard|is audible|can be heard|is in the sound|sounds|is to be heard}[so]",
        "[truth] a <Object> {is heard|is audible|can be heard|sounds}?",
        "[listen], {is there a <Object>|do you notice a <Object>|is a <Object> heard|does a <Object> sound}?",
        "{does|did|can|could} [person] {hear|notice by ear} {a|any|the} <Object>[end]?",
        "{does|did} [music] {have|contain} a <Object>?",
        "is the sound of a <Object> {there|heard|audible|in it|part of it|in the clip}?",
        "[ask] whether {a <Object> is heard|there is a <Object> in the sound|one hears a <Object>}.",
        "i {think i hear|believe that i hear|seem to hear} a <Object>[so]",
        "{of|among|in} {the sounds|all sounds|what is heard|what you hear}, is {there|any} {a <Object>"
        "|from a <Object>}?",
        "is {a <Object>|the <Object>} {one of the instruments|among the instruments} {heard|that are "
        "heard|you hear}?",
        "<Object> {heard|audible|in the sound}[so]",
    ),
    "Is the <Object1> louder than the <Object2>?": (
        "the <Object1> is [louder] the <Object2>[so]",
        "the <Object2> is [softer] the <Object1>[so]",
        "[truth] the <Object1> is [louder] the <Object2>?",
        "[truth] the <Object2> is [softer] the <Object1>?",
        "[listen], is the <Object1> [louder] the <Object2>?",
        "{which is right: |}is the <Object1> {the louder|louder} {of the two|one}, {beside|or less loud "
        "than|against} the <Object2>?",
        "[ask] whether the <Object1> is [louder] the <Object2>.",
        "{does|did} the <Object1> {make a louder sound than|sound stronger than|play more loud than} the "
        "<Object2>?",
        "is the sound of the <Object1> {louder|stronger|more loud} than {that of the <Object2>|the sound "
        "of the <Object2>|the <Object2>}?",
        "{do|can} [person] hear the <Object1> {louder|better|more loud} than the <Object2>?",
        "is {it|it rather} the <Object1> that is louder, {not|and not|rather than} the <Object2>?",
        "the <Object1> and the <Object2>: is the {first|former} {louder|the louder one}?",
        "loud as the <Object2> is, is the <Object1> louder{| still}?",
        "{over|above} the <Object2>, is the <Object1> the louder{| one}?",
    ),
    "Does the <Object1> come in before the <Object2>?": (
        "the <Object1> [begins] [before] the <Object2>[so]",
        "the <Object2> [begins] [after] the <Object1>[so]",
        "[truth] the <Object1> [begins] [before] the <Object2>?",
        "[truth] the <Object2> [begins] [after] the <Object1>?",
        "[listen], {does|did} the <Object1> [begin] [before] the <Object2>?",
        "[ask] whether the <Object1> [begins] [before] the <Object2>.",
        "{do|did|can} [person] hear the <Object1> {sooner|earlier} than the <Object2>?",
        "is the <Object1> {the first|first|the earlier} of the two, {and then the <Object2>|the "
        "<Object2> the second"
        "|before the <Object2>}?",
        "{is|was} it first the <Object1> and {then|later|after that} the <Object2>?",
        "is the <Object2> {second|later|the later one}, {after|and first} the <Object1>?",
        "when the <Object2> [begins], {is|was} the <Object1> {heard before|there before|playing before it}?",
        "the <Object1>, then the <Object2>: {is that the order|in this order|is this right|yes or no}?",
        "{does|did} the <Object2> {have to |}{follow|come behind} the <Object1>?",
        "{until|till} the <Object1> [begins], {does|is} the <Object2> {wait|silent}?",
    ),
    "How many types of musical instruments appeared in the entire video?": (
        "[look], how many [ins] {are there|are seen|do you count|stand there|are shown|appear}?",
        "how many [ins] {does one see|can one see|have you seen|were to be seen|meet the eye|can "
        "[person] see"
        "|do [person] notice in the picture|are in the picture|do [person] find on the stage}[end]?",
        "[ask] {how many [ins] are seen|how many [ins] there are on the stage|the number of [ins] seen"
        "|how many [ins] [person] see}.",
        "i see [ins]{. how many?|: how many are they?|, but how many?|. what is their number?}",
        "[ins] {on the stage|in the picture}: {how many|what number|count them|the count}{?|, please?}",
        "{add up|number} {the|all} [ins] {seen|that stand there|in the picture|that are shown|on the stage}.",
        "{seen|visible} [ins]{?|, how many?|: how many are there?|, in number?}",
        "how {large|great} is the number of [ins] {seen|to be seen|that one sees|on the stage}?",
        "{the stage|the picture} {has|holds|shows} how many [ins]?",
    ),
    "Is there a <Object> in the entire video?": (
        "a <Object> {is seen|is visible|can be seen|is in the picture|is on the stage|stands there|is "
        "shown}[so]",
        "[truth] a <Object> {is seen|is visible|can be seen|is on the stage|is shown}?",
        "[look], {is there a <Object>|do you notice a <Object>|is a <Object> seen|does a <Object> stand "
        "there}?",
        "{does|did|can|could} [person] {see|notice by eye|look at} {a|any|the} <Object>[end]?",
        "{does|did} [stage] {have|contain|hold} a <Object>{| to be seen|, as one sees}?",
        "is {a|the|any} <Object> {standing there|part of the picture|there to be seen|on view|placed on "
        "the stage}?",
        "[ask] whether {a <Object> is seen|there is a <Object> on the stage|one sees a <Object>}.",
        "i {think i see|believe that i see|seem to see} a <Object>[so]",
        "{of|among} {all that is seen|what is shown|what you see|what stands there}, is there a <Object>?",
        "is {a <Object>|the <Object>} {one of the instruments|among the instruments} {seen|that are seen"
        "|on the stage}?",
        "<Object> {seen|visible|on stage|in the picture}[so]",
        "is somebody {standing there |on the stage |}with a <Object> {to be seen|in view|in the picture}?",
    ),
    "What kind of instrument is on the <LR> of the stage?": (
        "[look], {which|what} [kind] {is|stands|do you see} {on|at|to} [lrs]?",
        "[ask] {which|what} [kind] {is|stands} {on|at|to} [lrs].",
        "{on|at|to} [lrs]{: which instrument?| there is which instrument?|, what instrument?|, the "
        "instrument is what?"
        "|: what is it?|, what is shown?}",
        "{which|what} [kind] {has its place|is placed|is standing|is to be seen|would i find} {on|at|to} "
        "[lrs]?",
        "{see|look at|look to} [lrs]{: which instrument is it?|. what is there?|. which one is that?}",
        "[lrs] {has|shows|holds} {which|what} [kind]?",
        "the name of {what|the instrument that} {stands|is|i see} {on|at|to} [lrs]{?|, please|, please?}",
        "{an instrument|something|one instrument} {is|stands} {on|at|to} [lrs]{. which?|: which one?|. "
        "what is it?|, but which?}",
        "{who looks to [lrs]|whoever looks to [lrs]} {sees|finds} {which|what} [kind]?",
        "{what|which} is the [kind] {on|at|to} [lrs]?",
        "what {do|can} [person] see {on|at|to} [lrs]?",
    ),
    "Where is the <Object>?": (
        "[look], where {is|stands|do you see} the <Object>?",
        "[ask] {where the <Object> [stands]|on which side the <Object> is|the [spot] of the <Object>}.",
        "{which|what} [spot] {is the <Object> at|has the <Object>|does the <Object> have|is that of the "
        "<Object>"
        "|belongs to the <Object>}?",
        "the <Object>{. where is it?|: which [spot]?|, where does it stand?|: left, right or middle?|, "
        "where to look?}",
        "{to|at|on} {which|what} [spot] {is|stands|do we see|should i look for} the <Object>?",
        "is the <Object> {on the left, on the right or in the middle|left, right, or in the middle|left "
        "or right or where}?",
        "{i look for|i am looking for|we look for|i do not see} the <Object>{. where is it?|: where?|. "
        "which side?}",
        "where {would one|should i|do people|to} {look for|see|find} the <Object>?",
        "where {has|does} the <Object> {its place|stand on the stage|have its place}?",
        "{what|which} is the [spot] {of|that has} the <Object>?",
        "where {exactly|now|then|on earth} is the <Object>?",
    ),
    "Is this sound from the instrument in the video?": (
        "{this|the|that} sound {is from|comes from|is made by|belongs to} the instrument {[on]|that is "
        "seen}[so]",
        "[truth] {this|the|that} sound {is from|comes from|is made by|belongs to} the instrument {[on]"
        "|that is seen}?",
        "[ask] whether {this|the} sound is {from|made by} the instrument {[on]|that is seen|shown}.",
        "{do|does} {sound and picture|the sound and the picture|the instrument and the sound} {fit|fit "
        "one another"
        "|belong to one another|show the same instrument}?",
        "is the instrument {that we see|[on]|shown} {also |}the one {that|which} {we hear|is heard|i "
        "hear|sounds}?",
        "is {what is heard|what i hear|what sounds} {also what is seen|what i see too|the instrument "
        "[on]|the same as what is seen}?",
        "{from|by} the instrument {[on]|that is seen}: is {this|the} sound {from|made by} it?",
        "{could|can|would} {this|the|that} sound {be|come} from the instrument {[on]|that is seen|shown}?",
        "i {see|look at} an instrument{. is it what i hear?|: does it make the sound?|. does the sound "
        "come from it?}",
        "i hear {a sound|an instrument}{. is it from what i see?|: is it the one on the stage?|. is it "
        "the instrument in the video?}",
    ),
    "Is the <Object> in the video playing?": (
        "the <Object> {[on]|that is seen|shown} {plays|is playing|makes a sound|is being played|is "
        "heard}[so]",
        "[truth] the <Object> {[on]|that is seen|shown} {plays|is playing|makes a sound|is heard}?",
        "[ask] whether the <Object> {[on]|that is seen} {plays|is playing|is silent or plays}.",
        "{a|the} <Object> is {seen|shown|on the stage}{. does it play?|: is it heard?|. is it playing?|, "
        "but does it play?"
        "|. does it sound?}",
        "is the <Object> {[on] |}{one that plays|among those playing|one of those that play|in use|at work"
        "|not silent}?",
        "{do|can|did} [person] {hear|notice} the <Object> {[on]|that is seen|play} {too|as well|also|}?",
        "{does|did} {sound|music|a sound|any sound} come from the <Object> {[on]|that is seen|}?",
        "{is|was} {music|a sound|any sound} {made|played} {by|on|with} the <Object>{| [on]}?",
        "[look], is the <Object> {playing|played|being played|sounding}?",
        "who plays the <Object> {[on]|}: {is it heard|does it sound|anybody}?",
        "seen as it is, {does|is} the <Object> {play|heard|playing}?",
    ),
    "Is there a voiceover?": (
        "{somebody|someone|a person|a voice} {speaks|is speaking|talks|is heard|says something}[so]",
        "[truth] {somebody|someone|a person|a voice} {speaks|is speaking|talks|is heard}?",
        "[listen], {is there a voice|does somebody speak|is anybody talking|is there speech}?",
        "{does|did|can|could} [person] hear {words|a voice|a human voice|somebody talking|speech|a "
        "speaker}[end]?",
        "[ask] whether {somebody speaks|there is a voice|one hears a voice|anybody talks}.",
        "{is|was} {anything|something|a word} {said|spoken}[end]?",
        "is {a human|a person|a speaker|somebody's voice} {heard|audible|to be heard|in the sound}?",
        "{beside|over|with|next to} the {music|instruments}, {is there a voice|does somebody speak|is a "
        "voice heard}?",
        "{any|a} {voice|speech|speaker|talking|voiceover}[so]",
        "{does|did} [music] {have|contain} {a voice|speech|a voiceover|a speaker}?",
        "is it {only|just} music, or {does somebody speak|is there a voice too}: {a voice|is there one}?",
    ),
    "Where is the first sounding instrument?": (
        "[listen], where is {the first instrument|what sounds first|the instrument that begins}?",
        "[ask] {where the first instrument [stands]|the [spot] of the instrument that sounds first"
        "|where the first sound comes from}.",
        "{which|what} [spot] has the instrument that {sounds|plays|begins|starts|is heard} first?",
        "{to|at|on} {which|what} [spot] {is|stands} {the first instrument|what sounds first|the first "
        "one to play}?",
        "the instrument that {begins|is first|sounds first|we hear first}{. where is it?|: which side?|, "
        "where does it stand?"
        "|: left, right or middle?}",
        "the first sound{. where is it from?|: from where?|, from which side?|, where does it come from?}",
        "is the {first sounding|first} instrument {on the left, on the right or in the middle|left, "
        "right, or in the middle}?",
        "{an|some|one} instrument {begins|plays first|is heard first}{: where?|. where is it?|. on which "
        "side?}",
        "where {does|did} {it|the music|the sound} {begin|start}, {on which side|at which place|left or "
        "right}?",
        "where {should|do|would} {i|we|one} look for the {first sound|instrument that begins|first one "
        "to sound}?",
        "{what|which} is the [spot] of {what is heard first|the first to sound|the first sounding one}?",
    ),
    "Where is the loudest instrument?": (
        "[listen], where is {the loudest|what is loudest|the instrument that plays loudest}?",
        "[ask] {where the loudest instrument [stands]|the [spot] of the loudest instrument|where the "
        "loudest sound comes from}.",
        "{which|what} [spot] has the {loudest instrument|instrument that is loudest|loudest sound}?",
        "{to|at|on} {which|what} [spot] {is|stands} {the loudest instrument|what is loudest|the loudest "
        "of all|the loudest of them}?",
        "{the loudest|the loudest of all|the loudest of them|the instrument that is loudest}{. where is "
        "it?|: which side?"
        "|, where does it stand?|: left, right or middle?}",
        "the loudest sound{. where is it from?|: from where?|, from which side?|, where does it come from?}",
        "is the loudest {instrument|one} {on the left, on the right or in the middle|left, right, or in "
        "the middle}?",
        "one instrument is {the loudest|louder than all others|louder than the others}{: where?|. where "
        "is it?|. on which side?}",
        "where is it {loudest|the loudest|most loud}?",
        "where {should|do|would} {i|we|one} look for the loudest {sound|instrument|one}?",
        "{what|which} is the [spot] of {what is loudest|the loudest|the loudest one}?",
        "{of|among} all instruments, where is the {loudest|loudest one}?",
    ),
    "Is the first sound coming from the <LR> instrument?": (
        "the first sound {is from|comes from|is made by} [left][so]",
        "[left] {sounds|plays|starts|comes in|is heard} first[so]",
        "[truth] {[left] {sounds|plays|starts|comes in} first|the first sound comes from [left]}?",
        "[listen], {does [left] sound first|is [left] the first to play|is the first sound from [left]}?",
        "[ask] whether {[left] {sounds|plays|starts} first|the first sound is from [left]}.",
        "{is|was} {the first|the first sounding} instrument {on|at|to} [lrs]?",
        "is {what is heard first|what begins|the one that begins|the first instrument|whatever sounds "
        "first} {on|at|to} [lrs]?",
        "{do|did|can} [person] hear [left] first{| of all}?",
        "{on|at} [lrs], is {that|there} {the first to sound|the first instrument|where the first sound "
        "comes from|what begins}?",
        "{first of all|to begin with|first|at the start}, {does|did} [left] {sound|play|come in}?",
        "is {the beginning|the start|the first sound} {made by|for|with} [left]?",
        "{before all others|before the others|before any other}, {does|did} [left] {sound|play|come in"
        "|start}?",
    ),
    "How many instruments are sounding in the video?": (
        "[look], how many of {the|these} instruments {play|sound|are playing|are heard|make a sound}?",
        "how many {of the|} instruments {that are seen|that stand there|shown|on the stage|that one "
        "sees} {can [person] hear"
        "|are not silent|are heard as well|really play|are heard too}?",
        "[ask] how many {of the instruments |instruments }{on the stage|that are seen} {play|sound|are "
        "heard|make a sound}.",
        "{some|the|there are} instruments {are seen|stand there|on the stage}{. how many play?|: how "
        "many sound?|. how many are heard?}",
        "{seen and heard|both seen and heard|playing on the stage}: how many instruments{?| are there?}",
        "how many instruments are {both |}seen and heard{?| in the clip?| in the video?}",
        "{add up|number|count} {all|the} instruments {on the stage|that are seen} {that|which} {play"
        "|sound|are playing}.",
        "{on the stage|in the video|in the picture}, how many instruments {play|sound|are playing|are "
        "sounding|make a sound}?",
        "{from|of} what is seen, how many {instruments |}{play|sound|are heard|are playing}?",
        "{playing|sounding} instruments {on the stage|in the video|in view}{: how many?|, how many?|?}",
    ),
    "How many instruments in the video did not sound from beginning to end?": (
        "[look], how many of {the|these} instruments {do not play|are silent|are not heard|make no sound"
        "|never sound}?",
        "how many {of the|} instruments {that are seen|that stand there|shown|on the stage|that one "
        "sees} {can [person] not hear"
        "|are silent|are not heard|do not really play|say nothing}?",
        "[ask] how many {of the instruments |instruments }{on the stage|that are seen} {do not play|are "
        "silent|are not heard|make no sound}.",
        "{some|the|there are} instruments {are seen|stand there|on the stage}{. how many are silent?|: "
        "how many do not sound?"
        "|. how many are not heard?}",
        "{seen but not heard|silent on the stage|not playing on the stage}: how many instruments{?| are "
        "there?}",
        "how many instruments are seen but {not heard|never heard|silent}{?| in the clip?| in the video?}",
        "{add up|number|count} {all|the} instruments {on the stage|that are seen} {that|which} {do not "
        "play|are silent|never sound}.",
        "{on the stage|in the video|in the picture}, how many instruments {do not play|are silent|make "
        "no sound|never sound}?",
        "{from|of} what is seen, how many {instruments |}{do not play|are silent|are not heard}?",
        "{silent|mute} instruments {on the stage|in the video|in view}{: how many?|, how many?|?}",
        "how many instruments {on the stage|in the video} {stay|are} {without sound|without a sound"
        "|quiet from start to end}?",
    ),
    "Is the instrument on the <LR> louder than the instrument on the <RL>?": (
        "[left] is [louder] [right][so]",
        "[right] is [softer] [left][so]",
        "[truth] [left] is [louder] [right]?",
        "[truth] [right] is [softer] [left]?",
        "[listen], is [left] [louder] [right]?",
        "[ask] whether [left] is [louder] [right].",
        "{does|did} [left] {make a louder sound than|sound stronger than|play more loud than} [right]?",
        "is the sound {on|from|of} the <LR> {louder|stronger|more loud} than {that|the sound} {on|from"
        "|of} the <RL>?",
        "{do|can} [person] hear [left] {louder|better|more loud} than [right]?",
        "is it {louder|more loud} {on|at|to} the <LR> than {on|at|to} the <RL>?",
        "is {it|it rather} [left] that is louder, {not|and not|rather than} [right]?",
        "the <LR> and the <RL>: is the {first|<LR>} {louder|the louder one}?",
        "{of the two|between the two}, <LR> and <RL>, is the <LR> one {louder|the louder}?",
        "{over|above} [right], is [left] the louder{| one}?",
    ),
    "Does the instrument on the <LR> come in before the instrument on the <RL>?": (
        "[left] [begins] [before] [right][so]",
        "[right] [begins] [after] [left][so]",
        "[truth] [left] [begins] [before] [right]?",
        "[truth] [right] [begins] [after] [left]?",
        "[listen], {does|did} [left] [begin] [before] [right]?",
        "[ask] whether [left] [begins] [before] [right].",
        "{do|did|can} [person] hear [left] {sooner|earlier} than [right]?",
        "is [left] {the first|first|the earlier} of the two, {and then [right]|before [right]}?",
        "{is|was} it first [left] and {then|later|after that} [right]?",
        "{first|is it first} the <LR>, then the <RL>{?|: is that the order?|, in this order?}",
        "when [right] [begins], {is|was} [left] {heard before|there before|playing before it}?",
        "{does|did} [right] {follow|come behind} [left]?",
        "is the <LR> one {earlier|sooner|heard earlier|first} {than|against} the <RL> one?",
        "{of the two|between the two}, <LR> and <RL>, does the <LR> one [begin] first?",
    ),
    "What is the first instrument that comes in?": (
        "[listen], {which|what} [kind] {is first|is heard first|begins|comes in first|do you hear first}?",
        "[ask] {which|what} [kind] {is first|begins|comes in first|is heard first|plays first}.",
        "{which|what} [kind] {do|did|can} [person] hear first{| of all}?",
        "the first {instrument|one|of the instruments} {to come in|that begins|heard|to play}{: which?|. "
        "what is it?|, what was it?"
        "|, its name?}",
        "{who|what} {begins|starts|comes in first|is first|plays first}{?|: which instrument?|, of the "
        "instruments?}",
        "{it|the music|the sound|the clip} {begins|starts} with {which|what} [kind]?",
        "{first of all|at first|to begin with|at the start|in the beginning}, {which|what} [kind] {is "
        "heard|sounds|plays|comes in}?",
        "{an|some|one} instrument {begins|plays first|is heard first}{: which?|. which one is it?|. what "
        "is it?}",
        "before {all others|the others|any other}, {which|what} [kind] {is heard|sounds|plays|comes in}?",
        "the name of {the first instrument|what is heard first|the one that begins}{?|, please|, please?}",
        "{which|what} [kind] {opens|leads|is at the beginning of} {the music|the clip|it}?",
    ),
    "What is the last instrument that comes in?": (
        "[listen], {which|what} [kind] {is last|comes in last|begins last|joins last|starts last}?",
        "[ask] {which|what} [kind] {is last|comes in last|begins last|joins last}.",
        "{which|what} [kind] {do|did|can} [person] hear {come in|begin|start|join} last{| of all}?",
        "the last {instrument|one|of the instruments} {to come in|that begins|to start|that joins}{: "
        "which?|. what is it?"
        "|, what was it?|, its name?}",
        "{who|what} {comes in last|begins last|is last|starts last|joins last}{?|: which instrument?|, "
        "of the instruments?}",
        "{last of all|at last|in the end}, {which|what} [kind] {comes in|begins|starts|joins}?",
        "{an|some|one} instrument {begins last|comes in last|is the last}{: which?|. which one is it?|. "
        "what is it?}",
        "{after|behind} {all others|the others|every other}, {which|what} [kind] {comes in|begins|starts"
        "|joins}?",
        "the name of {the last instrument|what begins last|the one that comes in last}{?|, please|, please?}",
        "{which|what} [kind] is the latest {to come in|to begin|to start|one}?",
        "{which|what} [kind] {waits longest|is silent longest} before it {comes in|begins|starts}?",
    ),
    "Which instrument makes sounds right before the <Object>?": (
        "[listen], {which|what} [kind] {comes in|begins|starts|is heard} {right|just|directly} before "
        "the <Object>?",
        "[ask] {which|what} [kind] {comes in|begins|starts|is heard} {right|just|directly} before the "
        "<Object>.",
        "{which|what} [kind] {do|did|can} [person] hear {start |begin |come in |}{right|just|directly} "
        "before the <Object>{| does}?",
        "the instrument {right|just|directly} before the <Object>{: which?|. what is it?|, what was it?"
        "|, its name?| is which?}",
        "{who|what} {begins|starts|comes in|sounds|plays} {right|just|directly} before the <Object>?",
        "{then comes the <Object>|the <Object> comes in}: {which|what} [kind] {came|was} {right|just"
        "|directly} before{| it}?",
        "{when the <Object> [begins]|as the <Object> [begins]}, {which|what} [kind] {came in|began"
        "|started} {right|just|directly} before{| it}?",
        "{which|what} [kind] {does the <Object> follow|has the <Object> behind it|makes way for the "
        "<Object>|leads to the <Object>}?",
        "the <Object> {comes in|begins|starts} {right|just|directly} after {which|what} [kind]?",
        "the <Object> {follows|comes after|comes behind} {which|what} [kind]?",
        "the name of {the instrument|what comes in|the one} {right|just|directly} before the <Object>{?"
        "|, please|, please?}",
        "{one|the one} {before|ahead of} the <Object>{: which instrument?|, which is it?|: what is it?}",
    ),
    "Which instrument makes sounds right after the <Object>?": (
        "[listen], {which|what} [kind] {comes in|begins|starts|is heard} {right|just|directly} after the "
        "<Object>?",
        "[ask] {which|what} [kind] {comes in|begins|starts|is heard} {right|just|directly} after the "
        "<Object>.",
        "{which|what} [kind] {do|did|can} [person] hear {start |begin |come in |}{right|just|directly} "
        "after the <Object>{| does}?",
        "the instrument {right|just|directly} after the <Object>{: which?|. what is it?|, what was it?|, "
        "its name?| is which?}",
        "{who|what} {begins|starts|comes in|sounds|plays} {right|just|directly} after the <Object>?",
        "{first comes the <Object>|the <Object> comes in}: {which|what} [kind] {comes|is} {next|right "
        "after|just after}{| it}?",
        "{when the <Object> has begun|once the <Object> plays|once the <Object> is heard}, {which|what} "
        "[kind] {comes in|begins|starts} {next|right after|just after}{| it}?",
        "{which|what} [kind] {follows the <Object>|has the <Object> before it|is led in by the <Object>"
        "|is next to come in after the <Object>}?",
        "the <Object> {comes in|begins|starts} {right|just|directly} before {which|what} [kind]?",
        "the <Object> {is followed by|comes before|comes ahead of} {which|what} [kind]?",
        "the name of {the instrument|what comes in|the one} {right|just|directly} after the <Object>{?|, "
        "please|, please?}",
        "{one|the one} {after|behind} the <Object>{: which instrument?|, which is it?|: what is it?}",
    ),
}

#: What may stand before a question.
BEFORE: tuple[str, ...] = (
    "{hi|hello|hey|good morning|good evening|welcome}{| there| again| everybody| model| assistant}{,|!|.|:}",
    "{a|one|my|the next|another|the first|a small|a short} {question|task|request}{:|.| about the clip:| "
    "for you:| to you,|}",
    "{ok|well|so|now|and|but|then|right|fine|good}{| now| then| so}{,|:|.| -|}",
    "{please|could you please|would you please|can you} {answer|help|look|listen|say}{:|.| me:| and say:|}",
    "{here is|this is|i have|you get|look at|listen to|i send you} {a|the|my|this} {clip|video|film"
    "|picture|recording|question}"
    "{.|:|,| of a stage.| of a concert.}",
    "{user|me|person|teacher|student|visitor|a friend}{:|>| -| asks:| says:| wants to know:}",
    "{sorry|thanks|thank you|wow|hm|oh|ah|yes}{| for that| again| for your help}{,|!|.|...}",
    "{i|we} {wonder|ask|want to know|like to ask|have to ask}{:|,|.| this:|}",
    "{after|before|while} {watching|hearing|seeing} {the|this} {clip|video}{,|:}",
    "{task|input|prompt|text|number {1|2|3|4|5|6|7|8|9}|{1|2|3|4|5|6|7|8|9}}{:|.|)| -|}",
)

#: What may stand behind a question.
BEHIND: tuple[str, ...] = (
    "{please|thanks|thank you|many thanks to you|thx|cheers|bye}{| again| a lot| in advance| very much}{"
    "|.|!}",
    "{answer|reply|say it|write|speak}{| to me| please}{| in| with| using} {one|a single|1|one or two"
    "|few|two} {word|words}{|.|!|, please.}",
    "{give|write|say|tell} {me |us |}{only|just|simply|} {the answer|a word|one word|the result|what it "
    "is}{|.|!| please.}",
    "{no|without|do not give|leave out|not a} {long |more |}{talk|text|sentence|sentences|reasons"
    "|details|words}{|.|!}",
    "{be|stay|keep it} {short|quick|exact|honest|simple|clear}{|.|!| please.}",
    "{i|we} {am in a hurry|need it|ask for a friend|want to learn|cannot see it|do not know|have to "
    "know}{|.|!| soon.}",
    "{answer|reply|result|output|response|a}{:|=|>| is:|?}",
    "{what|which} {is it|is right|would you say|do you say}{?|, please?}",
    "{look|listen|think|watch}{| well| again| closely}{| and answer}{|.|!}",
    "{yes or no|left or right|which one|how many|one word}{?|, please.|.}",
)

#: What a conversation may begin with.
SYSTEMS: tuple[str, ...] = (
    "you are {a|the|our} {|good |small |useful |polite |exact |quick }{assistant|model|program|expert"
    "|teacher|guide|machine}"
    "{| for video| for music| for questions| of a concert hall| that sees and hears}. {|answer {in one "
    "word|shortly|the user|all questions}.}",
    "{answer|reply|respond} {|only |always }{in|with} {one word|few words|a word or two|english|small "
    "letters}.{| nothing more.| be right.}",
    "{the user|a person|somebody} {asks|shows|sends} {questions|a clip|you something}. {answer|help"
    "|reply}{| well| shortly| at once}.",
    "{rules|instructions|task|system}: {be short|be exact|answer|never guess|say what you see and hear}. "
    "{|{be polite|no lists|no code|use plain words}.}",
    "{today|now} it is {monday|friday|morning|late|summer}. {you|the model} {answer|answers} {questions"
    "|people}{| about clips| about a stage}.",
    "{be|stay|you are} {friendly|honest|brief|calm|careful}{| and exact| and quick| at all times}. {"
    "|{look|listen} {well|closely} before you answer.}",
)
