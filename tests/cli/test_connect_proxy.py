"""``trio-ws connect --proxy``: through which proxy, and what it says when that fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import trio

from trio_ws import serve_websocket
from trio_ws._cli.certificates import written_to_file
from trio_ws._cli.running import WRONG_USAGE, Failure

from ..raw import authority
from ..serving import echo
from ..small_proxies import SmallProxy
from .program import run_command, standard_input
from .servers import echo_and_close, start_server, told

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "Pa55-word"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def ca_file() -> Iterator[str]:
    """The authority of the tests, in a file."""
    with written_to_file(authority()) as path:
        yield path


@pytest.mark.parametrize("scheme", ["http", "https", "socks5"])
async def test_a_proxy_is_gone_through(
    scheme: str, ca_file: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str]
) -> None:
    url = await start_server(nursery, echo_and_close(1))
    proxy = SmallProxy(scheme)
    async with proxy.running() as place, standard_input(b"hello\n", ends=False):
        command = ("connect", url, "--proxy", f"{scheme}://user:{SECRET}@{place}", "--ca-file", ca_file)
        assert await run_command(*command) == 0
    output, notices = told(capfd)
    assert output == "< hello\n"
    assert SECRET not in "".join(notices)
    assert len(proxy.targets) == 1


async def test_the_environment_is_asked_only_if_it_is_wanted(
    nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = await start_server(nursery, echo_and_close(1))
    proxy = SmallProxy()
    async with proxy.running() as place:
        monkeypatch.setenv("http_proxy", f"http://{place}")
        for arguments, used in ((), 0), (("--proxy", "env"), 1):
            async with standard_input(b"hello\n", ends=False):
                assert await run_command("connect", url, *arguments) == 0
            assert len(proxy.targets) == used
    assert told(capfd)[0] == "< hello\n< hello\n"


async def test_a_proxy_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(Failure, match=r"^cannot connect to ws://a/: Connection refused, while .* proxy") as caught:
        await run_command("connect", "ws://a/", "--proxy", f"http://user:{SECRET}@127.0.0.1:1")
    assert str(caught.value).endswith("http://127.0.0.1:1")


@pytest.mark.parametrize("value", ["ftp://proxy", f"http://user:{SECRET}@proxy:port", f"socks5://{SECRET}@proxy"])
async def test_a_wrong_proxy_is_wrong_usage_and_its_secrets_are_not_told(value: str) -> None:
    with pytest.raises(Failure) as caught:
        await run_command("connect", "ws://a/", "--proxy", value)
    assert caught.value.status == WRONG_USAGE
    assert SECRET not in str(caught.value)


async def test_a_missing_extra_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "python_socks", None)
    with pytest.raises(Failure, match=r"trio-ws\[socks\]") as caught:
        await run_command("connect", "ws://a/", "--proxy", "socks5://proxy")
    assert caught.value.status == WRONG_USAGE


async def test_a_proxy_and_a_unix_socket_exclude_each_other(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        await run_command("connect", "ws://a/", "--proxy", "http://proxy", "--unix", "/socket")
    assert "not allowed with argument" in capfd.readouterr().err


@pytest.mark.parametrize("proxy", ["env", "URL"])
async def test_bench_goes_through_a_proxy_too(
    proxy: str, nursery: trio.Nursery, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await nursery.start(serve_websocket, echo, "127.0.0.1", 0)
    small = SmallProxy()
    async with small.running() as place:
        monkeypatch.setenv("http_proxy", place)
        value = "env" if proxy == "env" else f"http://{place}"
        url = f"ws://127.0.0.1:{server.port}/"
        assert await run_command("bench", url, "--proxy", value, "--connections", "2", "--duration", "0.1") == 0
    assert len(small.targets) == 2
