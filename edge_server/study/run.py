"""Running a study: tasks beside one another, each trained and then asked what the figures need.

    Study ─▶ one task per (system, seed) ─▶ Run.join ─▶ examined.jsonl (between rounds), answers.jsonl (after)
                                            weights, in the run          in the record

Tasks run in a process and a thread each, and can be cut at any moment: training goes on from its checkpoint,
and settings that stand in ``answers.jsonl`` are not asked again. Whose record is complete is not trained
again, wherever its weights are.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import replace
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from device_agent.channel import ChannelConfig
from edge_server.data.soundstage.dataset import SplitName, generate
from edge_server.evaluation.accuracy import Score, Setting
from edge_server.model.link import Link
from edge_server.study.pools import processes, ray_cluster
from edge_server.study.study import (
    ANSWERS,
    CONVERGENCE,
    STUDIES,
    Study,
    Task,
    key_of,
    missing_settings,
)
from edge_server.study.teacher_forced import TeacherForcedQuestions, over_channel
from edge_server.training.clips import EncodedClips
from edge_server.training.loop import DONE, EXAMINED, LOG, Examine
from edge_server.training.run import Run, cores, pretrain_shared
from edge_server.training.run_identity import ensure_identity
from edge_server.training.soundstage import SoundstageSplit, encode_split


def prepare(study: Study, runs: Path, data: Path, jobs: int) -> None:
    """See that data, pretraining and encoded clips are there, which all tasks share."""
    run = replace(study.tasks()[0].run(runs, data), jobs=jobs)
    pretrain_shared(run, runs)
    if not (data / "test" / "split.json").exists():
        seed = json.loads((data / "val" / "split.json").read_text())["seed"]
        generate(data, "test", study.test_clips, seed, jobs)
    link = run.pretrained_link()
    run.encoded(link)
    encoded_split(link, run, data, "val")
    encoded_split(link, run, data, "test")


def encoded_split(link: Link, run: Run, data: Path, split: SplitName) -> EncodedClips[SoundstageSplit]:
    """A held-out split behind the encoders that all systems of a study share."""
    return encode_split(link, data, split, run.stage(f"features-{split}"))


def run_study(
    study: Study,
    runs: Path,
    data: Path,
    records: Path,
    jobs: int | None,
    only: Sequence[str] = (),
    *,
    ray: str | None = None,
) -> None:
    """Train and evaluate everything that has not been.

    Args:
        study: what.
        runs: folder of runs.
        data: the Soundstage data set.
        records: folder of records.
        jobs: tasks beside one another; None: one on each core.
        only: these systems; all where empty.
        ray: address of a Ray cluster whose machines train; None: this one does.

    Raises:
        ConfigurationError: there is no such cluster.
    """
    systems = study.systems
    wanted = [task for task in study.tasks() if not only or task.system in only]
    waiting = [task for task in wanted if not is_complete(task, records)]
    if not waiting:
        return
    prepare(study, runs, data, jobs or cores())
    if ray is not None:  # wherever it runs, its folders are these
        runs, data, records = runs.resolve(), data.resolve(), records.resolve()
    with (
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        ) as bar,
        contextlib.ExitStack() as stack,
    ):
        if ray is None:
            pool, there = stack.enter_context(processes(jobs or cores())), cores()
        else:
            pool, there = stack.enter_context(ray_cluster(ray))
        jobs = jobs or there
        shown = bar.add_task(study.name, total=len(waiting))
        running: dict[Future[None], Task] = {}

        def ready(task: Task) -> bool:
            shared = systems[task.system].shares_alignment
            if shared is None:
                return True
            if (shared, task.seed) in {(t.system, t.seed) for t in (*waiting, *running.values())}:
                return False
            # Whose record is complete may have been aligned elsewhere: the first who needs it does it again.
            others = [t for t in running.values() if t.seed == task.seed]
            return (task.run(runs, data).stage("alignment") / DONE).exists() or not any(
                systems[t.system].shares_alignment == shared for t in others
            )

        while waiting or running:
            while len(running) < jobs and (task := next(filter(ready, waiting), None)) is not None:
                waiting.remove(task)
                running[pool.submit(examine_system, task, runs, data, records)] = task
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                task = running.pop(future)
                future.result()
                bar.update(shown, advance=1, description=f"{study.name}: {task.system}, seed {task.seed}")


def is_complete(task: Task, records: Path) -> bool:
    """Whether everything is known of a system with a seed that the figures need."""
    return not missing_settings(task, records) and (task.record(records) / LOG).exists()


def examine_system(task: Task, runs: Path, data: Path, records: Path) -> None:
    """Train one system with one seed, and ask it everything that the figures need."""
    torch.set_num_threads(1)
    study, run, record = STUDIES[task.study], task.run(runs, data), task.record(records)
    ensure_identity(run)
    ensure_identity(replace(run, directory=record))
    with (run.directory / "train.log").open("a") as log, contextlib.redirect_stdout(log):
        link = trained(study, run, data)
    # What was said between rounds; nothing where the system was trained on its own, not by a study.
    for name in (EXAMINED, LOG):
        if (run.stage("finetune") / name).exists():
            shutil.copyfile(run.stage("finetune") / name, record / name)
    clips = encoded_split(link, run, data, "test")
    questions = TeacherForcedQuestions(clips.split.split, study.test_clips)
    with (record / ANSWERS).open("a") as file:
        for setting in missing_settings(task, records):
            score = questions.score(link, over_channel(link, clips.features, setting))
            file.write(json.dumps({**key_of(setting), "score": score.to_json()}) + "\n")
            file.flush()


def trained(study: Study, run: Run, data: Path) -> Link:
    """A system's link, trained where it was not; its LoRA merged."""
    if not (run.model / "training.json").exists():
        run.join(lambda link: _between_rounds(study, run, data, link))
    link = Link.load(run.model)
    link.merge_lora()
    return link


def _between_rounds(study: Study, run: Run, data: Path, link: Link) -> Examine:
    """Accuracy on the validation split after certain rounds: 10 dB AWGN, the token length that is usual."""
    clips = encoded_split(link, run, data, "val")
    questions = TeacherForcedQuestions(clips.split.split, study.val_clips)
    lengths = run.recipe.finetune.uplink.token_lengths
    token_length = lengths[0][0] if len(lengths) == 1 else study.budget.token_length
    setting = Setting(ChannelConfig(snr_db=10.0), token_length)
    last = run.recipe.finetune.schedule.steps

    def examine(done: int) -> dict[str, float] | None:
        due = study.examined_rounds if run.recipe.name in CONVERGENCE else ()
        if done not in due and done != last:
            return None
        score: Score = questions.score(link, over_channel(link, clips.features, setting))
        return {"accuracy": score.accuracy}

    return examine
