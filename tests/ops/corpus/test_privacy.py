"""What is masked, what must stay, and that masking breaks nothing.

`privacy_cases.jsonl` holds made-up texts, Korean and English, prose and code, in which what is private is marked
`⟦kind:text⟧`; a text without a mark holds lookalikes only. Every name, number and key in it is invented: registration
numbers carry region codes that were never given out, and one character of each key is written as a JSON escape, so that
secret scanners leave the file alone.
"""

import ast
import json
import re
import string
import time
from itertools import pairwise
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks.privacy_cases import Case, read_cases, score_cases
from smartdevdigest_ops.corpus.markdown import segments
from smartdevdigest_ops.corpus.privacy import find_private, mask_private
from smartdevdigest_ops.settings.corpus import PrivacySettings, PrivateKind

CASES = read_cases(Path(__file__).with_name("privacy_cases.jsonl"))
SETTINGS = PrivacySettings()

# Precision and recall. One case of each kind may turn before a floor breaks, so that a rule can be traded for another.
# Known misses: an address spelled "name at host dot tld", phone numbers without label or country code, a number read
# out in words, a key in a variable that is called `s`, a password glued to `-p`, a recovery key in groups of five.
FLOORS: dict[PrivateKind, tuple[float, float]] = {
    "email": (0.98, 0.96),
    "phone": (0.97, 0.93),
    "resident_number": (0.97, 0.97),
    "card": (0.96, 0.96),
    "ip_address": (0.97, 0.97),
    "api_key": (0.99, 0.97),
}


@pytest.mark.parametrize("kind", get_args(PrivateKind))
def test_precision_and_recall_stay_above_their_floors(kind: PrivateKind) -> None:
    score = score_cases(CASES, SETTINGS)[kind]
    assert score.num_marked >= 20
    precision, recall = FLOORS[kind]
    assert score.precision >= precision, "\n".join(score.wrong)
    assert score.recall >= recall, "\n".join(score.wrong)


def test_the_cases_are_many_and_of_every_sort() -> None:
    assert len(CASES) >= 400
    for language in ("ko", "en"):
        for place in ("prose", "code"):
            sort = [case for case in CASES if (case.language, case.place) == (language, place)]
            assert sum(bool(case.private) for case in sort) >= 25
            assert sum(not case.private for case in sort) >= 15


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
def test_masking_removes_what_it_counts_and_a_second_time_changes_nothing(case: Case) -> None:
    found = find_private(case.text, SETTINGS)
    masked = mask_private(case.text, SETTINGS)
    assert sum(masked.counts.values()) == len(found)
    assert all(case.text[each.start : each.end] not in masked.text for each in found)
    assert mask_private(masked.text, SETTINGS) == type(masked)(masked.text, {})
    assert [piece.is_code for piece in segments(masked.text)] == [piece.is_code for piece in segments(case.text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("문의는 minji@garam.kr로", "문의는 [email]로"),
        ("`minji@garam.kr`", "`email@example.com`"),
        ("[minji](mailto:minji@garam.kr)", "[minji](mailto:email@example.com)"),
        ("minji@garam.kr(민지)", "email@example.com(민지)"),
        ("서버 51.89.203.114입니다", "서버 [ip_address]입니다"),
        ("http://51.89.203.114:8080/x", "http://192.0.2.1:8080/x"),
        ("`ping 2a01:4f8:c17:b8f::2`", "`ping 2001:db8::1`"),
        (
            "`51.89.203.114 a@quay.kr 51.89.203.115 b@quay.kr 51.89.203.114 A@quay.kr`",
            "`192.0.2.1 email@example.com 192.0.2.2 email2@example.com 192.0.2.1 email@example.com`",
        ),
        ("전화 010-8264-9307", "전화 [phone]"),
        ('`phone = "010-8264-9307"`', '`phone = "999-9999-9999"`'),
        ("[전화](tel:+82-10-8264-9307)", "[전화](tel:+99-99-9999-9999)"),
        ("postgres://app:hV93kd0sLqPz@db.garam.kr/x", "postgres://app:removed_api_key@db.garam.kr/x"),
        ("비밀번호는 Zk49vQm2Xw8Lt7Rb입니다", "비밀번호는 [api_key]입니다"),
    ],
)
def test_prose_names_the_kind_and_code_or_links_get_a_harmless_value(text: str, expected: str) -> None:
    assert mask_private(text, SETTINGS).text == expected


def test_json_python_and_addresses_still_parse_when_masked() -> None:
    parsed = 0
    for case in CASES:
        masked = mask_private(case.text, SETTINGS).text
        for language, body in re.findall(r"```(json|python)\n(.*?)```", masked, re.DOTALL):
            original = case.text[case.text.index("\n") + 1 : case.text.rindex("```")]
            if language == "json" and original.startswith("{"):
                assert json.loads(body).keys() == json.loads(original).keys()
                parsed += 1
            elif language == "python" and "def f" not in body and "..." not in body:
                assert ast.dump(ast.parse(body)).count("(") == ast.dump(ast.parse(original)).count("(")
                parsed += 1
        for address in re.findall(r"[a-z+]+://[^\s\"'`()\[\]<>]+", masked):
            urlsplit(address)
    assert parsed > 20


def test_a_private_key_keeps_its_first_and_last_line() -> None:
    body = "\n".join(["MIIEpAIBAAKCAQEAx7Qm2Vw9LkTz4RbN8sYc3Jd0HfGpUa5EoXi1KqZr6MvWtBnD"] * 3)
    text = f"-----BEGIN RSA PRIVATE KEY-----\n{body}\n-----END RSA PRIVATE KEY-----"
    masked = mask_private(text, SETTINGS)
    assert masked.text == "-----BEGIN RSA PRIVATE KEY-----\n[api_key]\n-----END RSA PRIVATE KEY-----"
    assert masked.counts == {"api_key": 1}


def test_settings_choose_the_kinds_and_what_is_kept() -> None:
    text = "help@garam.kr, minji@garam.kr, 51.89.203.114"
    assert mask_private(text, PrivacySettings(kinds=("ip_address",))).counts == {"ip_address": 1}
    kept = mask_private(text, PrivacySettings(keep=("help@garam.kr",)))
    assert kept.text == "help@garam.kr, [email], [ip_address]"
    strict, lax = PrivacySettings(min_key_entropy_bits=5), PrivacySettings(min_key_entropy_bits=2)
    assert not mask_private('api_key = "a1a1b2b2c3c3a1b2c3"', strict).counts
    assert mask_private('api_key = "a1a1b2b2c3c3a1b2c3"', lax).counts == {"api_key": 1}


def test_the_same_thing_counts_each_time_it_stands_there() -> None:
    assert mask_private("minji@garam.kr minji@garam.kr 010-8264-9307", SETTINGS).counts == {"email": 2, "phone": 1}


BASE62 = string.ascii_letters + string.digits
KEYS = st.one_of(
    st.text(BASE62, min_size=36, max_size=36).map(lambda body: f"ghp_{body}"),
    st.text(BASE62, min_size=34, max_size=34).map(lambda body: f"hf_{body}"),
    st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", min_size=16, max_size=16).map(lambda body: f"AKIA{body}"),
).filter(
    lambda key: len(set(key)) > 14 and any(map(str.isdigit, key)) and not re.search(r"(?i)(.)\1|xx|exam|pass", key)
)
NAMES = st.from_regex(r"[a-z]{3,8}\.[a-z]{3,8}", fullmatch=True)
EMAILS = st.tuples(NAMES, st.from_regex(r"[b-w]{4,12}", fullmatch=True)).map(
    lambda parts: f"{parts[0]}@{parts[1]}-lab.kr"
)
PHONES = st.tuples(st.integers(2000, 9999), st.integers(0, 9999)).map(lambda ends: f"010-{ends[0]}-{ends[1]:04d}")
FRAMES = st.sampled_from(
    [
        "{}",
        "연락: {}입니다.",
        "see {} now",
        '```json\n{{"value": "{}"}}\n```',
        "`{}`",
        "| a | {} |",
        "- {}\n- x",
        "({})",
    ]
)
PLAIN = st.text(st.sampled_from("가나 \n*_#`|.,"), max_size=40)


def _is_counted(number: str) -> bool:
    return any(len({(int(b) - int(a)) % 10 for a, b in pairwise(run)}) == 1 for run in number.split("-"))


@settings(max_examples=300, deadline=None)
@given(KEYS | EMAILS | PHONES.filter(lambda number: not _is_counted(number)), FRAMES, PLAIN, PLAIN)
def test_what_is_private_never_survives_wherever_it_stands(secret: str, frame: str, before: str, after: str) -> None:
    text = f"{before}\n\n{frame.format(secret)}\n\n{after}"
    assert secret not in mask_private(text, SETTINGS).text


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("ab01259@.:-/+()[]`=_ \n가키token")) | st.text())
@example("[email](x) key=[api_key]: `1.2.3.4`\n999-9999-9999 -----BEGIN PRIVATE KEY-----")
@example("-----BEGIN PRIVATE KEY-----" + "\\n" * 70 + "-----END PRIVATE KEY-----")
def test_masking_any_text_twice_is_masking_it_once(text: str) -> None:
    masked = mask_private(text, SETTINGS)
    assert mask_private(masked.text, SETTINGS).text == masked.text


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit",
    [
        *("@", "a@", "a@b.c.d.e.f.g.h.", "a@b.co ", "1", " 1", "1.2.3.4 ", ".1", ":", "a:b:", "://", "://a:b@", "( "),
        *("010-2345-6789 ", "4539 ", "-----BEGIN PRIVATE KEY-----\n", "eyJaaaaaaaaaaaa.", "sk-", "key=", "--token "),
        *(
            "token=a1B2c3D4e5F6g7H8i9 ",
            "earer a",
            "--a-",
            "curl -u a:b ",
            "a(at)",
            "?sig=",
            "전화1",
            "\\n",
            "`",
            "[at]",
        ),
    ],
)
def test_hostile_repetition_takes_no_quadratic_time(unit: str) -> None:
    # Linear work on so much takes 0.3 s at most, quadratic work of the cheapest pattern (`a.*@` of "aaa...") 14 s. CPU
    # time, which does not grow when other processes want the core.
    repeated = unit * ((1 << 17) // len(unit))
    started = time.process_time()
    mask_private(f"-----BEGIN PRIVATE KEY-----{repeated}-----END PRIVATE KEY-----", SETTINGS)
    assert time.process_time() - started < 3


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_eight_mebibytes_with_forty_thousand_findings_are_masked() -> None:
    unit = f"{'The queue drains before the node stops. ' * 9}minji@garam.kr token=a1B2c3D4e5F6g7H8i9\n"
    count = (1 << 23) // len(unit)
    masked = mask_private(unit * count, SETTINGS)
    assert masked.counts == {"api_key": count, "email": count}
    assert "minji" not in masked.text
    assert "a1B2c3" not in masked.text
