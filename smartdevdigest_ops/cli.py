"""The command line: `smartdevdigest --help`. Thin: every command is one call into the packages."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from smartdevdigest_ops.artifacts import ArtifactStore, content_hash
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.models.terms import require_acceptance, terms_of
from smartdevdigest_ops.settings import (
    OVERRIDES_VARIABLE,
    PROJECT_DIR,
    Settings,
    load_settings,
    parse_overrides,
    profile_names,
)
from smartdevdigest_ops.stage import STAGE_MODULES, get_stage
from smartdevdigest_ops.stage.process import quiet_libraries

_EXIT_FAILED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 when something asked for failed, 2 for bad input."""
    options = _parser().parse_args(arguments)
    try:
        quiet_libraries()
        _apply_environment(options)
        code: int = options.command(options)
    except UserError as error:
        print(f"smartdevdigest: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`| head`); not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"smartdevdigest: {place}{error.strerror or error}. Nothing further was done.", file=sys.stderr)
        return UserError.exit_code
    except KeyboardInterrupt:
        print("smartdevdigest: interrupted; what was finished stays in the store.", file=sys.stderr)
        return 128 + signal.SIGINT
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smartdevdigest",
        description="A small model of your own that digests technical documents (ko/en): make it, use it, judge it.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--profile", metavar="P", help=f"config/profiles/P.yaml: {', '.join(profile_names())}")
    shared.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="overrides",
        help="lay a setting over the profile, e.g. --set training.m1.max_steps=20 (repeatable)",
    )  # fmt: skip

    run = _command(commands, shared, "run", "bring the whole graph up to date, without a UI")
    run.add_argument("--select", metavar="S", help="asset selection in Dagster's syntax, e.g. 'key:m1_checkpoint+'")
    run.add_argument(
        "--drop", metavar="FILE", type=Path, action="append", default=[],
        help="take in this drop instead of those of data.train_path, and digest it (repeatable): JSON Lines, "
        "also .gz or .zst, a JSON array, Parquet. Drops taken in before stay in the corpus",
    )  # fmt: skip
    run.set_defaults(command=_run)

    digest = _command(commands, shared, "digest", "documents in, digests out")
    digest.add_argument("source", metavar="FILE|-", help="one document (JSON) or many (JSON Lines); -: standard input")
    digest.add_argument("-o", "--out", type=Path, help="file for the digests, one a line; default: standard output")
    digest.add_argument("--with-urls", action="store_true", help='write {"url", "digest"} lines')
    digest.add_argument("--model", type=Path, help="model directory; default: the current release")
    digest.set_defaults(command=_digest)

    serve = _command(commands, shared, "serve", "answer with digests over HTTP, until SIGTERM")
    serve.add_argument("--host", help="address to listen on; default: serving.host. Not loopback: needs an API key")
    serve.add_argument("--port", type=int, help="port to listen on, 0: one that is free; default: serving.port")
    serve.add_argument("--model", type=Path, help="model directory; default: the current release, and those after it")
    serve.set_defaults(command=_serve)

    crawl = _command(commands, shared, "crawl", "fetch what is new or changed at the configured sources, as a drop")
    crawl.add_argument(
        "--ledger", action="store_true", help="fetch nothing; print what was fetched when on which terms, as JSON Lines"
    )
    crawl.set_defaults(command=_crawl)

    evaluate = _command(commands, shared, "evaluate", "judge a model on gold files")
    evaluate.add_argument("--documents", type=Path, required=True, help="documents in the crawl contract")
    evaluate.add_argument("--gold-summaries", type=Path, help="JSON Lines of {url, summary}")
    evaluate.add_argument("--gold-difficulty", type=Path, help="JSON Lines of {url, level}")
    evaluate.add_argument("--model", type=Path, help="model directory; default: the current release")
    evaluate.add_argument("--against", metavar="DIR", type=Path, help="another model directory, to compare with")
    evaluate.add_argument("-o", "--out", type=Path, required=True, help="directory for report.json and report.html")
    evaluate.set_defaults(command=_evaluate)

    verify = _command(commands, shared, "verify", "check every artifact's files against their hashes")
    verify.set_defaults(command=_verify)

    trained_on = _command(commands, shared, "trained-on", "name every artifact that learned from a page")
    trained_on.add_argument("urls", metavar="URL", nargs="+", help="address of a page, in any of its spellings")
    trained_on.set_defaults(command=_trained_on)

    plan = _command(commands, shared, "plan", "memory, tokens, steps, hours and labels of a training, before it starts")
    plan.add_argument("--gpus", metavar="N", type=_positive(int), default=1, help="default: 1")
    plan.add_argument("--gpu-memory", metavar="GIB", type=_positive(float), help="of one GPU: says what fits")
    plan.add_argument(
        "--reserve", metavar="GIB", type=float, default=1.5,
        help="of each GPU, for the CUDA context, NCCL and gaps between blocks (a rule of thumb); default: 1.5",
    )  # fmt: skip
    plan.add_argument(
        "--sharding", choices=("full", "replicated"), help="over several GPUs; default: as training.sharding says"
    )
    plan.add_argument("--throughput", metavar="TOKENS/S", type=_positive(float), help="of all GPUs together: hours")
    plan.add_argument(
        "--peak-tflops", metavar="P", type=_positive(float),
        help="of one GPU, dense, in the precision of the training: hours where no throughput is known",
    )  # fmt: skip
    plan.add_argument("--mfu", metavar="SHARE", type=_positive(float), default=0.4, help="of the peak; default: 0.4")
    plan.add_argument("--tokens", metavar="N", type=_positive(int), help="train split; default: the current corpus's")
    plan.add_argument(
        "--documents", metavar="N", type=_positive(int), help="plan for so many like those of the current corpus"
    )
    plan.add_argument("--config", metavar="FILE", type=Path, help="config.json of the base model, where it is not here")
    plan.add_argument(
        "--label-price", metavar=("IN", "OUT"), nargs=2, type=float, help="of a million of the teacher's tokens"
    )
    plan.set_defaults(command=_plan)

    label = _command(commands, shared, "label", "get the labels that are missing, or say first what they will cost")
    label.add_argument("--quote", action="store_true", help="send nothing; print documents, tokens, cost and minutes")
    label.set_defaults(command=_label, select="key:labeled_pairs", drop=[])

    path = _command(commands, shared, "path", "print the directory of an asset's current version")
    path.add_argument("asset", help="asset name, or asset[partition]")
    path.set_defaults(command=_path)

    ui = _command(commands, shared, "ui", "the Dagster UI of this profile's store")
    ui.add_argument("--port", type=int, default=3000)
    ui.set_defaults(command=_ui)
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    """A number above 0, for argparse."""

    def number(text: str) -> float:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not above 0")
        return value

    return number


def _command(commands: Any, shared: argparse.ArgumentParser, name: str, what: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, parents=[shared], help=what, description=f"{what[0].upper()}{what[1:]}."
    )
    return parser


def _apply_environment(options: argparse.Namespace) -> None:
    """Profile and overrides go through the environment: the code location and stage processes see the same."""
    if options.profile:
        os.environ["SMARTDEVDIGEST_PROFILE"] = options.profile
    if options.overrides:
        tree = parse_overrides(os.environ.get(OVERRIDES_VARIABLE, "{}"))
        for item in options.overrides:
            key, separator, value = item.partition("=")
            if key == "profile":
                raise UserError(f"--set {item!r}: a profile is chosen by --profile.")
            if not separator or not key:
                raise UserError(f"--set {item!r}: needed KEY=VALUE, e.g. --set training.m1.max_steps=20.")
            _put(tree, key.split("."), value, item)
        os.environ[OVERRIDES_VARIABLE] = yaml.safe_dump(tree, allow_unicode=True)


def _put(tree: dict[str, Any], keys: list[str], value: str, item: str) -> None:
    for key in keys[:-1]:
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UserError(f"--set {item!r}: {key!r} was set to a single value before; it has no settings below it.")
    try:
        tree[keys[-1]] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UserError(f"--set {item!r}: the value is not YAML: {error}") from None


def _run(options: argparse.Namespace) -> int:
    settings = load_settings()
    require_acceptance(terms_of(settings.model.base_model), settings.model.accept_terms)
    from smartdevdigest_assets.headless import (  # noqa: PLC0415 - Dagster only where it is needed
        drops_of,
        held_out_of,
        run_graph,
    )

    drops = drops_of(settings, [path.resolve() for path in options.drop])
    outcome = run_graph(settings, drops, held_out_of(settings), options.select)
    made = f"made {len(outcome.made)}" if outcome.made else "nothing to make"
    print(f"{made}, {outcome.up_to_date} up to date, {outcome.seconds:.0f} s")
    store = ArtifactStore(settings.store_dir)
    if report := store.current("evaluation_report"):
        print(f"report   {_relative(report.path / 'report.html')}")
    if digests := store.current("digests", outcome.newest_drop):
        print(f"digests  {_relative(digests.path / 'digests.jsonl')}")
    return 0


def _digest(options: argparse.Namespace) -> int:
    settings = load_settings()
    source = None if options.source == "-" else Path(options.source)
    if source is not None and (source.is_dir() or not source.exists()):
        raise UserError(f"{source} is not a file. Give a document as JSON, documents as JSON Lines, or - for stdin.")
    model_dir = _model_dir(options.model, settings)
    from smartdevdigest_ops.digesting.files import digest_file  # noqa: PLC0415

    out = options.out
    if out is None or (out.exists() and not out.is_file() and not out.is_dir()):  # a pipe or device: nothing to keep
        with out.open("w", encoding="utf-8") if out else contextlib.nullcontext(sys.stdout) as stream:
            counts = digest_file(source, model_dir, settings, stream, with_urls=options.with_urls)
    else:
        if out.is_dir() or not out.parent.is_dir():
            raise UserError(f"-o {out}: needed a file in a directory that exists.")
        # Beside the target, and moved over it at the end: what was there stays until all digests are.
        partial = out.with_name(f".{out.name}.partial")
        try:
            with partial.open("w", encoding="utf-8") as stream:
                counts = digest_file(source, model_dir, settings, stream, with_urls=options.with_urls)
            if counts["digests"]:
                partial.replace(out)
        finally:
            partial.unlink(missing_ok=True)
    print(", ".join(f"{number} {what}" for what, number in counts.items()), file=sys.stderr)
    return 0 if counts["digests"] else UserError.exit_code


def _serve(options: argparse.Namespace) -> int:
    given = {"host": options.host, "port": options.port}
    settings = load_settings(overrides={"serving": {name: value for name, value in given.items() if value is not None}})
    if options.model is not None:
        _model_dir(options.model, settings)
    from smartdevdigest_ops.serving.server import serve  # noqa: PLC0415

    serve(settings, options.model)
    return 0


def _crawl(options: argparse.Namespace) -> int:
    settings = load_settings()
    from smartdevdigest_ops.crawl.crawl import crawl_configured_sources, state_path  # noqa: PLC0415
    from smartdevdigest_ops.crawl.ledger import ledger_lines  # noqa: PLC0415

    if options.ledger:
        for line in ledger_lines(state_path(settings)):
            print(line)
        return 0
    report = crawl_configured_sources(settings)
    for line in report.lines():
        print(line)
    return _EXIT_FAILED if report.num_failed else 0


def _evaluate(options: argparse.Namespace) -> int:
    settings = load_settings()
    for file in (options.documents, options.gold_summaries, options.gold_difficulty):
        if file is not None and not file.is_file():
            raise UserError(f"{file} is not a file.")
    model_dir = _model_dir(options.model, settings)
    from smartdevdigest_ops.evaluation.evaluate_files import evaluate_files  # noqa: PLC0415

    report = evaluate_files(
        options.documents,
        options.gold_summaries,
        options.gold_difficulty,
        model_dir,
        options.out,
        settings,
        against=options.against and _model_dir(options.against, settings),
    )
    for what, number in report["coverage"].items():
        print(f"{number} {what}", file=sys.stderr)
    print(f"report   {_relative(options.out / 'report.html')}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    store = ArtifactStore(load_settings().store_dir)
    if not store.root.is_dir():
        raise UserError(f"There is no store at {_relative(store.root)} to verify. `smartdevdigest run` makes one.")
    num_artifacts, num_files, problems = store.verify()
    for problem in problems:
        print(problem)
    print(f"{num_artifacts} artifacts, {num_files} files, {len(problems)} problems in {_relative(store.root)}")
    if problems:
        print("Remove a damaged version's directory and run again: it is made anew.")
    return _EXIT_FAILED if problems else 0


def _trained_on(options: argparse.Namespace) -> int:
    from smartdevdigest_ops.corpus.url import canonical_url  # noqa: PLC0415
    from smartdevdigest_ops.lineage import trained_on  # noqa: PLC0415

    store = ArtifactStore(load_settings().store_dir)
    if patterns := [url for url in options.urls if "*" in url]:
        raise UserError(
            f"{patterns[0]!r} is a pattern, and this command asks for pages one by one. Put it into the file of "
            "data.takedown_path and run: the metadata of cleaned_corpus names all its pages and what learned from them."
        )
    document_ids = [content_hash(canonical_url(url)) for url in options.urls]
    if not store.root.is_dir():
        raise UserError(f"There is no store at {_relative(store.root)}, so nothing was trained there.")
    found = trained_on(store, document_ids)
    for artifact in found:
        print(artifact)
    print(f"{len(found)} artifacts in {_relative(store.root)} learned from {len(options.urls)} pages", file=sys.stderr)
    if found:
        print(
            "Named in the file of data.takedown_path, the pages leave the corpus at the next run, and what is current "
            "is made again without them. Older versions stay in the store until their directories are removed.",
            file=sys.stderr,
        )
    return 0


def _plan(options: argparse.Namespace) -> int:
    settings = load_settings()
    from smartdevdigest_ops.training.plan.plan import Machine, plan_lines  # noqa: PLC0415

    machine = Machine(
        num_gpus=options.gpus,
        gpu_memory_gib=options.gpu_memory,
        reserve_gib=options.reserve,
        sharding=options.sharding,
        throughput=options.throughput,
        peak_tflops=options.peak_tflops,
        mfu=options.mfu,
    )
    for line in plan_lines(
        settings,
        machine,
        config_file=options.config,
        num_tokens=options.tokens,
        num_documents=options.documents,
        label_price=options.label_price,
    ):
        print(line)
    return 0


def _label(options: argparse.Namespace) -> int:
    if not options.quote:
        return _run(options)
    settings = load_settings()
    from smartdevdigest_ops.labeling.stage import quote_labels  # noqa: PLC0415

    for line in quote_labels(settings):
        print(line)
    return 0


def _path(options: argparse.Namespace) -> int:
    store = ArtifactStore(load_settings().store_dir)
    name, _, rest = options.asset.partition("[")
    if name not in STAGE_MODULES:
        raise UserError(f"There is no asset {name!r}. Assets: {', '.join(STAGE_MODULES)}.")
    artifact = store.current(name, rest.rstrip("]") or None)
    if artifact is None:
        partitions = [f"{name}[{key}]" for key in store.partitions(name)]
        if rest and not get_stage(name).partitioned:
            raise UserError(f"{name} does not come by drop; ask for `path {name}`.")
        found = f"It comes by drop: {', '.join(partitions)}." if partitions else "`smartdevdigest run` makes it."
        raise UserError(f"{options.asset} has no current version in {_relative(store.root)}. {found}")
    print(artifact.path)
    return 0


def _ui(options: argparse.Namespace) -> int:
    settings = load_settings()
    from smartdevdigest_assets.instance import prepare_dagster_home  # noqa: PLC0415 - Dagster only where it is needed

    prepare_dagster_home(settings.store_dir)
    dagster = shutil.which("dagster", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if dagster is None:
        raise UserError("The `dagster` command is not installed beside this Python; `make setup` installs it.")
    # Started in the background by a script, a process inherits SIGINT=ignored, and `dagster dev` would never stop.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    command = ["dev", "-w", str(PROJECT_DIR / "workspace.yaml"), "-h", "127.0.0.1", "-p", str(options.port)]
    os.execv(dagster, [dagster, *command])
    return 0


def _model_dir(given: Path | None, settings: Settings) -> Path:
    if given is not None:
        if not (given / "config.json").is_file():
            raise UserError(f"--model {given} is no model directory: it holds no config.json.")
        return given
    from smartdevdigest_ops.release import released_model  # noqa: PLC0415

    return released_model(ArtifactStore(settings.store_dir)).path


def _relative(path: Path) -> Path:
    """The path as a reader at the prompt would type it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
