"""Commands that use a model: `digest`, `serve`, `evaluate`, `export`."""

import argparse
import contextlib
import sys
from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.cli.command import Commands, relative
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import Settings, load_settings


def add_to(commands: Commands) -> None:
    """Add them."""
    digest = commands.add("digest", "documents in, digests out", _digest)
    digest.add_argument("source", metavar="FILE|-", help="one document (JSON) or many (JSON Lines); -: standard input")
    digest.add_argument("-o", "--out", type=Path, help="file for the digests, one a line; default: standard output")
    digest.add_argument("--with-urls", action="store_true", help='write {"url", "digest", "covered_share"} lines')
    digest.add_argument("--model", type=Path, help="model directory; default: the current release")

    serve = commands.add("serve", "answer with digests over HTTP, until SIGTERM", _serve)
    serve.add_argument("--host", help="address to listen on; default: serving.host. Not loopback: needs an API key")
    serve.add_argument("--port", type=int, help="port to listen on, 0: one that is free; default: serving.port")
    serve.add_argument("--model", type=Path, help="model directory; default: the current release, and those after it")

    evaluate = commands.add("evaluate", "judge a model on gold files", _evaluate)
    evaluate.add_argument("--documents", type=Path, required=True, help="documents in the crawl contract")
    evaluate.add_argument("--gold-summaries", type=Path, help="JSON Lines of {url, summary}")
    evaluate.add_argument("--gold-difficulty", type=Path, help="JSON Lines of {url, level}")
    evaluate.add_argument("--model", type=Path, help="model directory; default: the current release")
    evaluate.add_argument("--against", metavar="DIR", type=Path, help="another model directory, to compare with")
    evaluate.add_argument("-o", "--out", type=Path, required=True, help="directory for report.json and report.html")

    export = commands.add("export", "the released model with its card, for others to use", _export)
    export.add_argument("target", metavar="DIR", type=Path, help="directory that does not exist yet")
    export.add_argument("--name", help="name of the model in its card; default: the directory's")


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
        log=lambda line: print(line, file=sys.stderr),
    )
    for what, number in report["coverage"].items():
        print(f"{number} {what}", file=sys.stderr)
    print(f"report   {relative(options.out / 'report.html')}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from smartdevdigest_ops.publishing.export import CARD_FILE, export_model  # noqa: PLC0415

    target = export_model(ArtifactStore(load_settings().store_dir), options.target, name=options.name)
    print(f"model    {relative(target)}\ncard     {relative(target / CARD_FILE)}")
    return 0


def _model_dir(given: Path | None, settings: Settings) -> Path:
    if given is not None:
        if not (given / "config.json").is_file():
            raise UserError(f"--model {given} is no model directory: it holds no config.json.")
        return given
    from smartdevdigest_ops.release import released_model  # noqa: PLC0415

    model = released_model(ArtifactStore(settings.store_dir))
    model.refuse_damage()
    return model.path
