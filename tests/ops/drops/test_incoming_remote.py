"""Drops on a web server or in a bucket: copied once, within limits, and tried again where that fails."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_server import FileServer, serving
from incoming_watch import LINE, Watch, put

from smartdevdigest_ops.drops import incoming
from smartdevdigest_ops.drops.copies import drop_key
from smartdevdigest_ops.drops.incoming_state import LEASE_SECONDS, DropState, IncomingState
from smartdevdigest_ops.drops.location import Location, LocationError
from smartdevdigest_ops.settings import SettingsError, load_settings


def test_a_forbidden_file_is_tried_again_after_pauses_that_grow_and_the_others_are_taken(
    tmp_path: Path, place: Path, server: FileServer
) -> None:
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0)
    put(place / "a.jsonl"), put(place / "b.jsonl", LINE + " ")
    server.forbidden = {"a.jsonl"}
    said = [len(watch.look().new_unreadable) for _ in range(10)]
    assert said == [1, 0, 1, 0, 0, 0, 1, 0, 0, 0]  # every 30 s: at once, after 1 minute, after 2 more
    assert "403" in watch.look().unreadable[f"{server.url}a.jsonl"]
    server.forbidden = set()
    watch.now += 3600
    assert watch.keys() == {name: drop_key(place / name) for name in ("a.jsonl", "b.jsonl")}
    assert watch.look().unreadable == {}


def test_a_remote_drop_is_copied_once_and_looked_at_again_only_from_outside(
    tmp_path: Path, place: Path, server: FileServer
) -> None:
    watch = Watch(tmp_path, server.url)
    file = put(place / "2026-10-05 a.jsonl")
    keys = [watch.keys() for _ in range(4)]
    assert keys == [{"2026-10-05%20a.jsonl": None}] + [{"2026-10-05%20a.jsonl": drop_key(file)}] * 3
    assert server.sent == ["2026-10-05%20a.jsonl"]
    (copy,) = (watch.store.root / "drops" / drop_key(file)).iterdir()
    assert copy.read_text() == LINE
    assert not list((watch.store.root / ".staging").iterdir())


def test_a_transfer_that_breaks_off_leaves_nothing_and_is_tried_again(
    tmp_path: Path, place: Path, server: FileServer
) -> None:
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0)
    file = put(place / "a.jsonl", LINE * 1000)
    server.cut_short = {"a.jsonl"}
    look = watch.look()
    assert list(look.unreadable) == [f"{server.url}a.jsonl"]
    assert not (watch.store.root / "drops" / drop_key(file)).exists()
    server.cut_short = set()
    watch.now += 60
    assert watch.keys() == {"a.jsonl": drop_key(file)}


def test_a_file_that_a_look_died_on_holds_up_no_later_look(tmp_path: Path, place: Path, server: FileServer) -> None:
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0)
    put(place / "a_hangs.jsonl"), put(place / "b.jsonl", LINE + " ")
    server.never_sent = {"a_hangs.jsonl"}
    code = (
        "import sys, time; from smartdevdigest_ops.artifacts import ArtifactStore\n"
        "from smartdevdigest_ops.drops.incoming import look_at\n"
        "from smartdevdigest_ops.drops.incoming_state import IncomingState\n"
        "from smartdevdigest_ops.drops.location import Location\n"
        "from smartdevdigest_ops.settings import load_settings\n"
        "settings = load_settings('ci'); store = ArtifactStore(settings.store_dir)\n"
        "with IncomingState(store) as state:\n"
        "    look_at(Location(settings.data.incoming_path), settings.data, store, state, time.time())\n"
    )
    overrides = f"{{data: {{incoming_path: '{server.url}', drop_settled_seconds: 0}}}}"
    environment = os.environ | {
        "SMARTDEVDIGEST_STORE": str(watch.store.root), "SMARTDEVDIGEST_OVERRIDES": overrides,
    }  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], env=environment) as looking:
        while "a_hangs.jsonl" not in server.sent:
            assert looking.poll() is None
            time.sleep(0.05)
        looking.kill()
    assert watch.keys() == {"a_hangs.jsonl": None, "b.jsonl": drop_key(place / "b.jsonl")}
    watch.now += LEASE_SECONDS
    (large,) = watch.look().large  # for a run of its own, which may hang as long as it likes
    assert large.path == f"{server.url}a_hangs.jsonl"


def test_a_drop_that_may_never_be_copied_says_which_setting_forbids_it(
    tmp_path: Path, place: Path, server: FileServer
) -> None:
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0, copies_gib=1e-6)
    put(place / "a.jsonl", LINE * 100), put(place / "b.jsonl")
    look = watch.look()
    assert "data.copies_gib" in look.unreadable[f"{server.url}a.jsonl"]
    assert look.files[f"{server.url}b.jsonl"].key == drop_key(place / "b.jsonl")


def test_copies_of_drops_that_were_taken_in_make_room_and_those_that_wait_do_not(
    tmp_path: Path, place: Path, server: FileServer
) -> None:
    # Room for two files of 1,000 bytes.
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0, copies_gib=2500 / 2**30)
    for name in "abc":
        put(place / f"{name}.jsonl", name * 1000)
    keys = {name: drop_key(place / f"{name}.jsonl") for name in "abc"}
    look = watch.look()
    assert look.waiting == ["c.jsonl"]
    with IncomingState(watch.store) as state:
        state.put_drops([DropState(keys["a"], "", "requested", 0), DropState(keys["b"], "", "taken", 0)])
    assert watch.keys()["c.jsonl"] == keys["c"]
    kept = {path.name for path in (watch.store.root / "drops").iterdir() if path.is_dir()}
    assert kept == {keys["a"], keys["c"]}


def test_a_body_without_end_stops_at_the_limit_of_a_look_and_then_at_that_of_all_copies(
    tmp_path: Path, place: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_REMOTE_BYTES", 100_000)
    watch = Watch(tmp_path, server.url, drop_settled_seconds=0, copies_gib=1_000_000 / 2**30)
    put(place / "a.jsonl"), put(place / "b.jsonl", LINE + " ")
    server.endless = {"a.jsonl"}
    look = watch.look()
    assert [file.path for file in look.large] == [f"{server.url}a.jsonl"]
    assert look.files[f"{server.url}b.jsonl"].key == drop_key(place / "b.jsonl")
    with pytest.raises(LocationError, match=r"larger than data\.copies_gib"):
        watch.identify(f"{server.url}a.jsonl")
    assert list(watch.look().unreadable) == [f"{server.url}a.jsonl"]
    assert not list((watch.store.root / ".staging").iterdir())


def test_objects_of_a_bucket_are_taken_and_rewritten_ones_again(tmp_path: Path) -> None:
    import fsspec

    bucket = fsspec.filesystem("memory")
    bucket.pipe({"/bucket/in/a.jsonl": b"1", "/bucket/in/b.txt": b"2", "/bucket/in/deep/c.jsonl": b"3"})
    try:
        watch = Watch(tmp_path, "memory://bucket/in", drop_settled_seconds=0)
        first = watch.keys()
        assert list(first) == ["a.jsonl"]
        bucket.pipe("/bucket/in/a.jsonl", b"4")
        assert watch.keys()["a.jsonl"] not in (None, first["a.jsonl"])
        assert list(Watch(tmp_path, "memory://bucket/in/*/*.jsonl", drop_settled_seconds=0).keys()) == ["c.jsonl"]
        assert Watch(tmp_path, "memory://bucket/nothing").look().files == {}
    finally:
        bucket.rm("/bucket", recursive=True)


def test_a_location_that_cannot_be_listed_says_so(tmp_path: Path, place: Path) -> None:
    with serving(place) as server:
        watch = Watch(tmp_path, server.url)
    with pytest.raises(LocationError, match=r"cannot be listed.*No drop is seen"):
        watch.look()
    for url in ("nosuch://bucket/in", "oci://bucket/in"):
        with pytest.raises(LocationError, match="cannot be watched"):
            Location(url)


@pytest.mark.parametrize("url", ["ftp://me:secret@host/in", "zip://*.jsonl::s3://bucket/a.zip"])
def test_a_location_with_a_password_or_a_chain_is_refused_with_the_settings(url: str) -> None:
    with pytest.raises(SettingsError, match=r"data\.incoming_path"):
        load_settings("ci", overrides={"data": {"incoming_path": url}})
