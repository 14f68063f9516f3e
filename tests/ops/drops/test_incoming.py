"""Looking at the place where drops land: what is ready, what is read, what is passed over."""

import os
import time
from pathlib import Path

import pytest
from incoming_watch import LINE, Watch, put

from smartdevdigest_ops.drops import copies, identify, incoming
from smartdevdigest_ops.drops.copies import drop_key
from smartdevdigest_ops.drops.incoming_state import LEASE_SECONDS, IncomingState

DAY = 86400.0


def test_a_file_is_taken_once_it_stood_still_over_two_looks(watch: Watch, place: Path) -> None:
    file = put(place / "a.jsonl")
    assert watch.look().waiting == ["a.jsonl"]
    assert watch.keys() == {"a.jsonl": drop_key(file)}
    assert watch.look().waiting == []


def test_a_file_that_grows_is_not_taken(watch: Watch, place: Path) -> None:
    file = place / "a.jsonl"
    for number in range(4):
        put(file, LINE + " " * number)
        assert watch.keys() == {"a.jsonl": None}
    assert watch.keys() == {"a.jsonl": drop_key(file)}


def test_a_file_seen_twice_within_the_settling_time_waits(watch: Watch, place: Path) -> None:
    file = put(place / "a.jsonl")
    watch.look()
    os.utime(file, (watch.now + 30, watch.now + 30))
    watch.look()
    watch.now -= 25
    assert watch.keys() == {"a.jsonl": None}
    assert watch.keys() != {"a.jsonl": None}


def test_a_file_from_a_writer_whose_clock_is_ahead_is_taken(watch: Watch, place: Path) -> None:
    file = put(place / "a.jsonl")
    os.utime(file, (watch.now + DAY, watch.now + DAY))
    watch.look()
    assert watch.keys() == {"a.jsonl": drop_key(file)}


def test_without_a_settling_time_a_file_is_taken_at_first_sight(tmp_path: Path, place: Path) -> None:
    put(place / "a.jsonl")
    assert Watch(tmp_path, place, drop_settled_seconds=0).keys() == {"a.jsonl": drop_key(place / "a.jsonl")}


def test_with_markers_a_file_is_taken_when_its_marker_is_there_and_again_when_both_changed(
    tmp_path: Path, place: Path
) -> None:
    watch = Watch(tmp_path, place, drop_ready="done")
    file = put(place / "a.jsonl")
    assert [watch.keys() for _ in range(3)] == [{"a.jsonl": None}] * 3
    marker = place / "a.jsonl.done"
    marker.touch()
    first = watch.keys()["a.jsonl"]
    assert first == drop_key(file)
    put(file, LINE + "\n" + LINE)
    assert [watch.keys() for _ in range(3)] == [{"a.jsonl": None}] * 3  # its writer is not done again
    os.utime(marker, (watch.now, watch.now))
    assert watch.keys() == {"a.jsonl": drop_key(file)}
    assert watch.look().unknown == []


def test_a_large_file_keeps_the_marker_that_it_was_read_with(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_LOCAL_BYTES", 1)
    watch = Watch(tmp_path, place, drop_ready="done")
    file, marker = put(place / "a.jsonl"), put(place / "a.jsonl.done", "")
    assert [len(watch.look().large) for _ in range(2)] == [1, 0]
    assert watch.identify(file) == drop_key(file)
    put(file, LINE + "\n" + LINE)
    assert watch.look().large == []
    os.utime(marker, (watch.now, watch.now))
    assert [large.path for large in watch.look().large] == [str(file)]


def test_hidden_and_unfinished_files_are_not_mentioned_and_unknown_formats_once(watch: Watch, place: Path) -> None:
    for name in (".a.jsonl", "b.jsonl.part", "c.jsonl.tmp", "notes.txt", "_SUCCESS"):
        put(place / name)
    (place / "dir.jsonl").mkdir()
    os.mkfifo(place / "pipe.jsonl")
    (place / "nowhere.jsonl").symlink_to(place / "missing")
    looks = [watch.look() for _ in range(3)]
    assert [sorted(look.new_unknown) for look in looks] == [["_SUCCESS", "notes.txt"], [], []]
    assert sorted(looks[2].unknown) == ["_SUCCESS", "notes.txt"]
    assert looks[2].files == {}


def test_a_name_that_is_no_unicode_is_counted_and_holds_up_nothing(watch: Watch, place: Path) -> None:
    Path(os.fsdecode(os.fsencode(place) + b"/\xff.jsonl")).write_text(LINE)
    put(place / "a.jsonl")
    watch.look()
    look = watch.look()
    assert look.unknown == ["\\udcff.jsonl"]
    assert [file.key for file in look.files.values()] == [drop_key(place / "a.jsonl")]


def test_a_link_is_its_target(watch: Watch, place: Path, tmp_path: Path) -> None:
    target = put(tmp_path / "elsewhere.jsonl")
    (place / "a.jsonl").symlink_to(target)
    watch.look()
    assert watch.keys() == {"a.jsonl": drop_key(target)}
    put(target, LINE + "\n" + LINE)
    watch.look()
    assert watch.keys() == {"a.jsonl": drop_key(target)}


def test_a_known_file_is_not_read_again_until_something_about_it_changes(watch: Watch, place: Path) -> None:
    file = put(place / "a.jsonl")
    watch.look()
    key = watch.keys()["a.jsonl"]
    status = file.stat()
    file.write_text(LINE.upper())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert watch.keys() == {"a.jsonl": key}  # nothing to be seen from outside
    other = put(place / "b.tmp", LINE.lower())
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(file)  # same size and time, another file
    watch.look()
    assert watch.keys() == {"a.jsonl": drop_key(file)}
    assert drop_key(file) != key


def test_a_pattern_watches_files_in_directories_below(tmp_path: Path, place: Path) -> None:
    for day in ("2026-10-05", "2026-10-06"):
        (place / day).mkdir()
        put(place / day / "part-0.jsonl", LINE + day)
    put(place / "top.jsonl")
    watch = Watch(tmp_path, place / "*" / "*.jsonl", drop_settled_seconds=0)
    assert [Path(path).parent.name for path in watch.look().files] == ["2026-10-05", "2026-10-06"]


def test_files_that_went_are_forgotten(watch: Watch, place: Path) -> None:
    file = put(place / "a.jsonl")
    watch.look()
    file.unlink()
    watch.look()
    with IncomingState(watch.store) as state:
        assert state.files() == {}


def test_a_place_that_does_not_exist_yet_is_empty(watch: Watch, place: Path) -> None:
    place.rmdir()
    assert watch.look().files == {}


def test_a_large_file_is_left_to_a_run_that_finds_its_drop(
    watch: Watch, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_LOCAL_BYTES", len(LINE))
    large, small = put(place / "large.jsonl", LINE * 2), put(place / "small.jsonl")
    watch.look()
    look = watch.look()
    assert [file.path for file in look.large] == [str(large)]
    assert look.files[str(small)].key == drop_key(small)
    assert watch.look().large == []  # its run is under way
    assert watch.identify(large) == drop_key(large)
    assert watch.keys() == {"large.jsonl": drop_key(large), "small.jsonl": drop_key(small)}


def test_a_large_file_whose_run_died_is_given_to_another(
    watch: Watch, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_LOCAL_BYTES", 1)
    put(place / "large.jsonl")
    watch.look()
    first = watch.look().large
    watch.now += LEASE_SECONDS
    second = watch.look().large
    assert [file.num_tries for file in (*first, *second)] == [1, 2]


def test_a_run_that_still_reads_a_large_file_says_so_all_the_time(
    watch: Watch, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_LOCAL_BYTES", 1)
    file = put(place / "large.jsonl")
    watch.look()
    watch.look()
    monkeypatch.setattr(copies, "_READ_BYTES", 10)
    monkeypatch.setattr(identify, "LEASE_SECONDS", 0)  # to be renewed at every piece
    leases = []
    renew = IncomingState.renew_lease

    def renew_and_note(state: IncomingState, path: str, signature: str) -> None:
        renew(state, path, signature)
        renewed = state.file(path)
        assert renewed is not None
        leases.append(renewed.retry_after - time.time())

    monkeypatch.setattr(IncomingState, "renew_lease", renew_and_note)
    assert watch.identify(file) == drop_key(file)
    assert len(leases) >= len(LINE) // 10
    assert min(leases) > 0.9 * LEASE_SECONDS


def test_a_file_that_changed_before_its_run_is_not_taken_for_what_it_was(
    watch: Watch, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "_MAX_LOCAL_BYTES", 1)
    file = put(place / "large.jsonl")
    watch.look()
    assert len(watch.look().large) == 1
    put(file, LINE * 3)
    assert watch.identify(file) is None


def test_a_file_without_permission_is_passed_over_and_the_others_are_taken(watch: Watch, place: Path) -> None:
    file, other = put(place / "a.jsonl"), put(place / "b.jsonl", LINE + " ")
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user reads everything")
    watch.look()
    look = watch.look()
    assert "Permission denied" in look.unreadable[str(file)]
    assert look.files[str(other)].key == drop_key(other)


def test_a_damaged_state_is_made_again_from_the_files(watch: Watch, place: Path) -> None:
    put(place / "a.jsonl")
    watch.look()
    keys = watch.keys()
    (watch.store.root / "drops" / "incoming.sqlite").write_bytes(b"no database" * 1000)
    watch.look()
    assert watch.keys() == keys


def test_another_location_starts_afresh(tmp_path: Path, place: Path) -> None:
    put(place / "a.jsonl")
    Watch(tmp_path, place).look()
    (tmp_path / "other").mkdir()
    other = Watch(tmp_path, tmp_path / "other")
    assert other.look().files == {}
    with IncomingState(other.store) as state:
        assert state.files() == {}
