"""Commands that make: `run`, `crawl`, `label`, `plan`, `ui`."""

import argparse
import os
import shutil
import signal
import sys
from pathlib import Path

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.cli.command import EXIT_FAILED, Commands, positive, relative
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.models.terms import require_acceptance, terms_of
from smartdevdigest_ops.settings import PROJECT_DIR, load_settings


def add_to(commands: Commands) -> None:
    """Add them."""
    run = commands.add("run", "bring the whole graph up to date, without a UI", _run)
    run.add_argument("--select", metavar="S", help="asset selection in Dagster's syntax, e.g. 'key:m1_checkpoint+'")
    run.add_argument(
        "--drop", metavar="FILE", type=Path, action="append", default=[],
        help="take in this drop instead of those of data.train_path, and digest it (repeatable): JSON Lines, "
        "also .gz or .zst, a JSON array, Parquet. Drops taken in before stay in the corpus",
    )  # fmt: skip

    crawl = commands.add("crawl", "fetch what is new or changed at the configured sources, as a drop", _crawl)
    crawl.add_argument(
        "--ledger", action="store_true", help="fetch nothing; print what was fetched when on which terms, as JSON Lines"
    )

    label = commands.add("label", "get the labels that are missing, or say first what they will cost", _label)
    label.add_argument("--quote", action="store_true", help="send nothing; print documents, tokens, cost and minutes")
    label.set_defaults(select="key:labeled_pairs", drop=[])

    plan = commands.add("plan", "memory, tokens, steps, hours and labels of a training, before it starts", _plan)
    plan.add_argument("--gpus", metavar="N", type=positive(int), default=1, help="default: 1")
    plan.add_argument("--gpu-memory", metavar="GIB", type=positive(float), help="of one GPU: says what fits")
    plan.add_argument(
        "--reserve", metavar="GIB", type=float, default=1.5,
        help="of each GPU, for the CUDA context, NCCL and gaps between blocks (a rule of thumb); default: 1.5",
    )  # fmt: skip
    plan.add_argument(
        "--sharding", choices=("full", "replicated"), help="over several GPUs; default: as training.sharding says"
    )
    plan.add_argument("--throughput", metavar="TOKENS/S", type=positive(float), help="of all GPUs together: hours")
    plan.add_argument(
        "--peak-tflops", metavar="P", type=positive(float),
        help="of one GPU, dense, in the precision of the training: hours where no throughput is known",
    )  # fmt: skip
    plan.add_argument("--mfu", metavar="SHARE", type=positive(float), default=0.4, help="of the peak; default: 0.4")
    plan.add_argument("--tokens", metavar="N", type=positive(int), help="train split; default: the current corpus's")
    plan.add_argument(
        "--documents", metavar="N", type=positive(int), help="plan for so many like those of the current corpus"
    )
    plan.add_argument("--config", metavar="FILE", type=Path, help="config.json of the base model, where it is not here")
    plan.add_argument(
        "--label-price", metavar=("IN", "OUT"), nargs=2, type=float, help="of a million of the teacher's tokens"
    )

    ui = commands.add("ui", "the Dagster UI of this profile's store", _ui)
    ui.add_argument("--port", type=int, default=3000)


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
        print(f"report   {relative(report.path / 'report.html')}")
    if digests := store.current("digests", outcome.newest_drop):
        print(f"digests  {relative(digests.path / 'digests.jsonl')}")
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
    return EXIT_FAILED if report.num_failed else 0


def _label(options: argparse.Namespace) -> int:
    if not options.quote:
        return _run(options)
    settings = load_settings()
    from smartdevdigest_ops.labeling.stage import quote_labels  # noqa: PLC0415

    for line in quote_labels(settings):
        print(line)
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
