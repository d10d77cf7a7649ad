"""Announced, found, renamed and withdrawn, by multicast on the loopback interface only."""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from zeroconf import IPVersion, ServiceBrowser, ServiceInfo, ServiceListener, Zeroconf

from lan_peers import offer_from, served, shelf_of, started
from nomoat.base.errors import InputError, NotFoundError
from nomoat.base.progress import Silent
from nomoat.share.lan.discovery import discover
from nomoat.share.lan.interfaces import is_near, lan_addresses
from nomoat.share.lan.offers import SERVICE_TYPE, Offer, offer_of
from nomoat.share.lan.pull import pull_lan, resolve_lan
from nomoat.share.things import find_thing
from nomoat.store.store import Store

LOOPBACK = ["127.0.0.1"]


class _Events(ServiceListener):
    """What another program sees of the announcements."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, str]] = queue.Queue()

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("added", name))

    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        pass

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.events.put(("removed", name))

    def wait_for(self, what: str, word: str, seconds: float) -> str:
        """The service's name, once it was seen to come or go."""
        deadline = time.monotonic() + seconds
        while True:
            event, name = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            if event == what and word in name:
                return name


@pytest.fixture
def zeroconf() -> Iterator[Zeroconf]:
    made = Zeroconf(interfaces=LOOPBACK, ip_version=IPVersion.V4Only)
    yield made
    made.close()


def test_an_announcement_is_seen_and_withdrawn(store: Store, word: str, zeroconf: Zeroconf) -> None:
    listener = _Events()
    ServiceBrowser(zeroconf, SERVICE_TYPE, listener)
    with started(store.home, f"m-{word}") as sharing:
        name = listener.wait_for("added", word, 10)
        assert sharing.ready["announced"] == [name.removesuffix(f".{SERVICE_TYPE}")]
        info = zeroconf.get_service_info(SERVICE_TYPE, name, 2000)
        assert info is not None
        thing = find_thing(store, f"m-{word}", Silent()).thing
        assert info.decoded_properties == {
            "v": "1", "name": f"m-{word}", "kind": "model", "digest": thing.digest, "size": str(thing.size_bytes),
        }  # fmt: skip
        assert sharing.stop(signal.SIGINT) == 0
        listener.wait_for("removed", word, 3)  # without a goodbye it would stay for 75 minutes
        assert "Traceback" not in sharing.log.read_text()


def test_two_who_share_the_same_are_both_found_and_both_used(store: Store, other: Store, word: str) -> None:
    reference = f"lan/m-{word}"
    with started(store.home, f"m-{word}") as one, started(store.home, f"m-{word}") as two:
        assert one.ready["announced"] != two.ready["announced"], "the second one is renamed"
        offers = _until(lambda: resolve_lan(reference, interfaces=LOOPBACK), lambda found: len(found) > 1)
        assert {offer.url for offer in offers} == {one.url, two.url}
        pulled = pull_lan(offers, other, Silent())
    assert pulled.digest == store.resolve(f"m-{word}").digest == other.resolve(f"m-{word}").digest
    assert not pulled.already_there and not pulled.fetched.dropped
    assert not list((other.home / "cache" / "lan").iterdir())


def test_an_adapter_comes_with_its_base_pinned_and_without_its_owners_words(
    store: Store, other: Store, word: str
) -> None:
    with served(shelf_of(store, f"a-{word}", f"m-{word}"), "one") as url:
        address = url.removeprefix("http://")
        pulled = pull_lan(resolve_lan(f"lan/{address}/a-{word}"), other, Silent())
        model = pull_lan(resolve_lan(f"lan/{address}/{pulled.base_digest}"), other, Silent())
    assert pulled.kind == "adapter" and model.kind == "model"
    assert sorted(path.name for path in pulled.path.iterdir()) == [
        "README.md", "adapter.gguf", "adapter_config.json", "adapter_model.safetensors", "manifest.json",
    ]  # fmt: skip
    assert b"secret" not in (pulled.path / "manifest.json").read_bytes()
    assert other.adapter_file(f"a-{word}", other.resolve(f"m-{word}")).name == "adapter.gguf"
    # It is the same thing on both machines: each could offer it to the other.
    assert find_thing(other, f"a-{word}", Silent()).thing.digest == pulled.digest


def test_a_name_that_is_taken_is_noticed_before_anything_is_fetched(
    store: Store, word: str, other: Store
) -> None:
    with served(shelf_of(store, f"m-{word}", f"a-{word}"), "one") as url:
        model, adapter = (offer_from(store, f"{kind}-{word}", "one", url) for kind in "ma")
        for offer in (model, adapter):
            assert not pull_lan([offer], other, Silent(), name="mine").already_there
            assert pull_lan([offer], other, Silent(), name="mine").already_there
    assert pull_lan([model], store, Silent()).already_there, "nobody was asked"
    for offer in (model, adapter):
        changed = replace(offer, digest="sha256:" + "1" * 64)
        with pytest.raises(InputError, match=f"already names another {offer.kind}"):
            pull_lan([changed], other, Silent(), name="mine")


def test_without_multicast_an_address_does(store: Store, word: str) -> None:
    with served(shelf_of(store, f"m-{word}"), "one") as url:
        address = url.removeprefix("http://")
        [offer] = resolve_lan(f"lan/{address}/m-{word}")
        assert offer.url == url and offer.digest == store.resolve(f"m-{word}").digest
        with pytest.raises(NotFoundError, match="nobody"):
            resolve_lan(f"lan/{address}/something")


def test_different_things_of_one_name_must_be_told_apart(zeroconf: Zeroconf, word: str) -> None:
    digests = [f"sha256:{digit * 64}" for digit in "12"]
    services = [(f"{digest[-1]}-{word}", _record(word, digest=digest), "127.0.0.1") for digest in digests]
    # Neither of these may be asked: an address elsewhere, and a record that is none.
    services.append((f"far-{word}", _record(word), "203.0.114.9"))
    services.append((f"bad-{word}", _record(word, v="2"), "127.0.0.1"))
    with ThreadPoolExecutor() as pool:  # each is announced three times, with pauses
        list(pool.map(lambda service: _register(zeroconf, *service), services))
    _until(
        lambda: discover(interfaces=LOOPBACK), lambda found: {offer.digest for offer in found} >= {*digests}
    )
    with pytest.raises(InputError, match="different things") as caught:
        resolve_lan(f"lan/m-{word}", interfaces=LOOPBACK)
    assert "far" not in caught.value.message and "bad" not in caught.value.message
    assert f"lan/{digests[0]}" in caught.value.hint
    [offer] = resolve_lan(f"lan/{digests[1]}", interfaces=LOOPBACK)
    assert offer.digest == digests[1] and offer.peer == f"2-{word}"


@pytest.mark.parametrize("bad", [
    {"v": "2"}, {"kind": "program"}, {"digest": "sha256:../../etc"}, {"name": "../up"}, {"size": "-1"},
    {"size": "9" * 40},
])  # fmt: skip
def test_a_record_that_is_none_is_no_offer(bad: dict[str, str]) -> None:
    assert offer_of(_record("x"), "peer", "http://127.0.0.1:9") is not None
    assert offer_of(_record("x", **bad), "peer", "http://127.0.0.1:9") is None


def _until(look: Callable[[], list[Offer]], enough: Callable[[list[Offer]], bool]) -> list[Offer]:
    """What was found once it is enough: datagrams get lost, and a busy machine answers late."""
    deadline = time.monotonic() + 30
    while not enough(found := look()) and time.monotonic() < deadline:
        pass
    return found


def _record(word: str, **changes: str) -> dict[str, str]:
    return {
        "v": "1",
        "name": f"m-{word}",
        "kind": "model",
        "digest": f"sha256:{'0' * 64}",
        "size": "1",
        **changes,
    }


def _register(zeroconf: Zeroconf, name: str, record: dict[str, str], address: str) -> None:
    info = ServiceInfo(
        SERVICE_TYPE, f"{name}.{SERVICE_TYPE}", port=9, properties=record, server=f"{name}.local.",
        parsed_addresses=[address],
    )  # fmt: skip
    zeroconf.register_service(info, cooperating_responders=True)  # without asking first: the names are random


@pytest.mark.parametrize(
    "text", ["lan/", "lan/Not A Name", "lan/sha256:12", "lan/nowhere/m", "lan/1.2.3.4/m", "m"]
)
def test_a_reference_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        resolve_lan(text)


@pytest.mark.parametrize(("address", "near"), [
    ("192.168.1.5", True), ("10.0.0.1", True), ("169.254.3.4", True), ("127.0.0.1", True), ("fe80::1%eth0", True),
    ("fd00::1", True), ("::ffff:192.168.1.5", True), ("8.8.8.8", False), ("2001:4860:4860::8888", False),
    ("::ffff:8.8.8.8", False), ("0.0.0.0", False), ("example.org", False), ("", False),
])  # fmt: skip
def test_near_is_what_no_router_passes_on(address: str, near: bool) -> None:
    assert is_near(address) is near


def test_own_addresses_are_those_that_others_reach() -> None:
    assert not {address for address in lan_addresses() if not is_near(address) or address.startswith("127.")}
