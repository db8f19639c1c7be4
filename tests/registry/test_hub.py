"""Models of the Hub are downloaded at a commit and compared with what the Hub states."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from fairlead.domain.errors import (
    FairleadError,
    InvalidInput,
    ModelFileRefused,
    NotFound,
    Unauthorized,
    Unavailable,
)
from fairlead.registry import BuildInput, HubSettings, Registry
from registry.hub_server import COMMIT, HubServer
from registry.model_writer import Tensor, gguf, safetensors

Given = Callable[..., BuildInput]
ONE = "hf://org/repo@main"
LARGE = gguf(tensors=[Tensor(shape=(1024, 2048), kind=8)])


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is reached directly, whatever the environment says."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def registry(root: object, hub: HubServer) -> Registry:
    settings = HubSettings(url=hub.url, timeout_s=5.0, retry_waits_s=(0.0, 0.0, 0.0))
    return Registry(root, hub=settings)  # type: ignore[arg-type]


@pytest.fixture
def elsewhere() -> Iterator[HubServer]:
    """Where the Hub's files lie: another origin."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_download_is_the_same_release_as_the_local_file(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files = {"README.md": b"# x", "m.gguf": gguf()}
    entry = registry.build(given(model=ONE), now=1.0)
    assert entry.source == f"hf://org/repo@{COMMIT}"
    assert entry.digest == registry.build(given(), now=2.0).digest
    assert registry.weights(entry.digest)[0].read_bytes() == gguf()


def test_safetensors_come_with_configuration_and_tokenizer(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files = {
        "config.json": b'{"a":1}',
        "model.safetensors": safetensors(),
        "pytorch_model.bin": b"\x80\x02",
        "pytorch_model.bin.index.json": b"{}",
        "tokenizer.json": b"{}",
        "sub/other.safetensors": safetensors(),
    }
    entry = registry.build(given(model=ONE), now=1.0)
    paths = registry.weights(entry.digest)
    assert [path.name for path in paths] == ["model.safetensors", "config.json", "tokenizer.json"]
    assert [path.read_bytes() for path in paths] == [hub.files[path.name] for path in paths]


def test_one_file_of_several_can_be_named(registry: Registry, hub: HubServer, given: Given) -> None:
    hub.files = {"q/a.gguf": gguf(), "q/b.gguf": gguf(fill=b"\2"), "c.gguf": gguf(fill=b"\3")}
    entry = registry.build(given(model=f"{ONE}/q/b.gguf"), now=1.0)
    assert registry.weights(entry.digest)[0].read_bytes() == hub.files["q/b.gguf"]
    assert entry.source == f"hf://org/repo@{COMMIT}/q/b.gguf"
    with pytest.raises(NotFound, match=r"has no file q/x\.gguf"):
        registry.build(given(model=f"{ONE}/q/x.gguf"), now=1.0)
    hub.files["d.gguf"] = gguf()
    with pytest.raises(InvalidInput, match=r"several models: c\.gguf, d\.gguf"):
        registry.build(given(model=ONE), now=1.0)


def test_a_stored_file_is_not_downloaded_again(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files = {"m.gguf": gguf()}
    registry.build(given(), now=1.0)
    registry.build(given(model=ONE), now=2.0)
    assert [path for path, _ in hub.requests] == ["/api/models/org/repo/revision/main"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(
    ranges: bool, registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files, hub.ranges = {"m.gguf": LARGE}, ranges
    hub.break_off_at = [1_500_000, 100]
    entry = registry.build(given(model=ONE), now=1.0)
    assert registry.weights(entry.digest)[0].read_bytes() == LARGE
    downloads = [headers.get("Range") for path, headers in hub.requests if "resolve" in path]
    assert downloads[0] is None
    assert len(downloads) == 3
    assert downloads[1] == "bytes=1500000-"


REFUSED: list[tuple[str, bytes, str]] = [
    ("m.gguf", gguf(fill=b"\2"), "the Hub states"),
    ("m.gguf", gguf() + b"x", "more than the"),
    ("config.json", b'{"b":2}', "the Hub states"),
]


@pytest.mark.parametrize(("name", "served", "why"), REFUSED)
def test_what_is_not_as_stated_is_refused_and_nothing_changes(
    name: str,
    served: bytes,
    why: str,
    registry: Registry,
    hub: HubServer,
    given: Given,
    files_in: Callable[[], dict[str, bytes]],
) -> None:
    weights = {"m.gguf": gguf()} if name == "m.gguf" else {"model.safetensors": safetensors()}
    hub.files = {**weights, "config.json": b'{"a":1}'}
    hub.served = {name: served}
    before = files_in()
    with pytest.raises(ModelFileRefused, match=why):
        registry.build(given(model=ONE), now=1.0)
    assert files_in() == before


def test_a_truncated_or_never_ending_trouble_is_given_up(
    registry: Registry, hub: HubServer, given: Given, files_in: Callable[[], dict[str, bytes]]
) -> None:
    hub.files = {"m.gguf": LARGE}
    hub.break_off_at = [10] * 9
    before = files_in()
    with pytest.raises(Unavailable, match=r"broke off at 40 of 2,\d{3},\d{3} bytes"):
        registry.build(given(model=ONE), now=1.0)
    assert files_in() == before


def test_a_pickle_is_refused_before_it_is_downloaded(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files = {"pytorch_model.bin": b"\x80\x02"}
    for model in (ONE, f"{ONE}/pytorch_model.bin"):
        with pytest.raises(ModelFileRefused, match="pickles"):
            registry.build(given(model=model), now=1.0)
    assert not any("resolve" in path for path, _ in hub.requests)


def test_a_bad_model_from_the_hub_is_refused(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files = {"m.gguf": gguf(version=9)}
    with pytest.raises(ModelFileRefused, match=rf"hf://org/repo@{COMMIT[:12]}/m\.gguf: has GGUF"):
        registry.build(given(model=ONE), now=1.0)


def test_the_token_opens_a_repository_and_goes_to_no_other_host(
    registry: Registry, hub: HubServer, elsewhere: HubServer, given: Given
) -> None:
    hub.files = elsewhere.files = {"m.gguf": gguf()}
    hub.token, hub.redirect = "hf_secret", elsewhere.url
    with pytest.raises(Unauthorized, match="refuses access") as caught:
        registry.build(given(model=ONE), now=1.0)
    assert "HF_TOKEN" in str(caught.value.hint)
    with pytest.raises(Unauthorized) as wrong:
        registry.build(given(model=ONE), now=1.0, hf_token="hf_wrong")
    assert "hf_wrong" not in str(wrong.value)
    assert registry.build(given(model=ONE), now=1.0, hf_token="hf_secret")
    assert len(elsewhere.requests) == 1
    assert all("hf_secret" not in str(headers) for _, headers in elsewhere.requests)


def test_the_token_goes_along_when_the_hub_redirects_to_itself(
    registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files, hub.token, hub.redirect = {"m.gguf": gguf()}, "hf_secret", hub.url
    assert registry.build(given(model=ONE), now=1.0, hf_token="hf_secret")


@pytest.mark.parametrize("target", ["ftp://127.0.0.1:1", "file:///etc"])
def test_a_redirect_to_another_protocol_is_not_followed(
    target: str, registry: Registry, hub: HubServer, given: Given
) -> None:
    hub.files, hub.redirect = {"m.gguf": gguf()}, target
    with pytest.raises(Unavailable, match=r"refused|answered 302"):
        registry.build(given(model=ONE), now=1.0)
    assert sum("resolve" in path for path, _ in hub.requests) == 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Unauthorized),
        (403, Unauthorized),
        (404, NotFound),
        (429, Unavailable),
        (500, Unavailable),
    ],
)
def test_the_hubs_refusals_are_told_apart(
    status: int,
    error: type[FairleadError],
    registry: Registry,
    hub: HubServer,
    given: Given,
) -> None:
    hub.status = status
    with pytest.raises(error, match=r"hf://org/repo@main"):
        registry.build(given(model=ONE), now=1.0)


def test_an_unknown_revision_is_not_found(registry: Registry, given: Given) -> None:
    with pytest.raises(NotFound, match="hf://org/repo@v9 does not exist"):
        registry.build(given(model="hf://org/repo@v9"), now=1.0)


def test_a_hub_that_is_not_there_is_unavailable(root: object, given: Given, hub: HubServer) -> None:
    closed = HubServer()
    closed.server_close()
    registry = Registry(root, hub=HubSettings(url=closed.url, timeout_s=2.0))  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match="does not answer"):
        registry.build(given(model=ONE), now=1.0)


def test_a_listing_that_is_none_is_unavailable(
    registry: Registry, hub: HubServer, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    for listing in ({}, {"sha": "main", "siblings": []}, {"sha": COMMIT, "siblings": [{}]}):
        monkeypatch.setattr(hub, "listing", lambda listing=listing: listing)
        with pytest.raises(Unavailable, match=r"listing|commit"):
            registry.build(given(model=ONE), now=1.0)
    for data in (b"", b'{"sha": "\xff"}', b'{"sha": ' + b"[" * 100_000):
        monkeypatch.setattr(hub, "listing_bytes", lambda data=data: data)
        with pytest.raises(Unavailable, match="listing cannot be read"):
            registry.build(given(model=ONE), now=1.0)
