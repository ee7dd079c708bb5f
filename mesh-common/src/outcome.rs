//! How a packet's journey ends: every end has a name, a counter and a verdict.

/// What the kernel does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The packet goes on into the host, untouched.
    Pass,
    /// The packet ends here.
    Drop,
    /// The packet leaves through the interface it came in by.
    Transmit,
    /// The packet leaves through another interface.
    Redirect,
}

/// One list makes the enum, the metric's label, the verdict and the size of the counter array.
macro_rules! outcomes {
    ($(#[$about:meta])+ $list:ident: $($(#[doc = $doc:literal])+ $name:ident = $label:literal => $verdict:ident,)+) => {
        $(#[$about])+
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $list {
            $($(#[doc = $doc])+ $name,)+
        }

        impl $list {
            /// Every outcome, in the order of its counters.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in metrics, in the command line and in the docs.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$name => $label,)+
                }
            }

            /// What it means, and whether it is normal, as the docs say.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),+).trim_ascii(),)+
                }
            }

            /// What becomes of the packet.
            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)+
                }
            }

            /// How many outcomes there are: the size of the counter array.
            #[expect(clippy::cast_possible_truncation, reason = "the list is short")]
            pub const COUNT: u32 = Self::ALL.len() as u32;

            /// The index of the outcome's counter.
            #[inline(always)]
            #[must_use]
            pub const fn index(self) -> u32 {
                self as u32
            }
        }
    };
}

outcomes! {
    /// How a packet's journey through the balancer ended.
    Outcome:
    /// Sent to a backend through the interface it came in by.
    Transmitted = "transmitted" => Transmit,
    /// Sent to a backend through another interface.
    Redirected = "redirected" => Redirect,
    /// An answer of a backend, translated and sent to its client through the interface it came in by.
    ReplyTransmitted = "reply_transmitted" => Transmit,
    /// An answer of a backend, translated and sent to its client through another interface.
    ReplyRedirected = "reply_redirected" => Redirect,
    /// Neither IPv4 nor IPv6: ARP, LLDP, frames with more than two VLAN tags. Normal.
    NotIp = "not_ip" => Pass,
    /// Neither TCP nor UDP, nor an ICMP message that is ours, and not to a service of any protocol. Normal.
    OtherProtocol = "other_protocol" => Pass,
    /// No service has this address, port and protocol. Normal: the host's own traffic.
    NotAService = "not_a_service" => Pass,
    /// A later fragment of a packet whose first went into the host, or for an address that is no VIP. Normal.
    Fragment = "fragment" => Pass,
    /// A later fragment for a VIP whose first fragment was not seen, or not sent on. Normal in small numbers: reordering.
    OrphanFragment = "orphan_fragment" => Drop,
    /// More IPv6 extension headers than are looked through. Never more than a few in production.
    TooManyHeaders = "too_many_headers" => Pass,
    /// An ICMP echo request to a VIP, which was answered. Normal.
    EchoAnswered = "echo_answered" => Transmit,
    /// As before, but too many were answered in this second. A flood.
    EchoLimited = "echo_limited" => Drop,
    /// Too short for the headers that it announces, or a header of an impossible version or length. Never more than a few
    /// in production.
    Truncated = "truncated" => Pass,
    /// A service's packet whose length fields contradict the frame. Broken or hostile sender.
    BadLength = "bad_length" => Drop,
    /// A service's IPv4 packet whose header does not have its checksum. Broken or hostile sender, or a broken link.
    BadChecksum = "bad_checksum" => Drop,
    /// A service's IPv4 packet with a source route, or with options that end beyond its header. Hostile sender.
    BadOptions = "bad_options" => Drop,
    /// A service's TCP segment whose flags contradict each other. A scanner.
    BadFlags = "bad_flags" => Drop,
    /// A service's packet from where nobody is: a loopback, a group, or the very address that it is to. Hostile sender.
    SpoofedSource = "spoofed_source" => Drop,
    /// A first fragment for a VIP that ends within the transport header. Hostile sender.
    TinyFragment = "tiny_fragment" => Drop,
    /// A later fragment that begins before the first of its packet ends. Hostile sender.
    OverlappingFragment = "overlapping_fragment" => Drop,
    /// The service's guard does not let this client in. As many as it keeps out.
    Denied = "denied" => Drop,
    /// The service has no backend to give. Never anything but 0 in production.
    NoBackend = "no_backend" => Drop,
    /// As before, and the sender was told so: by a reset, or by ICMP. As rare.
    Rejected = "rejected" => Transmit,
    /// The packet begins a flow, and the service has as many as it may have.
    OverCap = "over_cap" => Drop,
    /// A packet of a connection that is not known, at a service that translates: it was silent for too long, its backend
    /// died, or it never was. Normal in small numbers.
    NotConnected = "not_connected" => Drop,
    /// A SYN at a service that translates while too many come, which was answered by a cookie. A flood.
    SynCookie = "syn_cookie" => Transmit,
    /// A datagram that would begin a connection, at a service that translates while too many do. A flood.
    Flooded = "flooded" => Drop,
    /// No port is left from which a new connection could reach its backend. Add addresses to `nat.source`, or backends.
    PortsExhausted = "ports_exhausted" => Drop,
    /// There are as many connections as `limits.connections` allows. Raise it.
    ConnectionsExhausted = "connections_exhausted" => Drop,
    /// The backend's next hop is not known: no route, or its neighbour does not answer.
    NoNextHop = "no_next_hop" => Drop,
    /// With the outer header the packet is longer than the way to the backend allows, and the sender cannot be told:
    /// it allows fragments, or too many were told in this second. Raise the MTU there.
    TooBig = "too_big" => Drop,
    /// As before, and the sender was told by ICMP how long its packets may be. A few per client are normal.
    TooBigTold = "too_big_told" => Transmit,
    /// The TTL or hop limit ran out here. A routing loop.
    TtlExpired = "ttl_expired" => Drop,
    /// The packet was to become one of the other IP version, which has no word for it: an ICMP error without a counterpart,
    /// a source route, a UDP datagram without a checksum that is a fragment or longer than 1536 bytes. Normal in small
    /// numbers.
    Untranslatable = "untranslatable" => Drop,
    /// The driver left no room for the outer header. Never anything but 0 in production.
    NoHeadroom = "no_headroom" => Drop,
    /// The packet is not plain and the program for such packets is not in its place. Never anything but 0 in production.
    Unhandled = "unhandled" => Pass,
}

outcomes! {
    /// How a packet's journey through the decapsulator of a backend ended.
    DecapOutcome:
    /// The outer headers were removed; the inner packet went on into the host.
    Decapsulated = "decapsulated" => Pass,
    /// No tunnel packet for this host. Normal.
    NotATunnel = "not_a_tunnel" => Pass,
    /// An IPIP packet for this host whose outer header has options or is a fragment's, which no balancer sends.
    UnusualOuter = "unusual_outer" => Pass,
    /// A tunnel packet for this host with outer lengths that contradict each other or the frame, or of an unknown version
    /// of Geneve. Broken or hostile sender.
    BadOuter = "bad_outer" => Drop,
    /// A UDP tunnel packet for this host with a UDP checksum, which no balancer sends and nobody verifies here.
    UdpChecksum = "udp_checksum" => Drop,
    /// A UDP tunnel packet for this host that carries something else than an IP packet at once. Somebody else's tunnel.
    OtherPayload = "other_payload" => Pass,
    /// A Geneve packet for this host with an option that must not be skipped and is not known here.
    CriticalOption = "critical_option" => Drop,
    /// A tunnel packet for this host whose inner destination is none of the VIPs: somebody else's tunnel, or an attack.
    NotAVip = "not_a_vip" => Pass,
    /// A tunnel packet for a VIP with inner lengths or versions that contradict each other or the outer ones. Broken or
    /// hostile sender.
    BadInner = "bad_inner" => Drop,
    /// There was congestion on the way, which this flow cannot be told but by a loss (RFC 6040 §4.2).
    Congestion = "congestion" => Drop,
    /// The kernel refused to remove the outer headers. Never anything but 0 in production.
    NotRemoved = "not_removed" => Drop,
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;

    #[test]
    fn a_new_outcome_changes_the_abi() {
        assert_eq!((crate::abi::ABI_VERSION, Outcome::COUNT), (8, 36));
    }

    #[test]
    fn an_outcome_says_what_it_means_in_one_line() {
        assert_eq!(Outcome::Transmitted.about(), "Sent to a backend through the interface it came in by.");
        let orphan = Outcome::OrphanFragment.about();
        assert!(orphan.contains("not sent on. Normal") && !orphan.contains("  "), "{orphan}");
    }

    #[test]
    fn counters_stand_in_the_order_of_the_list_and_labels_are_unique() {
        let mut labels = std::collections::BTreeSet::new();
        for (position, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(outcome.index()), Ok(position));
            assert!(labels.insert(outcome.label()), "{} stands twice", outcome.label());
        }
    }
}
