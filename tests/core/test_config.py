"""Settings: validated when made, changed by flat names, frozen."""

import dataclasses

import pytest

from sippool_core import (
    Address,
    ClientVerification,
    ConfigurationError,
    Limits,
    PoolConfig,
    Restriction,
    Timeouts,
    TlsSettings,
    number_names,
)


def test_the_numbers_of_the_seed_are_the_defaults():
    config = PoolConfig()
    limits, timeouts = config.limits, config.timeouts
    assert (limits.max_header_bytes, limits.max_body_bytes) == (2**14, 2**16)
    assert (limits.max_open_requests, limits.read_bytes) == (30, 2**16)
    assert (timeouts.min_idle_seconds, timeouts.max_idle_seconds) == (15, 120)
    assert timeouts.connect_seconds == 10
    assert config.restrict_to is None and config.tls is None
    assert TlsSettings().verify_client is ClientVerification.NONE


def test_every_number_is_reached_by_its_flat_name_and_pools_do_not_share_them():
    names = number_names(Limits) + number_names(Timeouts)
    assert len(set(names)) == len(names)
    config = PoolConfig()
    for name in number_names(Limits):
        assert (
            getattr(config.replace(**{name: 90_000, "max_queued_bytes": 2**20}).limits, name)
            >= 90_000
        )
    changed = config.replace(connect_seconds=1.5, max_connections=7)
    assert (changed.timeouts.connect_seconds, changed.limits.max_connections) == (1.5, 7)
    assert config == PoolConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.limits.max_connections = 3


@pytest.mark.parametrize(
    ("numbers", "why"),
    [
        ({"max_connections": 0}, "max_connections is 0"),
        ({"max_connections": -1}, "positive"),
        ({"max_connections": 1.5}, "right kind"),
        ({"max_connections": True}, "right kind"),
        ({"connect_seconds": "10"}, "right kind"),
        ({"connect_seconds": float("inf")}, "finite"),
        ({"connect_seconds": float("nan")}, "positive"),
        ({"min_idle_seconds": 200.0}, "max_idle_seconds is smaller"),
        ({"accept_retry_seconds": 2.0}, "accept_retry_max_seconds is smaller"),
        ({"max_queued_bytes": 1000}, "smaller than one message"),
        ({"max_conections": 5, "b": 1}, "no such setting: b, max_conections"),
    ],
)
def test_what_cannot_work_is_refused(numbers, why):
    with pytest.raises(ConfigurationError, match=why):
        PoolConfig().replace(**numbers)


def test_zero_spare_descriptors_are_allowed():
    assert PoolConfig().replace(spare_descriptors=0).limits.spare_descriptors == 0


def test_tls_settings_that_cannot_work():
    with pytest.raises(ConfigurationError, match="without its certificate"):
        TlsSettings(key="key.pem")
    with pytest.raises(ConfigurationError, match="no CA to verify against"):
        TlsSettings("cert.pem", "key.pem", verify_client=ClientVerification.OPTIONAL)
    TlsSettings("cert.pem", "key.pem", "ca.pem", ClientVerification.REQUIRED)


def test_a_restriction_with_and_without_a_port():
    exact, host = Restriction.parse("192.0.2.1:5060"), Restriction.parse("192.0.2.1")
    elsewhere = Address("198.51.100.1", 5070)
    assert exact.force(elsewhere) == Address("192.0.2.1", 5060)
    assert host.force(elsewhere) == Address("192.0.2.1", 5070)
    ephemeral = Address("192.0.2.1", 40000)
    assert exact.allows_connection_from(ephemeral) and host.allows_connection_from(ephemeral)
    assert host.allows_datagram_from(ephemeral) and not exact.allows_datagram_from(ephemeral)
    assert Restriction.to(Address("::ffff:192.0.2.1", 5060)) == exact
    with pytest.raises(ValueError, match="resolved before"):
        Restriction.parse("example.com")
