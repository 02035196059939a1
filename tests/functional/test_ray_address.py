"""How the engine for Ray comes to a cluster, with a Ray of a few lines."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from safe_install.errors import EngineFailed
from safe_install.fleet.engines import ray as ray_module

OWN_ADDRESS = "127.0.0.2"  # of this machine in its network


class FakeRay:
    """Remembers what it was asked to connect to."""

    def __init__(self) -> None:
        self.connected = []
        self.util = SimpleNamespace(get_node_ip_address=lambda: OWN_ADDRESS)

    def init(self, *, address, **_):
        self.connected.append(address)


@pytest.fixture
def listening():
    """A port at OWN_ADDRESS, and at no other address."""
    with socket.create_server((OWN_ADDRESS, 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed():
    """A port at which nothing listens."""
    with socket.create_server((OWN_ADDRESS, 0)) as server:
        return server.getsockname()[1]


@pytest.mark.parametrize("form", ["{}:{}", "ray://{}:{}"])
def test_an_address_at_which_nothing_listens_is_refused_before_ray_asks_it(closed, form):
    ray = FakeRay()
    target = form.format(OWN_ADDRESS, closed)
    with pytest.raises(EngineFailed, match=f"no Ray cluster at {target}: .*Connection refused"):
        ray_module._connect(ray, target)
    assert ray.connected == []


def test_nothing_listens_on_this_machine_either(closed):
    ray = FakeRay()
    with pytest.raises(EngineFailed, match="Connection refused"):
        ray_module._connect(ray, f"localhost:{closed}")
    assert ray.connected == []


@pytest.mark.parametrize("host", [OWN_ADDRESS, "127.0.0.1", "localhost", f"ray://{OWN_ADDRESS}"])
def test_an_address_at_which_something_listens_is_given_to_ray(listening, host):
    ray = FakeRay()
    ray_module._connect(ray, f"{host}:{listening}")
    assert ray.connected == [f"{host}:{listening}"]


def test_an_address_without_a_port_is_given_to_ray():
    ray = FakeRay()
    ray_module._connect(ray, "auto")
    assert ray.connected == ["auto"]
