"""What new rows cost before training, by how they start: bits per byte of held-out documents.

    python -m benchmarks.new_rows --base BASE_DIR --tokenizer TOKENIZER_DIR --work WORK --corpus DIR

`BASE_DIR` is a base_model artifact, `TOKENIZER_DIR` a domain_tokenizer learned on it, `DIR` the corpus_snapshot that it
was learned on: rows are fitted on the train split, documents of the test split are scored. Prints one row for the base
model with its own tokenizer, one for means of sub-tokens, one for each of `--ways` (new_row_ways.py: what others start
rows with), and one for each of `--passes`: rows fitted with so many passes through all layers.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from benchmarks.environment import environment_lines
from benchmarks.m1_training import read_texts
from benchmarks.new_row_ways import WAYS, Weights, encode, set_rows, weights_by_bytes, weights_of_focus, weights_of_last
from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.models.devices import choose_device, use_threads
from smartdevdigest_ops.models.embeddings import extend_embeddings
from smartdevdigest_ops.settings import load_settings
from smartdevdigest_ops.settings.training import NewRowsSettings
from smartdevdigest_ops.stage import StageContext
from smartdevdigest_ops.tokenizer.base import open_base
from smartdevdigest_ops.training.bits_per_byte import bits_per_byte
from smartdevdigest_ops.training.new_rows.fit import fit_new_rows

_SEQUENCE_LENGTH = 512


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Bits per byte before training, by how new rows start.")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=16, help="held-out documents per language")
    parser.add_argument("--characters", type=int, default=2000, help="first so many of each")
    parser.add_argument("--max-base-tokens", type=int, default=NewRowsSettings().max_base_tokens)
    parser.add_argument("--occurrences", type=int, default=NewRowsSettings().occurrences)
    parser.add_argument("--output-epochs", type=int, default=NewRowsSettings().output_epochs)
    parser.add_argument("--ways", nargs="*", choices=WAYS, default=[], help="further ways, see new_row_ways.py")
    parser.add_argument("--passes", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--save", type=Path, help="directory for the model of the last row, which m1.py can start from")
    parser.add_argument("--only-fitted", action="store_true", help="no rows for the base model and for means")
    arguments = parser.parse_args()
    print(*environment_lines(("torch", "transformers")), "", sep="\n")
    train, found = read_texts(arguments.corpus)
    held_out = {
        language: [text[: arguments.characters] for text in texts[: arguments.documents]]
        for language, texts in found.items()
    }
    print(f"{len(train)} documents to fit on; held out: {', '.join(f'{k} {len(v)}' for k, v in held_out.items())}\n")
    languages = list(held_out)
    print(f"| rows | seconds | {' | '.join(languages)} |", "|---|---:|" + "---:|" * len(languages), sep="\n")
    bench = Bench(arguments.base, arguments.tokenizer, arguments.work, train, held_out)
    settings = NewRowsSettings(
        max_base_tokens=arguments.max_base_tokens,
        occurrences=arguments.occurrences,
        output_epochs=arguments.output_epochs,
    )
    if not arguments.only_fitted:
        bench.base()
        bench.row("mean", settings.model_copy(update={"method": "mean"}))
    for way in arguments.ways:
        bench.combined(way)
    for passes in arguments.passes:
        name = "fitted as outputs" if passes == 0 else f"fitted, {passes} passes"
        bench.row(name, settings.model_copy(update={"passes": passes}), save=arguments.save)


class Bench:
    """Rows of the table, each printed as soon as it is known."""

    def __init__(
        self, base: Path, tokenizer: Path, work: Path, train: list[str], held_out: dict[str, list[str]]
    ) -> None:
        from transformers import AutoTokenizer

        use_threads(0)
        self._base = base
        self._bpe = open_base(base)
        self._train = train
        self._held_out = held_out
        self._work = work
        self._base_tokenizer = AutoTokenizer.from_pretrained(base)
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer)
        self._new_tokens = json.loads((tokenizer / "new_tokens.json").read_text(encoding="utf-8"))
        self._settings = load_settings("ci", overrides={"store": {"root": str(work / "store")}})

    def base(self) -> None:
        """The base model and its own tokenizer."""
        self._print("none (base)", self._load(), self._base_tokenizer, 0.0)

    def combined(self, way: str) -> None:
        """The extended model, its rows started in a way that is not the product's."""
        model = self._load()
        started = time.perf_counter()
        self._extend(model, NewRowsSettings())
        set_rows(model, int(self._new_tokens[0]["id"]), self._weights(way))
        self._print(way, model, self._tokenizer, time.perf_counter() - started)

    def _weights(self, way: str) -> Weights:
        if way == "bytes":
            return weights_by_bytes(self._new_tokens, lambda base_id: len(self._bpe.data(self._bpe.symbols[base_id])))
        if way == "last":
            return weights_of_last(self._new_tokens)
        return weights_of_focus(self._new_tokens, encode(self._tokenizer, self._train))

    def row(self, name: str, settings: NewRowsSettings, *, save: Path | None = None) -> None:
        """The extended model, its rows started as `settings` says; kept in `save` if given."""
        model = self._load()
        started = time.perf_counter()
        self._extend(model, settings)
        scratch = self._work / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        context = StageContext(
            self._settings, {}, scratch, scratch, ArtifactStore(self._settings.store_dir), None, lambda _line: None
        )
        fit_new_rows(model, self._new_tokens, self._train, self._tokenizer, settings, context)
        self._print(name, model, self._tokenizer, time.perf_counter() - started)
        if save is not None:
            model.save_pretrained(save)
            self._tokenizer.save_pretrained(save)

    def _extend(self, model, settings: NewRowsSettings) -> None:
        extend_embeddings(
            model, self._new_tokens, multiple_of=settings.pad_to_multiple, own_tokenizer=self._base_tokenizer
        )

    def _load(self):
        import torch
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM.from_pretrained(self._base, dtype=torch.float32).to(choose_device("auto"))

    def _print(self, name: str, model, tokenizer, seconds: float) -> None:
        scores = [
            bits_per_byte(model, tokenizer, texts, sequence_length=_SEQUENCE_LENGTH)
            for texts in self._held_out.values()
        ]
        print(f"| {name} | {seconds:.0f} | {' | '.join(f'{score:.3f}' for score in scores)} |", flush=True)


if __name__ == "__main__":
    main()
