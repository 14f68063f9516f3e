"""Which versions of a store must stay: roots, and whatever they were made from.

Roots are the current versions, the newest `keep_versions` of every asset (of every drop), the models and reports of the
newest `keep_releases` releases, and the inputs of makings that are in progress or were interrupted. Every release of
the chain stays itself: it is one small file, and the history. What an older one was made from does not stay for its
sake, nor for the digests that were made by it: they are whole without the model.
"""

import json
from collections import defaultdict
from collections.abc import Iterator

from smartdevdigest_ops.artifacts import INPUTS_FILE, ArtifactError, ArtifactStore, Making
from smartdevdigest_ops.lineage.impact import Version
from smartdevdigest_ops.release import release_chain
from smartdevdigest_ops.settings import StoreSettings
from smartdevdigest_ops.stage.registry import STAGE_MODULES


def versions_to_keep(store: ArtifactStore, settings: StoreSettings) -> set[Version]:
    """Versions that must stay, whether they are in the store or not.

    Raises:
        ArtifactError: something current or released is damaged, so that nobody knows what it needs.
    """
    last: dict[Version, Making] = {}
    for asset in STAGE_MODULES:
        for making in sorted(store.makings(asset), key=lambda making: making.created):
            last[making.asset, making.partition, making.version] = making
    current_makings = list(_current(store))
    kept = set(_chain(store))
    waiting = [*_newest(last, settings.keep_versions), *_released(store, settings.keep_releases), *_being_read(store)]
    for current in current_makings:
        version = (current.asset, current.partition, current.version)
        last[version] = current
        waiting.append(version)
    while waiting:
        version = waiting.pop()
        if version in kept:
            continue
        kept.add(version)
        found = last.get(version)
        if found is not None and version[0] != "release":
            waiting += found.sources()
    return kept


def _current(store: ArtifactStore) -> Iterator[Making]:
    for pointer in [*sorted(store.root.glob("*/current.json")), *sorted(store.root.glob("*/*/current.json"))]:
        asset, *partition = pointer.parent.relative_to(store.root).parts
        making = store.current_making(asset, partition[0] if partition else None)
        if making is None:
            raise ArtifactError(
                f"{pointer} names a version that is gone or damaged, so nobody knows what must stay for it. Nothing "
                "was removed. Run `smartdevdigest verify`, make it again, then prune."
            )
        yield making


def _newest(last: dict[Version, Making], number: int) -> Iterator[Version]:
    by_home: dict[tuple[str, str | None], list[Version]] = defaultdict(list)
    for version in sorted(last, key=lambda each: last[each].created, reverse=True):
        by_home[version[:2]].append(version)
    for versions in by_home.values():
        yield from versions[:number]


def _chain(store: ArtifactStore) -> Iterator[Version]:
    yield from (("release", None, release.version) for release, _ in release_chain(store))


def _released(store: ArtifactStore, number: int) -> Iterator[Version]:
    for place, (_, content) in enumerate(release_chain(store)):
        if place < number:
            yield "quantized_model", None, content["quantized_model"]
            yield "evaluation_report", None, content["evaluation_report"]


def _being_read(store: ArtifactStore) -> Iterator[Version]:
    """Inputs of makings that are not finished."""
    for file in sorted((store.root / ".scratch").glob(f"*/*/{INPUTS_FILE}")):
        try:
            inputs = json.loads(file.read_text(encoding="utf-8"))["inputs"]
        except FileNotFoundError:
            continue  # it was finished just now
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactError(
                f"{file} cannot be read ({error}), so nobody knows what an unfinished making reads. Nothing was "
                f"removed; remove {file.parent} if that making is not wanted any more."
            ) from None
        for asset, versions in inputs.items():
            for partition, version in versions.items() if isinstance(versions, dict) else [(None, versions)]:
                yield asset, partition, version
