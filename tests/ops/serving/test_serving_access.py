import pytest

from smartdevdigest_ops.serving.access import API_KEY_VARIABLE, is_authorized, names_loopback, open_socket, read_api_key
from smartdevdigest_ops.serving.errors import ServingError

KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["localhost", "localhost:80", "127.0.0.1:8000", "127.8.8.8", "[::1]:80", "LOCALHOST"])
def test_loopback_names_are_known(host):
    assert names_loopback(host)


@pytest.mark.parametrize(
    "host",
    [None, "", ":80", "localhost.example", "127.0.0.1.example", "10.0.0.1", "[::1", "a@127.0.0.1.example"],
)
def test_other_names_are_not_taken_for_loopback(host):
    assert not names_loopback(host)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_key_is_taken_as_a_bearer_token(scheme):
    assert is_authorized(f"{scheme} {KEY}", KEY)


@pytest.mark.parametrize(
    "header", [None, "", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer", "Bearer \xe9", "Bearer "]
)
def test_anything_else_is_not_taken(header):
    assert not is_authorized(header, KEY)


@pytest.mark.parametrize("key", ["", "short", "has spaces in its midst", "\uc5f4\uc1e0" * 20, "0123456789abcdef\n"])
def test_a_key_that_could_be_guessed_or_not_be_sent_is_refused(monkeypatch, key):
    monkeypatch.setenv(API_KEY_VARIABLE, key)
    with pytest.raises(ServingError, match=API_KEY_VARIABLE):
        read_api_key()


def test_a_key_opens_other_addresses(monkeypatch):
    monkeypatch.setenv(API_KEY_VARIABLE, KEY)
    with open_socket("0.0.0.0", 0, read_api_key()) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"
    with pytest.raises(ServingError, match="others can reach"):
        open_socket("0.0.0.0", 0, None)


def test_a_port_that_is_taken_is_refused_with_what_to_do():
    with (
        open_socket("127.0.0.1", 0, None) as taken,
        pytest.raises(ServingError, match="--port"),
    ):
        open_socket("127.0.0.1", taken.getsockname()[1], None)
