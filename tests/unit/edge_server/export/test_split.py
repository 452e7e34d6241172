"""Models that are split answer as they did: token by token, whatever family they are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from device_agent.bundle.bundle import load_bundle
from device_agent.transmitter import Transmitter
from edge_server.engine.ports import FeatureBlock, InvalidPromptError, Prompt, Said
from edge_server.errors import DatasetError, ExportError, ModelError
from edge_server.export.calibration import calibrate
from edge_server.export.split import Prepared, SplitOptions, prepare_split, split_model
from edge_server.model.split.reduction import REDUCERS
from edge_server.runtime.computing import Computing
from edge_server.runtime.folders import load, load_info
from edge_server.runtime.split_runner import serve_split
from tests.tiny_families import TINY, Conversation, Tiny, picture, sound

QUESTIONS = (
    "what is shown?",
    "how many people are there?",
    "Where is the red square?",
    "describe what happens",
    "is it quiet?",
)
SIZES = ((64, 64), (90, 130), (120, 200), (240, 320))
LENGTHS_S = (1.0, 0.6, 1.4)
PROMPTS = 20
TOKENS = 12


def asked(tiny: Tiny) -> list[tuple[str, Any]]:
    """Questions about pictures of several sizes or sounds of several lengths, every fifth about neither."""
    return [
        (QUESTIONS[number % len(QUESTIONS)] + "!" * (number // 5), _media(tiny, number))
        for number in range(PROMPTS)
    ]


def _media(tiny: Tiny, number: int) -> Any:
    if tiny.shows is None or number % 5 == 4:
        return None
    return sound(number, LENGTHS_S[number % 3]) if tiny.audio else picture(number, *SIZES[number % 4])


def said(model: Any, prompts: list[Prompt]) -> list[list[int]]:
    """What a runner answers, all in one batch."""
    for prompt in prompts:
        model.check(prompt)
    state, steps = model.prefill(prompts)
    answers: list[list[int]] = [[] for _ in prompts]
    for _ in range(TOKENS):
        for answer, step in zip(answers, steps, strict=True):
            answer.append(step.token_id)
        state, steps = model.decode(state)
    return [answer[: answer.index(model.eos_id)] if model.eos_id in answer else answer for answer in answers]


def prompt_of(prepared: Prepared, question: str, media: Any) -> Prompt:
    """A question as it arrives over a perfect channel, tokens as torch computes them."""
    ids = prepared.checkpoint.tokenizer.backend_tokenizer.encode(question, add_special_tokens=False).ids
    if media is None:
        return Prompt((), tuple(ids))
    (slot,) = prepared.graphs
    length = torch.tensor([prepared.config.token_lengths[-1]])
    raw = torch.from_numpy(media)
    with torch.inference_mode():
        x_TC = prepared.graphs[slot](raw[None] if slot == "visual" else raw, length).numpy()
    return Prompt((FeatureBlock("image" if slot == "visual" else "audio", x_TC, 40.0),), tuple(ids))


@pytest.fixture(scope="module", params=sorted(TINY))
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    torch.manual_seed(0)
    return TINY[request.param](tmp_path_factory.mktemp("checkpoint"))


def test_answers_as_its_own_class_does(tiny: Tiny) -> None:
    prepared = prepare_split(tiny.folder, SplitOptions(picture=tiny.picture))
    tokenizer = prepared.checkpoint.tokenizer.backend_tokenizer
    model = serve_split(prepared.config, tokenizer, prepared.language, "ab" * 32)
    prompts = [prompt_of(prepared, question, media) for question, media in asked(tiny)]
    expected = [tiny.answer(question, media, TOKENS) for question, media in asked(tiny)]
    # A model that says the same whatever it is shown would agree with anything.
    assert len({tuple(answer) for answer in expected}) > PROMPTS // 4
    assert said(model, prompts) == expected


def conversations(tiny: Tiny) -> list[Conversation]:
    """Several turns; pictures or sounds in several of them, and between texts."""

    def shown(number: int) -> tuple[Any, ...]:
        if tiny.shows is None:
            return ("it is a dog.",)
        return (sound(number, LENGTHS_S[number % 3]) if tiny.audio else picture(number, *SIZES[number % 4]),)

    return [
        [
            ("user", [*shown(1), "what is shown?"]),
            ("assistant", ["a red square, above the blue circle"]),
            ("user", ["where is it?"]),
        ],
        [
            ("system", ["say little."]),
            ("user", ["here is one:", *shown(2), "and another:", *shown(3)]),
            ("assistant", ["yes."]),
            ("user", [*shown(4), "is it like one of them?"]),
        ],
        [("user", ["is it quiet?"]), ("assistant", ["no."]), ("user", [*shown(5), "and now?"])],
    ]


def prompt_of_turns(prepared: Prepared, turns: Conversation, conversation: str = "") -> Prompt:
    """A conversation as it arrives over a perfect channel."""
    blocks: list[FeatureBlock] = []
    said = []
    for role, pieces in turns:
        made: list[tuple[int, ...] | int] = []
        for piece in pieces:
            if isinstance(piece, str):
                made.append(prompt_of(prepared, piece, None).question_ids)
            else:
                made.append(len(blocks))
                blocks += prompt_of(prepared, "?", piece).blocks
        said.append(Said(role, tuple(made)))
    last = said[-1].pieces[-1]
    assert not isinstance(last, int)
    return Prompt(tuple(blocks), last, turns=tuple(said), conversation=conversation)


def test_conversations_are_answered_as_its_own_class_does(tiny: Tiny) -> None:
    prepared = prepare_split(tiny.folder, SplitOptions(picture=tiny.picture))
    tokenizer = prepared.checkpoint.tokenizer.backend_tokenizer
    model = serve_split(prepared.config, tokenizer, prepared.language, "ab" * 32)
    asked = conversations(tiny)
    prompts = [prompt_of_turns(prepared, turns) for turns in asked]
    assert said(model, prompts) == [tiny.conversation(turns, TOKENS) for turns in asked]


@pytest.mark.parametrize("family", ["llava", "qwen2_vl"])
def test_the_next_turn_begins_where_the_last_one_ended(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = TINY[family](tmp_path)
    prepared = prepare_split(tiny.folder, SplitOptions(picture=tiny.picture))
    tokenizer = prepared.checkpoint.tokenizer.backend_tokenizer
    model: Any = serve_split(prepared.config, tokenizer, prepared.language, "ab" * 32, prefix_bytes=2**20)
    turns: Conversation = []
    for question in ("what is shown?", "where is it?", "how many are there?"):
        # What it answers is told by its tokens: random ones need not be those of their text.
        turns = [*turns, ("user", [picture(1), question] if not turns else [question])]
        prompt = prompt_of_turns(prepared, turns, "mine")
        before = model.prefixes.found
        state, steps = model.prefill([prompt_of_turns(prepared, turns), prompt])
        answers: list[list[int]] = [[], []]
        for _ in range(TOKENS):
            for answer, step in zip(answers, steps, strict=True):
                answer.append(step.token_id)
            state, steps = model.decode(state)
        model.keep(state, [])
        expected = tiny.conversation(turns, TOKENS)
        assert [answer[: len(expected)] for answer in answers] == [expected, expected]
        found = model.prefixes.found - before
        if len(turns) > 1:
            assert found > prepared.config.token_lengths[-1]
            assert found >= len(model.written(prompt_of_turns(prepared, turns[:-2])).ids) - 4
        else:
            assert found == 0
        turns = [*turns, ("assistant", ["a dog."])]
    assert len(model.prefixes) == 2
    # Nobody else finds what was read for this one.
    found = model.prefixes.found
    model.prefill([prompt_of_turns(prepared, turns[:-1], "another's")])
    assert model.prefixes.found == found


def test_turns_that_do_not_belong_to_what_is_shown_are_refused(folder: Path) -> None:
    model = load(folder / "model", Computing())
    block = FeatureBlock("image", np.zeros((16, 34), np.float32), 40.0)
    ids = (300, 301)
    for turns in ((Said("user", (ids,)),), (Said("user", (1, ids)),), (Said("user", (0, 0, ids)),)):
        with pytest.raises(InvalidPromptError, match="each of the 1 once"):
            model.check(Prompt((block,), ids, turns=turns))
    with pytest.raises(InvalidPromptError, match=r"turns\[0\]\[0\] is 2"):
        model.check(Prompt((), ids, turns=(Said("user", ((2,),)),)))
    with pytest.raises(InvalidPromptError, match="one of it is taken"):
        model.check(Prompt((block, block), ids))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    at = tmp_path_factory.mktemp("split")
    TINY["llava"](at / "checkpoint")
    split_model(at / "checkpoint", at / "model", SplitOptions(name="mine"))
    return at


def test_a_folder_answers_through_its_bundle(folder: Path) -> None:
    torch.manual_seed(0)
    tiny = TINY["llava"](folder / "again")
    model = load(folder / "model", Computing())
    transmitter = Transmitter(load_bundle(folder / "model" / "bundle"))
    prompts = []
    for question, media in asked(tiny):
        x_TC = None
        if media is not None:
            x_TC = transmitter.encode_visual(media[None], model.token_lengths[-1], is_image=True)
        blocks = () if x_TC is None else (FeatureBlock("image", x_TC, 40.0),)
        prompts.append(Prompt(blocks, tuple(transmitter.tokenize(question))))
    assert said(model, prompts) == [tiny.answer(question, media, TOKENS) for question, media in asked(tiny)]
    assert load_info(folder / "model").name == "mine"


def test_every_token_length_is_answered(folder: Path) -> None:
    model = load(folder / "model", Computing())
    transmitter = Transmitter(load_bundle(folder / "model" / "bundle"))
    ids = tuple(transmitter.tokenize("what is shown?"))
    positions = set()
    for length in model.token_lengths:
        x_TC = transmitter.encode_visual(picture(1)[None], length, is_image=True)
        positions.add(model.check(Prompt((FeatureBlock("image", x_TC, 10.0),), ids)) - length)
    assert len(positions) == 1


def test_what_is_refused_names_what_is_at_fault(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no_such"}')
    with pytest.raises(
        ModelError, match=r"model_type is 'no_such', which is not split here; there are: .*llava"
    ):
        split_model(tmp_path, tmp_path / "out")
    with pytest.raises(ExportError, match="reduce: 'magic'; there are: window, merge"):
        prepare_split(folder / "checkpoint", SplitOptions(reduce="magic"))
    with pytest.raises(ExportError, match=r"token_lengths: \(99,\); 1 to 16 allowed"):
        prepare_split(folder / "checkpoint", SplitOptions(token_lengths=(99,)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(ExportError, match="holds something that is no model"):
        split_model(folder / "checkpoint", tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"


def test_what_sending_less_costs_is_told_for_every_method_and_length(folder: Path) -> None:
    own = folder / "own"
    own.mkdir()
    for number in range(3):
        Image.fromarray(picture(number)).save(own / f"{number}.png")
    (own / "questions.txt").write_text("what is shown?\n\nwhere is it?\n")
    prepared = prepare_split(folder / "checkpoint")
    costs = calibrate(prepared, load_bundle(folder / "model" / "bundle"), own)
    told = {(cost.reduce, cost.token_length, cost.payload): cost for cost in costs}
    assert len(told) == 3 + 4 * len(REDUCERS) + 2 + 4 + 3
    assert told["none", 16, "int8 in blocks"].same_answers >= told["none", 16, "int4 in blocks"].same_answers
    assert told["pca 2", 16, "float32"].kilobytes == pytest.approx(16 * (2 + 2) * 4 / 1000)
    assert told["none", 16, "rvq 2 x 256"].kilobytes < told["none", 16, "int4 in blocks"].kilobytes
    assert told["none", 16, "float16"].same_answers == 1.0
    assert told["none", 16, "float16"].kilobytes == pytest.approx(16 * 34 * 2 / 1000)
    assert all(0.0 <= cost.same_answers <= cost.same_tokens <= 1.0 for cost in costs)
    # A random model's answers hang on everything that it is shown.
    assert told["random", 1, "float32"].same_answers < 1.0
    with pytest.raises(DatasetError, match="no_such cannot be read"):
        calibrate(prepared, load_bundle(folder / "model" / "bundle"), folder / "no_such")


@pytest.mark.benchmark
@pytest.mark.parametrize("family", sorted(name for name in TINY if name != "llava"))
def test_every_graph_gives_what_torch_gives(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tiny = TINY[family](tmp_path / "checkpoint")
    made = split_model(tiny.folder, tmp_path / "model", SplitOptions(picture=tiny.picture))
    assert made.parity.keys() == made.config.parts.keys()
    assert all(difference < 1e-3 for difference in made.parity.values())
