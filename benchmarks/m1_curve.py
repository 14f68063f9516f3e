"""Learning curves of M1: bits per byte of held-out text against text read and against time, for runs that differ.

    python -m benchmarks.m1_curve --model DIR --tokenizer DIR --corpus DIR --work WORK --minutes 120 --plot curve.png
    python -m benchmarks.m1_curve ... --max-steps 120 --runs unextended extended mlm:objective=mlm mixed:objective=mixed
    python -m benchmarks.m1_curve ... --max-steps 120 --runs unextended n500:tokenizer=DIR n1000:tokenizer=DIR

A run is NAME or NAME:KEY=VALUE[,KEY=VALUE...]: keys of training.m1, and `tokenizer`, a domain_tokenizer (whose new
rows start as means) or a whole model with its tokenizer (benchmarks.new_rows --save: rows fitted), and
`minutes_before`, what fitting those rows took, which then is part of the run's time. `unextended` is the base model
with its own tokenizer; any other run without a `tokenizer` takes `--tokenizer`. All read the same corpus in the same
order, `--jobs` of them at a time.

Each trains `--minutes`, or `--max-steps` optimizer steps over which its learning rate goes down to nothing, and is
scored before the first step and then about every `--every` minutes, between two optimizer steps; scoring takes no
time of the run. Beside held-out documents of the corpus, the general text of data/general is scored, none of which is
replayed here; `--groups` says which of them, and `code` the code blocks of the documents. With OMP_NUM_THREADS=1
minutes are the processor's. One sitting may be shorter (`--sitting`): readings are appended to `WORK/readings.jsonl`,
checkpoints lie in `WORK/<run>`, one every `--checkpoint-steps`, and the same command goes on from the last of them;
what was trained after it is trained again and counts once. Without `--max-steps` the learning rate is planned for
`--epochs` passes.
"""

import argparse
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.environment import environment_lines
from benchmarks.m1_training import (
    Meter,
    TimeIsUp,
    load_for_m1,
    pack,
    read_held_out,
    read_texts,
    score,
    scratch_context,
    stream_of,
    train_packed,
)
from smartdevdigest_ops.training.trainer.checkpoints import last_checkpoint

UNEXTENDED = "unextended"
RUNS = ("extended", UNEXTENDED)
GROUPS = ("ko", "en", "general_ko", "general_en")
_COLORS = ("#4477aa", "#ee6677", "#228833", "#aa3377", "#ccbb44", "#66ccee")


@dataclass(frozen=True)
class Run:
    """One run of the comparison."""

    name: str
    tokenizer: Path | None
    m1: dict[str, Any] = field(default_factory=dict)
    """Settings of training.m1 that are its own."""
    minutes_before: float = 0.0
    """Time spent on it before the first step."""

    @classmethod
    def parse(cls, text: str, tokenizer: Path | None) -> "Run":
        """`NAME[:KEY=VALUE,...]`; `tokenizer` is what a run takes that names none."""
        name, _, rest = text.partition(":")
        own = dict(pair.partition("=")[::2] for pair in rest.split(",") if pair)
        named = own.pop("tokenizer", None)
        minutes_before = float(own.pop("minutes_before", 0.0))
        found = Path(named) if named else None if name == UNEXTENDED else tokenizer
        if found is None and name != UNEXTENDED:
            raise ValueError(f"run {text}: it needs a tokenizer. Give --tokenizer DIR, or {name}:tokenizer=DIR.")
        return cls(name, found, own, minutes_before)


class Curve(Meter):
    """Scores a model between two micro-steps, and appends what it finds."""

    def __init__(self, model: Any, tokenizer: Any, packed: Any, run: Run, options: argparse.Namespace) -> None:
        self._readings = options.work / "readings.jsonl"
        self._run = run.name
        self._tokenizer = tokenizer
        self._options = options
        self._bytes_per_token = packed.bytes_per_token
        held_out = read_held_out(options.corpus)
        self._held_out = {group: held_out[group] for group in options.groups}
        earlier = [reading for reading in read_readings(self._readings) if reading["run"] == run.name]
        self._before = _at_checkpoint(earlier, run, options)
        limit = min(options.minutes * 60 - self._before["seconds"], options.sitting * 60)
        super().__init__(model, limit)
        self._next = 0.0 if not earlier else options.every * 60
        self._due_steps = options.accumulation

    @property
    def total_seconds(self) -> float:
        """Of training, all sittings together, what was trained twice counted once."""
        return float(self._before["seconds"] + self.seconds)

    def between(self, model: Any) -> None:
        """Score where it is time, at the beginning of an optimizer step."""
        if self.seconds >= self._next and self.micro_steps % self._due_steps == 0:
            self._next = self.seconds + self._options.every * 60
            self.read(model)

    def read(self, model: Any) -> None:
        """Score and append."""
        self._is_paused = True
        options = self._options
        found = score(
            model, self._tokenizer, self._held_out, sequence_length=options.sequence_length,
            max_documents=options.held_out_documents, max_characters=options.held_out_characters,
        )  # fmt: skip
        self._is_paused = False
        micro_steps = self._before["micro_steps"] + self.micro_steps
        tokens = micro_steps * options.batch * options.sequence_length
        reading = {
            "run": self._run,
            "step": micro_steps // options.accumulation,
            "micro_steps": micro_steps,
            "seconds": self.total_seconds,
            "text_bytes": tokens * self._bytes_per_token,
            "bits_per_byte": found,
            "written": time.time(),
        }
        with self._readings.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(reading) + "\n")


def _at_checkpoint(earlier: list[dict[str, Any]], run: Run, options: argparse.Namespace) -> dict[str, Any]:
    """Where the trainer will go on: seconds in proportion to the micro-steps of the last checkpoint."""
    step = 0
    if earlier and (found := last_checkpoint(options.work / run.name / "scratch" / "checkpoints")):
        step = int(found[1]["global_step"])
    micro_steps = step * options.accumulation
    done = max(earlier, key=lambda reading: reading["micro_steps"], default=None)
    seconds_before = run.minutes_before * 60
    pace = (done["seconds"] - seconds_before) / done["micro_steps"] if done and done["micro_steps"] else 0.0
    return {"micro_steps": micro_steps, "seconds": seconds_before + micro_steps * pace}


def read_readings(file: Path) -> list[dict[str, Any]]:
    """All readings so far; of two of one step, the later."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    by_step = {(reading["run"], reading["step"]): reading for reading in map(json.loads, lines)}
    return sorted(by_step.values(), key=lambda reading: (reading["run"], reading["step"]))


def train_one_run(run: Run, options: argparse.Namespace) -> None:
    """One sitting of one run; to be called in a process of its own."""
    m1 = {
        "batch_size": options.batch,
        "gradient_accumulation": options.accumulation,
        "sequence_length": options.sequence_length,
        "learning_rate": options.learning_rate,
        "embedding_learning_rate": options.embedding_learning_rate,
        "warmup_steps": options.warmup_steps,
        "epochs": options.epochs,
        "max_steps": options.max_steps,
    }
    context = scratch_context(
        options.work / run.name, m1 | run.m1, quiet=False, checkpoint_steps=options.checkpoint_steps
    )
    model, tokenizer = load_for_m1(options.model, run.tokenizer, context)
    texts, _ = read_texts(options.corpus)
    packed = pack(tokenizer, texts, context)
    curve = Curve(model, tokenizer, packed, run, options)
    try:
        train_packed(model, stream_of(packed, tokenizer, model, context), context)
        curve.read(model.eval())
    except TimeIsUp:
        curve.read(model)
    finally:
        curve.stop()


def plot(readings: list[dict[str, Any]], file: Path) -> None:
    """Bits per byte of both languages and all runs, against text read and against time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(13, 5), sharey=True)
    for color, run in zip(_COLORS, dict.fromkeys(reading["run"] for reading in readings), strict=False):
        for language, style in (("ko", "-"), ("en", "--")):
            points = [r for r in readings if r["run"] == run and language in r["bits_per_byte"]]
            heights = [reading["bits_per_byte"][language] for reading in points]
            kept = {"color": color, "linestyle": style, "marker": ".", "label": f"{language}, {run}"}
            both[0].plot([reading["text_bytes"] / 1e6 for reading in points], heights, **kept)
            both[1].plot([reading["seconds"] / 60 for reading in points], heights, **kept)
    both[0].set_xlabel("text read, MB")
    both[1].set_xlabel("minutes")
    both[0].set_ylabel("bits per byte, held out")
    both[1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    figure.savefig(file, dpi=120, bbox_inches="tight")


def table(readings: list[dict[str, Any]]) -> list[str]:
    """Markdown of all readings."""
    groups = list(dict.fromkeys(group for reading in readings for group in reading["bits_per_byte"]))
    lines = [
        f"| run | step | minutes | text read, MB | {' | '.join(groups)} |",
        "|---|---:|---:|---:|" + "---:|" * len(groups),
    ]
    for reading in readings:
        scores = [
            f"{reading['bits_per_byte'][group]:.3f}" if group in reading["bits_per_byte"] else "" for group in groups
        ]
        lines.append(
            f"| {reading['run']} | {reading['step']} | {reading['seconds'] / 60:.1f} | "
            f"{reading['text_bytes'] / 1e6:.2f} | {' | '.join(scores)} |"
        )
    return lines


def main() -> None:
    """Train each run in a child, print Markdown and draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="directory of a corpus_snapshot")
    parser.add_argument("--model", type=Path, required=True, help="directory of the base model and its tokenizer")
    parser.add_argument("--tokenizer", type=Path, help="directory of a domain_tokenizer or of a whole model")
    parser.add_argument("--work", type=Path, required=True, help="directory for checkpoints and readings")
    parser.add_argument("--runs", nargs="+", default=list(RUNS), help="NAME[:KEY=VALUE,...]")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--max-steps", type=int, help="optimizer steps of a whole run")
    parser.add_argument("--minutes", type=float, default=120, help="of training, each run")
    parser.add_argument("--sitting", type=float, default=float("inf"), help="minutes of training now, each run")
    parser.add_argument("--every", type=float, default=10, help="minutes of training between two scorings")
    parser.add_argument("--checkpoint-steps", type=int, default=100, help="optimizer steps between two checkpoints")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--accumulation", type=int, default=4)
    parser.add_argument("--sequence-length", type=int, default=512)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--embedding-learning-rate", type=float, default=5e-4)
    parser.add_argument("--warmup-steps", type=int, default=20)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--held-out-documents", type=int, default=24, help="of each language")
    parser.add_argument("--held-out-characters", type=int, default=2000, help="of each document")
    parser.add_argument("--groups", nargs="+", default=GROUPS, help="what is scored: of them, and `code`")
    parser.add_argument("--plot", type=Path, help="file for the plot (PNG)")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        runs = {text: Run.parse(text, options.tokenizer) for text in options.runs}
    except ValueError as error:
        parser.error(str(error))
    if options.child:
        train_one_run(runs[options.child], options)
        return

    def start(text: str) -> None:
        command = [sys.executable, "-m", "benchmarks.m1_curve", *sys.argv[1:], "--child", text]
        subprocess.run(command, check=True)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(start, runs))
    readings = read_readings(options.work / "readings.jsonl")
    print("\n".join([*environment_lines(("torch", "transformers", "accelerate")), "", *table(readings)]))
    if options.plot:
        plot(readings, options.plot)


if __name__ == "__main__":
    main()
