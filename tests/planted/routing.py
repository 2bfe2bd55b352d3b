"""Messages that take another's way."""

from sippool_core import CloseReason, Target, identity
from sippool_core.activity import Activity
from sippool_core.config import Restriction
from sippool_core.registry import Registry
from sippool_core.routing import ReuseIndex
from sippool_core.sender import Sender
from sippool_core.streams import Streams
from sippool_core.tls import TlsEngine
from sippool_core.transactions import Requests

from .registry import bug


@bug("N2", is_rare=True)
def the_last_writer_wins(patch):
    """Who repeats another's request gets the answer to it"""
    patch.setattr(Requests, "flows_of", lambda self, key: self._flows.get(key, ())[-1:])


@bug("N3", is_rare=True)
def forgets_the_requests_of_others(patch):
    """When one of two flows with the same request goes, the other's entry goes too"""

    def drop(self, flow_id, key):
        requests = self._by_flow[flow_id]
        requests.remove(key)
        if not requests.holds:
            del self._by_flow[flow_id]
        self._flows.pop(key, None)

    patch.setattr(Requests, "_drop", drop)


@bug("wrong owner removal")
def forgets_the_reuse_of_others(patch):
    """When a second connection to the same place goes, the first is not found any more"""
    patch.setattr(ReuseIndex, "remove", lambda self, key, connection_id: self._ids.pop(key, None))


@bug("N15", needs_tls=True)
def reuse_without_the_name(patch):
    """A TLS connection is reused for whatever name its address has (CVE-2020-15260)"""
    get, add, remove = ReuseIndex.get, ReuseIndex.add, ReuseIndex.remove
    patch.setattr(ReuseIndex, "get", lambda self, key: get(self, nameless(key)))
    patch.setattr(ReuseIndex, "add", lambda self, key, number: add(self, nameless(key), number))
    patch.setattr(
        ReuseIndex, "remove", lambda self, key, number: remove(self, nameless(key), number)
    )


def nameless(key):
    return key._replace(server_name=None)


@bug("N15", needs_tls=True)
def accepted_tls_is_reused(patch):
    """A client over TLS, which proved no name, is taken for the server at its address"""
    accepted = Streams.accepted

    def reuse(self, listener, peer, local):
        number = accepted(self, listener, peer, local)
        self._registry.allow_reuse(self.connections[number])
        return number

    patch.setattr(Streams, "accepted", reuse)


@bug("N17", needs_tls=True)
def no_sni_for_a_digit(patch):
    """A name that begins with a digit is taken for an address, and not asked for"""
    begin = TlsEngine.__init__

    def drop(self, contexts, *, server_side, reference, server_name):
        name = None if server_name is not None and server_name[0].isdigit() else server_name
        begin(self, contexts, server_side=server_side, reference=reference, server_name=name)

    patch.setattr(TlsEngine, "__init__", drop)


@bug("A5", needs_tls=True)
def any_certificate_will_do(patch):
    """A certificate that is signed by the right CA names everybody"""

    def match(certificate, reference, *, allow_common_name=False):
        return reference

    patch.setattr(identity, "match", match)


@bug("A5", finder="identity")
def wildcards_name_everybody(patch):
    """`*.example.com` is a name of a.example.com, as on the web"""
    match = identity.match

    def by_the_webs_rules(certificate, reference, *, allow_common_name=False):
        found = match(certificate, reference, allow_common_name=allow_common_name)
        domain = identity.normal_domain(reference)
        wild = domain and f"*.{domain.partition('.')[2]}"
        names = [value for kind, value in identity._pairs(certificate.get("subjectAltName"))]
        return found or (domain if wild in names else None)

    patch.setattr(identity, "match", by_the_webs_rules)
    patch.setattr("fuzz.identities.match", by_the_webs_rules)


@bug("wrong flow")
def an_answer_takes_any_way(patch):
    """An answer goes by whichever connection leads to the same host"""
    by_flow = Sender._by_flow

    def any_way(self, message, flow, stamped):
        for connection in self._streams.connections.values():
            if connection.peer.host == flow.peer.host and connection.phase.value == "open":
                return by_flow(self, message, connection.flow, stamped)
        return by_flow(self, message, flow, stamped)

    patch.setattr(Sender, "_by_flow", any_way)


@bug("wrong flow")
def a_lost_way_is_dialled(patch):
    """Where the connection of a request is gone, its answer opens a new one to the port it came from"""

    fail_as_ever = Sender._fail

    def fail(self, message, flow):
        if flow is None:
            return fail_as_ever(self, message, flow)
        return self._to_target(message, Target(flow.transport, flow.peer))

    patch.setattr(Sender, "_fail", fail)


@bug("restriction")
def the_restriction_is_not_forced(patch):
    """A restricted pool sends wherever it is asked to"""
    patch.setattr(Restriction, "force", lambda self, address: address)


@bug("restriction")
def the_restriction_is_not_checked(patch):
    """A restricted pool accepts connections from everywhere"""
    patch.setattr(Restriction, "allows_connection_from", lambda self, source: True)


@bug("eviction")
def evicts_the_busy(patch):
    """A full pool throws out connections that owe an answer"""
    make_room = Streams.make_room

    def throw_out(self, peer):
        if self.admission.is_full and self.admission.silent_victim() is None:
            victim = next(iter(self.connections.values()))
            self._closer.finish(victim, CloseReason.EVICTED, abort=True)
        return make_room(self, peer)

    patch.setattr(Streams, "make_room", throw_out)


@bug("table forgotten")
def the_place_of_a_source_is_kept(patch):
    """A source whose connections have gone may not come back"""
    leave = Registry.remove

    def keep(self, connection):
        admission = self.admission
        source = admission._sources[connection.id]
        leave(self, connection)
        if source is not None:
            admission._per_source[source] += 1

    patch.setattr(Registry, "remove", keep)


@bug("table forgotten")
def the_requests_of_the_dead_are_kept(patch):
    """What a connection was asked stays in memory when it has gone"""

    def forget(self, flow_id):
        self.expiry.remove(flow_id)

    patch.setattr(Activity, "forget", forget)
