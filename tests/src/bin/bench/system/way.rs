//! The ways between a client and the backends that are compared.

use serde::Serialize;

/// What stands between a client and the backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Nothing: the client's own routes spread connections over the backends.
    Direct,
    /// MeshLB, which rewrites MAC addresses; backends answer the client themselves.
    MeshlbL2,
    /// MeshLB, which wraps packets that `meshlb decap` unwraps; backends answer the client themselves.
    MeshlbIpip,
    /// MeshLB, which translates packets and answers.
    MeshlbNat,
    /// The kernel's address translation, both ways.
    Nftables,
    /// HAProxy in TCP mode.
    Haproxy,
    /// nginx's `stream` module.
    NginxStream,
}

impl Way {
    /// In the order of the report; the first is what the others are compared with.
    pub(crate) const ALL: [Self; 7] = [
        Self::Direct,
        Self::MeshlbL2,
        Self::MeshlbIpip,
        Self::MeshlbNat,
        Self::Nftables,
        Self::Haproxy,
        Self::NginxStream,
    ];

    /// As people read it.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Direct => "direct, no balancer",
            Self::MeshlbL2 => "MeshLB l2",
            Self::MeshlbIpip => "MeshLB ipip",
            Self::MeshlbNat => "MeshLB nat",
            Self::Nftables => "nftables DNAT",
            Self::Haproxy => "HAProxy TCP",
            Self::NginxStream => "nginx stream",
        }
    }
}
