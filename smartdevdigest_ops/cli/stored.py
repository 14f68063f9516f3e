"""Commands about what is in the store: `path`, `lineage`, `trials`, `release`, `verify`, `prune`."""

import argparse
import sys
from collections.abc import Sequence

from smartdevdigest_ops.artifacts import ArtifactStore
from smartdevdigest_ops.cli.command import EXIT_FAILED, Commands, relative
from smartdevdigest_ops.errors import UserError
from smartdevdigest_ops.settings import load_settings


def add_to(commands: Commands) -> None:
    """Add them."""
    path = commands.add("path", "print the directory of an asset's current version, or of another one", _path)
    path.add_argument("asset", help="ASSET or ASSET[DROP], with @VERSION: that version")

    lineage = commands.add("lineage", "where documents went, or what an artifact was made from", _lineage)
    lineage.add_argument(
        "subjects", metavar="URL|ARTIFACT", nargs="+",
        help="addresses of pages, in any spelling: every artifact that they went into, and how. Or one artifact "
        "(ASSET, ASSET[DROP], either with @VERSION, or a path): everything that it was made from",
    )  # fmt: skip
    lineage.add_argument("--documents", action="store_true", help="of an artifact: the documents, one by one")

    commands.add("trials", "every evaluated model, the settings in which they differ, and what each came to", _trials)

    release = commands.add("release", "which model is served, and how that came to be; or decide otherwise", _release)
    decision = release.add_mutually_exclusive_group()
    decision.add_argument("--promote", metavar="VERSION", help="serve this version of quantized_model, past the gate")
    decision.add_argument(
        "--rollback", metavar="VERSION", nargs="?", const="",
        help="serve the model of an earlier release (its version, or the model's); default: of the one before",
    )  # fmt: skip
    release.add_argument("--why", metavar="TEXT", help="the reason, which is kept with the decision")

    prune = commands.add("prune", "remove what the store no longer needs", _prune)
    prune.add_argument("--dry-run", action="store_true", help="remove nothing; say what would go and what that frees")

    commands.add("verify", "check every artifact's files against their hashes", _verify)


def _path(options: argparse.Namespace) -> int:
    from smartdevdigest_ops.lineage.ancestry import find_version  # noqa: PLC0415

    store = ArtifactStore(load_settings().store_dir)
    asset, partition, version = find_version(store, options.asset)
    print(store.open(asset, version, partition).path)
    return 0


def _lineage(options: argparse.Namespace) -> int:
    store = ArtifactStore(load_settings().store_dir)
    are_urls = ["://" in subject for subject in options.subjects]
    if len(options.subjects) > 1 and not all(are_urls):
        raise UserError("lineage takes several URLs, or one artifact: give artifacts one at a time.")
    if not store.root.is_dir():
        raise UserError(f"There is no store at {relative(store.root)}, so nothing was made there.")
    return _lineage_of_pages(store, options.subjects) if all(are_urls) else _lineage_of_artifact(store, options)


def _lineage_of_pages(store: ArtifactStore, urls: Sequence[str]) -> int:
    from smartdevdigest_ops.lineage.document_index import document_id  # noqa: PLC0415
    from smartdevdigest_ops.lineage.impact import find_impact  # noqa: PLC0415

    if patterns := [url for url in urls if "*" in url]:
        raise UserError(
            f"{patterns[0]!r} is a pattern, and this command asks for pages one by one. Put it into the file of "
            "data.takedown_path and run: the metadata of cleaned_corpus names all its pages and what learned from them."
        )
    found = find_impact(store, [document_id(url) for url in urls])
    for impact in found:
        print(impact)
    num_learned = sum(impact.has_learned for impact in found)
    print(
        f"{len(urls)} pages went into {len(found)} artifacts in {relative(store.root)}; {num_learned} learned from "
        "them",
        file=sys.stderr,
    )
    if found:
        print(
            "Named in the file of data.takedown_path, the pages leave the corpus at the next run, and what is current "
            "is made again without them. Older versions stay in the store until `smartdevdigest prune` removes them.",
            file=sys.stderr,
        )
    return 0


def _lineage_of_artifact(store: ArtifactStore, options: argparse.Namespace) -> int:
    from smartdevdigest_ops.lineage.ancestry import ancestry_lines, document_lines, find_version  # noqa: PLC0415

    version = find_version(store, options.subjects[0])
    for line in document_lines(store, version) if options.documents else ancestry_lines(store, version):
        print(line)
    return 0


def _trials(_: argparse.Namespace) -> int:
    from smartdevdigest_ops.evaluation.trials import read_trials, trial_lines  # noqa: PLC0415

    store = ArtifactStore(load_settings().store_dir)
    trials = read_trials(store)
    if not trials:
        raise UserError(
            f"{relative(store.root)} holds no evaluation report, so there is nothing to compare. `smartdevdigest run` "
            "makes one."
        )
    for line in trial_lines(trials):
        print(line)
    return 0


def _release(options: argparse.Namespace) -> int:
    settings = load_settings()
    store = ArtifactStore(settings.store_dir)
    if options.promote is None and options.rollback is None:
        if options.why is not None:
            raise UserError("--why is the reason of a decision: give --promote VERSION or --rollback with it.")
        from smartdevdigest_ops.release.history import history_lines  # noqa: PLC0415

        for line in history_lines(store):
            print(line)
        return 0
    from smartdevdigest_ops.release.decisions import promote, roll_back  # noqa: PLC0415

    if options.promote is not None:
        making = promote(settings, options.promote, options.why or "")
    else:
        making = roll_back(settings, options.rollback or None, options.why or "")
    decision = making.notes["decision"]
    print(f"{decision['by']}: {decision['from'] or 'no model'} -> {decision['to']}; release {making.version}")
    if (settings.store_dir / "dagster").is_dir():
        from smartdevdigest_assets.headless import dagster_instance  # noqa: PLC0415 - Dagster only where it is needed
        from smartdevdigest_assets.release import report_decision  # noqa: PLC0415

        with dagster_instance(settings.store_dir) as instance:
            report_decision(instance, making)
    return 0


def _prune(options: argparse.Namespace) -> int:
    settings = load_settings()
    if not settings.store_dir.is_dir():
        raise UserError(f"There is no store at {relative(settings.store_dir)} to prune.")
    from smartdevdigest_ops.housekeeping.prune import plan_prune, prune  # noqa: PLC0415

    if options.dry_run:
        removals = plan_prune(settings)
        for removal in removals:
            print(f"would remove {removal.name}, {removal.num_bytes:,} B")
        print(f"{len(removals)} to remove, {sum(each.num_bytes for each in removals):,} B; nothing was removed")
        print("Token ids of documents that no kept corpus_snapshot holds would go too; they are not counted here.")
        return 0
    report = prune(settings, print)
    print(f"{len(report.removed)} removed, {report.num_bytes:,} B freed, {len(report.busy)} left for the next time")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from smartdevdigest_ops.housekeeping.verify import verify_store  # noqa: PLC0415

    store = ArtifactStore(load_settings().store_dir)
    if not store.root.is_dir():
        raise UserError(f"There is no store at {relative(store.root)} to verify. `smartdevdigest run` makes one.")
    found = verify_store(store)
    problems = found.problems
    for problem in problems:
        print(problem)
    print(
        f"{found.num_artifacts} artifacts, {found.num_files} files, {len(problems)} problems in {relative(store.root)}"
    )
    if problems:
        print("Remove a damaged version's directory and run again: it is made anew.")
    return EXIT_FAILED if problems else 0
