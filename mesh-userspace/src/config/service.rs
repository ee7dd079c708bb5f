//! `[[service]]` and `[[service.backend]]`: what is balanced to whom.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::choice::choices;
use super::{Discovery, Health, Nat, Passive, Performance, Ports, Quic, Rules, ServiceKey, Standing, table};

choices! {
    /// The transport protocol of a service.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
        /// QUIC over UDP: packets go by their connection id, as far as it tells.
        Quic = "quic",
        /// Every protocol, by address alone.
        Any = "any",
    }
}

impl Protocol {
    /// What packets say that they are: QUIC is UDP.
    #[must_use]
    pub const fn transport(self) -> Self {
        match self {
            Self::Tcp => Self::Tcp,
            Self::Udp | Self::Quic => Self::Udp,
            Self::Any => Self::Any,
        }
    }

    /// How long a changed slot keeps sending unknown packets to its former backend, unless configured.
    #[must_use]
    pub const fn default_window(self) -> Duration {
        match self {
            Self::Tcp => Duration::from_secs(30 * 60),
            Self::Udp | Self::Quic | Self::Any => Duration::from_secs(60),
        }
    }

    /// Whether flows have a beginning that can be seen, as TCP's have. Flows of a service of any protocol are pairs of
    /// addresses, which have none.
    #[must_use]
    pub const fn has_connections(self) -> bool {
        matches!(self, Self::Tcp)
    }
}

choices! {
    /// How a packet's slot is picked.
    #[derive(Default)]
    Scheduler {
        /// By the flow's hash, in a table filled by weight.
        #[default]
        Maglev = "maglev",
        /// By the hash of the client's address, in the same table.
        Source = "source",
        /// By chance.
        Random = "random",
        /// One after the other.
        RoundRobin = "round-robin",
        /// Of two by chance, the one whose backend has fewer flows for its weight.
        LeastConnections = "least-connections",
    }
}

impl Scheduler {
    /// Whether a flow's slot does not follow from the flow, so that each has to be recorded.
    #[must_use]
    pub const fn picks(self) -> bool {
        match self {
            Self::Maglev | Self::Source => false,
            Self::Random | Self::RoundRobin | Self::LeastConnections => true,
        }
    }
}

choices! {
    /// How packets reach the backends.
    Forward {
        /// MAC addresses are rewritten; backends are neighbours, of the VIP's family, and answer directly.
        L2 = "l2",
        /// Packets are wrapped in an outer IPv4 or IPv6 header; any pair of families.
        Ipip = "ipip",
        /// Packets are wrapped in outer IP and UDP headers (GUE, variant 1); any pair of families.
        Gue = "gue",
        /// Packets are wrapped in outer IP, UDP and Geneve headers; any pair of families.
        Geneve = "geneve",
        /// Addresses and ports of packets, and of the answers to them, are translated; any pair of families.
        Nat = "nat",
    }
}

choices! {
    /// What becomes of packets while no backend takes them.
    #[derive(Default)]
    OnNoBackends {
        /// They are dropped.
        #[default]
        Drop = "drop",
        /// Their senders are told: by a TCP reset, or by ICMP.
        Reject = "reject",
    }
}

choices! {
    /// What becomes of IPv4 packets that are too long for the way to a backend and may be fragmented.
    #[derive(Default)]
    Oversized {
        /// They are dropped.
        #[default]
        Drop = "drop",
        /// Their senders are told how long packets may be, as are those whose packets may not be fragmented.
        Tell = "tell",
    }
}

choices! {
    /// Which flows are recorded.
    #[derive(Default)]
    Tracking {
        /// Those of slots whose backend is changing.
        #[default]
        Adaptive = "adaptive",
        /// All.
        Always = "always",
        /// None: a flow follows its slot at once.
        Never = "never",
    }
}

/// `[[service]]`: a VIP, ports and a protocol, and the backends behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The name that people use; unique.
    pub name: String,
    /// The address that clients talk to, or the prefix of such addresses; no bit is set behind the prefix.
    pub vip: IpNet,
    /// The ports that clients talk to; all of them with [`Protocol::Any`].
    pub ports: Ports,
    /// The transport protocol.
    pub protocol: Protocol,
    /// How a packet's slot is picked.
    pub scheduler: Scheduler,
    /// How packets reach the backends.
    pub forward: Forward,
    /// The UDP port at which backends unwrap `gue` or `geneve`; `None`: the usual one.
    pub tunnel_port: Option<u16>,
    /// What becomes of IPv4 packets that are too long and may be fragmented.
    pub oversized: Oversized,
    /// What becomes of packets while no backend takes them.
    pub on_no_backends: OnNoBackends,
    /// Which flows are recorded.
    pub tracking: Tracking,
    /// How long the old flows of a changed slot have to end by themselves, and then (UDP: at once) how long those that
    /// are left have to send a packet, by which they are recorded.
    pub window: Duration,
    /// How many flows there may be at a time; `None`: any number.
    pub max_flows: Option<u32>,
    /// How many new flows a second are a flood beyond which nothing is remembered that need not be; `None`: as many as would
    /// fill the table in a minute.
    pub flood_threshold: Option<u32>,
    /// After how long a silent flow is taken for gone; `None`: as the protocol and the window have it.
    pub idle_timeout: Option<Duration>,
    /// The table size as configured, a prime; [`Self::table_size`] has the one in force.
    pub table_size: Option<u32>,
    /// How many backends the table is made for; `None`: those that are configured.
    pub expected_backends: Option<u32>,
    /// How backends are probed; `None`: all are taken to be up.
    pub health: Option<Health>,
    /// What becomes of backends that fail clients; `None`: nothing. Only where connections are translated.
    pub passive: Option<Passive>,
    /// How far shares follow how backends do; `None`: not at all. Not without probes.
    pub performance: Option<Performance>,
    /// How new flows are split between groups, in shares relative to each other, not all 0; empty: by weights alone. Every
    /// backend is of one of them.
    pub split: BTreeMap<Group, u16>,
    /// Where less of a tier's weight is healthy, in per cent, the next one takes the missing part; 0: only when none is.
    pub spill_over_below: u8,
    /// Who gets the packets; no address twice.
    pub backends: Vec<Backend>,
    /// Where more backends come from, the weightiest word first.
    pub discovery: Vec<Discovery>,
    /// What packets are translated to; `None` unless they are forwarded so.
    pub nat: Option<Nat>,
    /// Whom it serves; `None`: everybody.
    pub guard: Option<Arc<Rules>>,
    /// How connection ids are read; empty unless the protocol is QUIC. No rotation twice.
    pub quic: Vec<Quic>,
}

impl Service {
    /// The service's identity.
    #[must_use]
    pub const fn key(&self) -> ServiceKey {
        ServiceKey { vip: self.vip, ports: self.ports, protocol: self.protocol }
    }

    /// The port that a backend gets packets at, if they are translated to one that is configured or discovered.
    #[must_use]
    pub fn port_of(&self, backend: IpAddr) -> Option<u16> {
        let nat = self.nat.as_ref()?;
        let own = self.backends.iter().find(|known| known.address == backend).and_then(|known| known.port);
        own.or(nat.port)
    }

    /// Slots in the service's table: the wanted ones, else as many as suit the backends that are configured.
    #[must_use]
    pub fn table_size(&self) -> u32 {
        self.wanted_size().unwrap_or_else(|| table::default_size(self.backends.len()))
    }

    /// Slots in the service's table as far as the configuration speaks of them: the prime itself, or what suits the
    /// backends that are expected.
    #[must_use]
    pub fn wanted_size(&self) -> Option<u32> {
        self.table_size.or_else(|| self.expected_backends.map(table::size_for))
    }
}

/// The name of some backends of a service. Few names have many backends, which share them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(Option<Arc<str>>);

impl Group {
    /// The group of backends that name none.
    const DEFAULT: &str = "default";

    /// The group of this name.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self((name != Self::DEFAULT).then(|| name.into()))
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.as_deref().unwrap_or(Self::DEFAULT)
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `[[service.backend]]`, or an instance that a source knows: one address behind a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Where the packets go; the identity of the backend within its service.
    pub address: IpAddr,
    /// The share of new flows, relative to the other backends of the service; 0: none.
    pub weight: u16,
    /// Those that it shares a part of the split with.
    pub group: Group,
    /// Its tier: those of a higher number take what those of lower numbers leave.
    pub priority: u16,
    /// The port that it gets packets at, if they are translated; `None`: as the service has it.
    pub port: Option<u16>,
    /// What its source says of it; ready if it is configured.
    pub standing: Standing,
}

impl Backend {
    /// The default of [`Self::weight`].
    pub const WEIGHT: u16 = 100;

    /// A backend as it is configured, of the usual group and the highest tier.
    #[must_use]
    pub fn new(address: IpAddr, weight: u16) -> Self {
        Self { address, weight, group: Group::default(), priority: 0, port: None, standing: Standing::Ready }
    }
}
