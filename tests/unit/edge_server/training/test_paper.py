"""The recipe ``paper`` on tiny checkpoints: from the authors' folders to an answer by agent and server."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import Qwen2ForCausalLM
from typer.testing import CliRunner, Result

from device_agent.agent import Agent
from device_agent.bundle.bundle import load_bundle
from device_agent.channel import ChannelConfig
from device_agent.config import DeviceSettings
from device_agent.media.loading import clip_from_file
from device_agent.transmitter import Transmitter
from device_agent.uplink.uplink import Uplink
from edge_server.cli import build
from edge_server.data.authors_writer import write_authors_layout
from edge_server.data.soundstage.clip_file import write_mp4
from edge_server.data.soundstage.dataset import sample_scenes
from edge_server.engine.ports import FeatureBlock, Prompt
from edge_server.errors import ConfigurationError, DatasetError
from edge_server.evaluation.accuracy import Evaluator, Setting, answer_all
from edge_server.evaluation.held_out import open_data
from edge_server.export.bundle import PARITY_TOLERANCE, export_bundle
from edge_server.model import tokenizer as tk
from edge_server.model.link import Link, Parts
from edge_server.model.published.foundation import foundation_from
from edge_server.runtime.model_runner import ServedLink
from edge_server.server.app import Server
from edge_server.server.config import ServerConfig
from edge_server.server.loading import load_served
from edge_server.training.alignment import Alignment
from edge_server.training.card import commit_of
from edge_server.training.clips import EncodedClips, encode_clips
from edge_server.training.finetune import Finetune
from edge_server.training.loop import Schedule
from edge_server.training.paper import Checkpoints, PaperRecipe, PaperRun, paper
from edge_server.training.paper_needs import Batch, Needs, choose_device, needs_of
from edge_server.training.recorded import AskedSplit, CaptionedSplit
from tests.benchmarks import paper_scale
from tests.benchmarks.paper_scale import paper_sizes
from tests.tiny_checkpoints import write_checkpoints

CLIPS = 4
LENGTHS = (4, 8, 16)


def tiny() -> PaperRecipe:
    """The recipe, with fewer tokens and for a few steps."""
    recipe = paper()
    short = Schedule(4, 1e-3, warmup_steps=1, log_every=1, checkpoint_every=2)
    uplink = replace(recipe.alignment.uplink, token_lengths=tuple((n, 1 / 3) for n in LENGTHS))
    return replace(
        recipe,
        token_lengths=LENGTHS,
        channel_dim=8,
        alignment=replace(recipe.alignment, schedule=short, uplink=uplink, batch_size=3),
        finetune=replace(recipe.finetune, schedule=short, uplink=uplink, batch_size=3),
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recorded")
    write_authors_layout(folder, "train", CLIPS, seed=2)
    return folder


@pytest.fixture(scope="module")
def run(checkpoints: Checkpoints, data: Path, tmp_path_factory: pytest.TempPathFactory) -> PaperRun:
    """A run that has ended."""
    run = PaperRun(tiny(), 1, tmp_path_factory.mktemp("runs") / "paper", checkpoints, data)
    run.all()
    return run


@pytest.fixture(scope="module")
def model(run: PaperRun) -> Path:
    """Its model, with a bundle."""
    link = Link.load(run.model)
    exported = export_bundle(link, run.model / "bundle", commit_of(run.model))
    assert exported.parity.keys() == {"visual", "audio", "text"}
    assert max(exported.parity.values()) <= PARITY_TOLERANCE
    return run.model


@pytest.fixture
def encoded(
    run: PaperRun, tmp_path: Path
) -> tuple[Link, EncodedClips[CaptionedSplit], EncodedClips[AskedSplit]]:
    link = run.untrained_link(torch.device("cpu"))
    captioned, asked = run.splits(link)
    return (
        link,
        encode_clips(link, captioned, tmp_path / "captioned", ""),
        encode_clips(link, asked, tmp_path / "asked", ""),
    )


def test_a_run_trains_both_stages_and_says_what_it_trained_on(run: PaperRun) -> None:
    for stage in ("alignment", "finetune"):
        assert json.loads((run.directory / stage / "done.json").read_text())["schedule"]["steps"] == 4
        lines = (run.directory / stage / "log.jsonl").read_text().splitlines()
        assert all(np.isfinite(json.loads(line)["loss"]) for line in lines)
    record = json.loads((run.model / "training.json").read_text())
    assert [part["bad"] for part in record["data"]] == [{}, {}]
    assert record["data"][0]["rows"] == CLIPS
    assert set(record["stages"]) == {"alignment", "finetune"}
    assert record["command"] == (
        "edge-server train paper --seed 1 --foundation qwen2 --visual vivit --audio ast "
        f"--data {run.data.name}"
    )
    assert record["command"] in (run.model / "README.md").read_text()


def test_of_the_foundation_only_lora_on_q_and_v_has_changed(run: PaperRun, checkpoints: Checkpoints) -> None:
    link = Link.load(run.model)
    names = link.lora_parameters()
    assert {name.split(".")[-4] for name in names} == {"q_proj", "v_proj"}
    assert all(4 in parameter.shape for parameter in names.values())
    assert any("lora_B" in name and parameter.abs().sum() > 0 for name, parameter in names.items())
    published = Qwen2ForCausalLM.from_pretrained(checkpoints.foundation).state_dict()
    kept = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): tensor
        for name, tensor in link.foundation.state_dict().items()
    }
    special = sorted({value for value in vars(link.special).values() if isinstance(value, int)})
    for name, tensor in published.items():
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            assert torch.equal(kept[name][: special[1]], tensor[: special[1]])
        else:
            assert torch.equal(kept[name], tensor)
    assert link.config.token_lengths == LENGTHS


@pytest.fixture(scope="module")
def held_out(data: Path) -> Path:
    """The data set once more, its questions in a test split too."""
    write_authors_layout(data, "test", 3, seed=2)
    return data


def evaluation(*arguments: str) -> Result:
    """What ``edge-server evaluate`` says in wide lines."""
    return CliRunner().invoke(build(), ["evaluate", *arguments], env={"COLUMNS": "200"})


def test_a_model_is_asked_the_test_split_through_the_channel(
    run: PaperRun, held_out: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    snrs = ["--snr-db", "10", "--snr-db", "-5"]
    result = evaluation(str(run.model), "--data", str(held_out), *snrs, "--out", str(out))
    assert result.exit_code == 0, result.output
    report = json.loads(out.read_text())
    annotation = held_out / "MUSIC-AVQA" / "annotation"
    rows = json.loads((annotation / "avqa-test.json").read_text())
    train = json.loads((annotation / "avqa-train.json").read_text())
    assert [(r["snr_db"], r["token_length"], r["questions"]) for r in report["results"]] == [
        (10.0, 16, len(rows)),
        (-5.0, 16, len(rows)),
    ]
    # No caption, no oracle; no val split, hence the train split.
    assert "text_oracle" not in report
    assert "text oracle" not in result.output
    assert report["prior_split"] == "train"
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for row in train:
        answers[row["question_content"]][row["anser"]] += 1
    likely = {template: counter.most_common(1)[0][0] for template, counter in answers.items()}
    right = sum(likely.get(row["question_content"]) == row["anser"] for row in rows)
    assert report["blind_prior"]["accuracy"] == pytest.approx(right / len(rows))
    assert 0 < right < len(rows)
    kinds = Counter(" ".join(json.loads(row["type"])) for row in rows)
    for scored in (report["blind_prior"], *report["results"]):
        assert {kind: part["questions"] for kind, part in scored["per_type"].items()} == kinds
    assert [(part["rows"], part["bad"]) for part in report["data"]] == [(len(rows), {}), (len(train), {})]
    assert f"0 of {len(rows)} rows are bad" in result.output
    assert "points above blind prior" in result.output


def test_each_question_comes_with_its_own_clip(
    run: PaperRun, held_out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = Link.load(run.model)
    asked = open_data(held_out, "test", link, 1, lambda done, total: None).asked
    prompts: list[Prompt] = []

    def listen(served: ServedLink, batch: Sequence[Prompt], max_new_tokens: int) -> list[str]:
        prompts.extend(batch)
        return [""] * len(batch)

    monkeypatch.setattr("edge_server.evaluation.accuracy.answer_all", listen)
    Evaluator(link, asked).through_channel(Setting(ChannelConfig(model="none"), 8))
    clips = range(max(question.clip for question in asked.questions) + 1)
    assert len(clips) == 3
    sent = {
        modality: [link.send(slot, asked.clips.encode(link, slot, i, i + 1), 8)[0].detach() for i in clips]
        for slot, modality in (("visual", "video"), ("audio", "audio"))
    }
    for prompt, question in zip(prompts, asked.questions, strict=True):
        assert prompt.question_ids == tuple(tk.encode(link.tokenizer, question.text))
        assert [block.modality for block in prompt.blocks] == ["video", "audio"]
        for block in prompt.blocks:
            away = [np.abs(tokens.numpy() - block.x_TC).max() for tokens in sent[block.modality]]
            assert int(np.argmin(away)) == question.clip
            assert sorted(away)[1] > 3 * min(away)  # what half precision rounds is little beside a clip


def test_bad_test_rows_are_named_and_too_many_stop_an_evaluation(
    run: PaperRun, held_out: Path, tmp_path: Path
) -> None:
    source = held_out / "MUSIC-AVQA"
    folder = tmp_path / "MUSIC-AVQA"
    (folder / "annotation").mkdir(parents=True)
    (folder / "extraction").symlink_to(source / "extraction")
    train, test = (
        json.loads((source / "annotation" / f"avqa-{split}.json").read_text()) for split in ("train", "test")
    )
    # The blind prior's clips are never opened.
    (folder / "annotation" / "avqa-val.json").write_text(
        json.dumps([row | {"video_id": "not-there"} for row in train])
    )
    many = (test * (100 // len(test) + 1))[:100]
    out = tmp_path / "report.json"
    command = (str(run.model), "--data", str(tmp_path), "--questions", "2", "--token-length", "4")
    path = folder / "annotation" / "avqa-test.json"
    path.write_text(json.dumps([many[0] | {"video_id": "gone"}, *many[1:]]))
    result = evaluation(*command, "--out", str(out))
    assert result.exit_code == 0, result.output
    assert "1 of 100 rows are bad: 1 missing frames (row 1 (gone))" in result.output
    report = json.loads(out.read_text())
    assert report["prior_split"] == "val"
    assert report["data"][0]["bad"] == {"missing frames": ["row 1 (gone)"]}
    assert report["results"][0]["questions"] == 2
    path.write_text(json.dumps([many[0] | {"video_id": "gone"}, many[1] | {"anser": ""}, *many[2:]]))
    result = evaluation(*command)
    assert result.exit_code == 2
    assert "2 of 100 rows are bad: 1 malformed row (row 2" in result.output
    assert "at most 1% may be" in result.output


def test_what_cannot_be_evaluated_is_refused_with_what_is_allowed(run: PaperRun, tmp_path: Path) -> None:
    model = str(run.model)
    result = evaluation(model, "--data", str(tmp_path / "no"))
    assert result.exit_code == 2
    needed = "needed is one of questions.jsonl, MUSIC-AVQA/"
    assert f"holds nothing: there is no such folder; {needed}" in result.output
    (tmp_path / "VALOR").mkdir()
    result = evaluation(model, "--data", str(tmp_path))
    assert "holds VALOR/; needed is one of questions.jsonl, MUSIC-AVQA/" in result.output
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "split.json").write_text("{}")
    result = evaluation(model, "--data", str(tmp_path))
    assert result.exit_code == 2
    assert "Soundstage's frames are made for encoders that are trained here" in result.output
    (tmp_path / "MUSIC-AVQA").mkdir()
    result = evaluation(model, "--data", str(tmp_path))
    assert "holds MUSIC-AVQA/, VALOR/, test/; needed is one of" in result.output
    result = evaluation(model, "--data", str(tmp_path), "--token-length", "5")
    assert result.exit_code == 2
    assert "5; paper has 4, 8, 16" in result.output


def test_a_finished_run_is_not_run_again(run: PaperRun, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Link.load(run.model).state_dict()
    # Features and survey are there: nothing is decoded again.
    monkeypatch.setattr("edge_server.training.recorded.survey", None)
    monkeypatch.setattr(CaptionedSplit, "encode", None)
    run.all()
    after = Link.load(run.model).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_questions_are_those_of_the_clip(run: PaperRun, encoded: tuple[Link, object, object]) -> None:
    _, asked = run.splits(encoded[0])
    rng = np.random.default_rng(0)
    for clip in range(len(asked)):
        own = {(q.text, q.answer) for q in asked.asked if q.clip == clip}
        some = asked.questions(clip, 2, rng)
        assert len(some) == len(set(some)) == min(2, len(own))
        assert set(some) <= own
        assert set(asked.questions(clip, 100, rng)) == own


def test_what_recorded_data_lacks_is_not_made_up(
    run: PaperRun, encoded: tuple[Link, EncodedClips[CaptionedSplit], EncodedClips[AskedSplit]]
) -> None:
    link, captioned, asked = encoded
    with pytest.raises(DatasetError, match="dictation_weight must be 0"):
        Alignment(link, captioned, replace(run.recipe.alignment, dictation_weight=1.0), 1).loss(0)
    with pytest.raises(DatasetError, match="describe_odds must be 0"):
        Finetune(link, asked, replace(run.recipe.finetune, describe_odds=1.0), 1).loss(0)
    with pytest.raises(DatasetError, match="stage 1 cannot learn from it"):
        Alignment(link, asked, run.recipe.alignment, 1).loss(0)


def gradients(stage: Alignment | Finetune) -> tuple[float, torch.Tensor]:
    loss, _ = stage.loss(1)
    loss.backward()  # type: ignore[no-untyped-call]
    parts = [p.grad.flatten() for p in stage.trainable().values() if p.grad is not None]
    return loss.item(), torch.cat(parts)


def test_checkpointing_changes_no_gradient(
    run: PaperRun, encoded: tuple[Link, EncodedClips[CaptionedSplit], EncodedClips[AskedSplit]]
) -> None:
    link, _, asked = encoded
    stage = Finetune(link, asked, run.recipe.finetune, 1)
    assert link.foundation.is_activation_checkpointing
    loss, saved = gradients(stage)
    link.zero_grad()
    link.foundation.activation_checkpointing_disable()
    again, kept = gradients(stage)
    assert loss == pytest.approx(again)
    torch.testing.assert_close(saved, kept)


def test_mixed_precision_is_near_full_precision(
    run: PaperRun,
    encoded: tuple[Link, EncodedClips[CaptionedSplit], EncodedClips[AskedSplit]],
    tmp_path: Path,
) -> None:
    link, captioned, asked = encoded
    config, foundation, tokenizer = foundation_from(run.checkpoints.foundation, "bfloat16", 512)
    parts = Parts({slot: link.encoder(slot) for slot in link.slots}, foundation)  # type: ignore[arg-type]
    half = Link(replace(link.config, foundation=config), tokenizer, parts)
    for clips, kind, training in (
        (captioned, Alignment, run.recipe.alignment),
        (asked, Finetune, run.recipe.finetune),
    ):
        full_stage, half_stage = (kind(x, clips, training, 1) for x in (link, half))  # type: ignore[operator]
        own = half_stage.trainable()
        for name, parameter in full_stage.trainable().items():
            own[name].data.copy_(parameter.data)
            assert own[name].dtype == torch.float32  # what learns, learns in full precision
        full_loss, full = gradients(full_stage)
        half_loss, mixed = gradients(half_stage)
        assert half_loss == pytest.approx(full_loss, rel=0.02)
        assert torch.cosine_similarity(full, mixed, dim=0) > 0.99
        link.zero_grad()
        half.zero_grad()
    half.save(tmp_path / "half")
    again = Link.load(tmp_path / "half")
    assert again.embedding.weight.dtype == torch.bfloat16
    x_TC = np.full((4, 8), 0.5**0.5, np.float32)
    prompt = Prompt((FeatureBlock("audio", x_TC, 10.0),), (20, 21))
    steps = [ServedLink(served, "ab" * 32).prefill([prompt])[1][0] for served in (again, link)]
    assert steps[0].probability == pytest.approx(steps[1].probability, rel=0.05)


async def test_a_question_goes_through_agent_and_server(model: Path, tmp_path: Path) -> None:
    write_mp4(sample_scenes("test", 1, seed=2)[0], tmp_path / "clip.mp4")
    bundle = load_bundle(model / "bundle")
    assert bundle.manifest.token_lengths == list(LENGTHS)
    spec = bundle.media_spec()
    assert (spec.max_side, spec.max_frames, spec.sample_rate_hz) == (72, 8, 16_000)
    clip = clip_from_file(tmp_path / "clip.mp4", spec=spec)
    assert clip.frames_THWC is not None
    assert clip.frames_THWC.shape[2] == 72
    transmitter = Transmitter(bundle)
    questions = ("Where is the loudest instrument?", "Is there a voiceover?")
    settings = DeviceSettings(channel="none", payload="float32", pace=False, max_new_tokens=6)
    answers = []
    with closing(load_served(ServerConfig(model=model, threads=1))) as served:
        server = Server(ServerConfig(grpc_port=0, rest_port=0), served)
        addresses = await server.start()
        try:
            async with Uplink(addresses.grpc, bundle.hash, device_id="test") as uplink:
                agent = Agent(settings, transmitter, uplink, rng=np.random.default_rng(0))
                for question, length in itertools.product(questions, LENGTHS):
                    answers.append(await agent.ask(question, clip, token_length=length))
                analog = Agent(
                    settings.model_copy(update={"text_path": "analog"}),
                    transmitter,
                    uplink,
                    rng=np.random.default_rng(0),
                )
                assert (await analog.ask(questions[0], clip)).cost.channel_uses > 2 * 4 * 8 / 2
        finally:
            await server.stop()
    # The same tokens, given to the model by hand.
    by_hand = ServedLink(Link.load(model), bundle.hash)
    for outcome, (question, length) in zip(answers, itertools.product(questions, LENGTHS), strict=True):
        tokens = transmitter.encode(clip, length).tokens
        blocks = tuple(FeatureBlock(name, x_TC, 60.0) for name, x_TC in tokens.items())
        prompt = Prompt(blocks, tuple(transmitter.tokenize(question)))
        assert outcome.text == answer_all(by_hand, [prompt], 6)[0]
        assert outcome.cost.channel_uses == 2 * length * 8 // 2
    assert any(outcome.text for outcome in answers)


def paper_configurations(folder: Path) -> Checkpoints:
    """Folders that say the paper's sizes, without a weight."""
    folders = Checkpoints(folder / "qwen", folder / "vivit", folder / "ast")
    sizes = paper_sizes()
    sizes.foundation.save_pretrained(folders.foundation)
    sizes.visual.save_pretrained(folders.visual)
    sizes.audio.save_pretrained(folders.audio)
    return folders


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_cpu_is_refused_at_once_with_what_is_needed(tmp_path: Path) -> None:
    folders = paper_configurations(tmp_path)
    needs = needs_of(folders.foundation, folders.visual, folders.audio, paper().batch)
    assert 1.7e9 < needs.parameters < 1.75e9
    assert 2**32 < needs.gpu_bytes < 80 * 2**30
    larger = needs_of(folders.foundation, folders.visual, folders.audio, Batch(64, 600, 40))
    assert larger.gpu_bytes > needs.gpu_bytes
    command = ["train", "paper", "--runs", str(tmp_path / "runs"), "--data", str(tmp_path / "no-data")]
    for name, path in vars(folders).items():
        command += [f"--{name}", str(path)]
    result = CliRunner().invoke(build(), command)
    assert result.exit_code == 2
    # Nothing was read yet: the folders have no weights, and there is no data.
    assert "million parameters are too many for a CPU" in result.output
    assert "GiB of memory (estimated) is needed" in result.output


def test_a_gpu_that_is_too_small_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Small:
        total_memory = 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: Small)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Toy")
    with pytest.raises(ConfigurationError, match="Toy has 1 GiB of memory; a CUDA GPU with at least 8 GiB"):
        choose_device(Needs(10**9, 8 * 2**30))
    assert choose_device(Needs(10**9, 2**29)).type == "cuda"


def test_the_recipe_needs_its_checkpoints(tmp_path: Path) -> None:
    result = CliRunner().invoke(build(), ["train", "paper", "--runs", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert "paper needs --foundation, --visual and --audio" in result.output


def test_features_that_do_not_fit_on_disk_are_refused(
    run: PaperRun, encoded: tuple[Link, object, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    link = encoded[0]
    captioned, _ = run.splits(link)
    elsewhere = replace(run, directory=tmp_path / "elsewhere")

    class Full:
        free = 10

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    with pytest.raises(ConfigurationError, match=r"encoded clips take .* are free"):
        elsewhere._encoded(link, captioned, "captioned")


def test_the_benchmark_times_both_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results" / "paper_scale.json"
    paper_scale.main(["--tiny", "--steps", "2", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["needs"]["parameters"] < 1e6
    for stage in ("alignment", "finetune"):
        assert report["stages"][stage]["step_s"] > 0
        assert report["stages"][stage]["tokens_per_s"] > 0
    assert json.loads(capsys.readouterr().out) == report
    if not torch.cuda.is_available():
        with pytest.raises(ConfigurationError, match="too many for a CPU"):
            paper_scale.main([])
