"""Requests that are led elsewhere, asked again, and answered by nobody."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from runtime.errors import ImageError
from runtime.registry.errors import RegistryError, UnreachableError
from runtime.registry.settings import Trust
from runtime.registry.transport import Transport


class Site:
    """Answers what was scripted for a path, one after the other, the last one for ever."""

    def __init__(self):
        self.script = {}
        self.asked = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                site.asked.append((self.path, dict(self.headers)))
                answers = site.script[self.path.partition("?")[0]]
                status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def sites():
    made = [Site(), Site()]
    yield made
    for site in made:
        site.close()


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def transport(pauses, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return Transport(lambda _host: Trust(), pause=pauses.append)


def test_credentials_go_to_no_other_host(sites, transport):
    here, there = sites
    here.script = {
        "/a": [(307, {"Location": "/b"}, b"")],
        "/b": [(302, {"Location": f"{there.url}/c?sig=1"}, b"")],
    }
    there.script = {"/c": [(200, {}, b"content")]}
    with transport.request("GET", f"{here.url}/a", headers={"Authorization": "x"}) as answer:
        assert answer.content() == b"content"
        assert "sig" not in answer.url
    assert [headers.get("Authorization") for _, headers in here.asked] == ["x", "x"]
    assert "Authorization" not in there.asked[0][1]


def test_circles_end(sites, transport):
    sites[0].script = {"/a": [(302, {"Location": "/a"}, b"")]}
    with (
        pytest.raises(RegistryError, match="circles"),
        transport.request("GET", f"{sites[0].url}/a"),
    ):
        pass


def test_who_is_busy_is_asked_again_when_it_says(sites, transport, pauses):
    site = sites[0]
    site.script = {"/a": [(503, {}, b""), (429, {"Retry-After": "7"}, b""), (200, {}, b"")]}
    with transport.request("GET", f"{site.url}/a") as answer:
        assert answer.status == 200
    assert len(pauses) == 2
    assert pauses[0] < 1
    assert pauses[1] == 7


def test_who_says_much_later_is_not_waited_for(sites, transport, pauses):
    sites[0].script = {"/a": [(429, {"Retry-After": "3600"}, b"")]}
    with transport.request("GET", f"{sites[0].url}/a") as answer:
        assert answer.status == 429
    assert not pauses


def test_nobody_is_asked_a_few_times(sites, transport, pauses):
    sites[0].close()
    with (
        pytest.raises(UnreachableError, match="refused"),
        transport.request("GET", f"{sites[0].url}/a"),
    ):
        pass
    assert len(pauses) == 4


def test_what_comes_is_not_taken_without_end(sites, transport):
    sites[0].script = {"/a": [(200, {}, bytes(2000))]}
    with (
        transport.request("GET", f"{sites[0].url}/a") as answer,
        pytest.raises(RegistryError, match="more than 1000"),
    ):
        answer.content(1000)


def test_who_speaks_no_tls_is_said_to(sites, transport, pauses):
    url = sites[0].url.replace("http:", "https:")
    with pytest.raises(RegistryError, match="speaks no TLS"), transport.request("GET", f"{url}/a"):
        pass
    assert not pauses


@pytest.mark.parametrize("size", [10, 300_000])
def test_what_was_not_read_is_no_part_of_the_next_answer(sites, transport, size, pauses):
    """Refusals have a body that nobody reads, and the connection may serve the next request."""
    sites[0].script = {"/a": [(401, {}, bytes(size))], "/b": [(200, {}, b"content")]}
    for _ in range(3):
        with transport.request("GET", f"{sites[0].url}/a") as answer:
            assert answer.status == 401
        with transport.request("GET", f"{sites[0].url}/b") as answer:
            assert answer.content() == b"content"
    assert not pauses


def test_a_certificate_that_is_none_is_named(sites, tmp_path):
    (tmp_path / "ca.crt").write_text("nonsense")
    transport = Transport(lambda _host: Trust((str(tmp_path / "ca.crt"),)))
    url = sites[0].url.replace("http:", "https:")
    with pytest.raises(ImageError, match=r"ca\.crt"), transport.request("GET", f"{url}/a"):
        pass
