//! `[agent]`: where and how the programs are attached.

use std::path::PathBuf;

use ipnet::{Ipv4Net, Ipv6Net};

use super::choice::choices;

choices! {
    /// How XDP programs are attached.
    #[derive(Default)]
    XdpMode {
        /// Native where the driver can, generic otherwise.
        #[default]
        Auto = "auto",
        /// In the driver, or not at all.
        Native = "native",
        /// In the kernel's stack, on any interface; slower.
        Generic = "generic",
    }
}

choices! {
    /// What the agent does with the programs when it ends.
    #[derive(Default)]
    OnExit {
        /// The programs stay and packets keep flowing; the next agent adopts them.
        #[default]
        Keep = "keep",
        /// The programs are removed.
        Detach = "detach",
    }
}

/// `[agent]`: where and how the programs are attached. A change needs a restart of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Names of the interfaces that XDP is attached to; at least one, none twice.
    pub interfaces: Vec<String>,
    /// How XDP programs are attached.
    pub xdp_mode: XdpMode,
    /// What happens to the programs when the agent ends.
    pub on_exit: OnExit,
    /// Directory of the pins, absolute, on a BPF file system.
    pub pin_path: PathBuf,
    /// Directory of what the agent has to remember, absolute.
    pub state_directory: PathBuf,
    /// Whether the files of the configuration are watched, and read again when they change.
    pub watch_config: bool,
    /// Key of the flow hash, equal on all balancers of a cluster; `None`: the agent draws one.
    pub seed: Option<u64>,
    /// Whether ICMP echo requests to VIPs are answered by the balancer.
    pub answer_echo: bool,
    /// The pin of an XDP program that gets what ours passes.
    pub next_program: Option<PathBuf>,
    /// Where outer headers come from.
    pub outer_source: OuterSource,
}

/// The prefixes that outer headers come from; `None`: from the address that the kernel would send from. Of an address
/// in it, the lowest bits differ between flows, at most 16 of IPv4 and 32 of IPv6; those between are 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OuterSource {
    /// Towards backends with an IPv4 address.
    pub v4: Option<Ipv4Net>,
    /// Towards backends with an IPv6 address.
    pub v6: Option<Ipv6Net>,
}

impl Agent {
    /// The default of [`Self::answer_echo`].
    pub const ANSWER_ECHO: bool = true;
    /// The default of [`Self::watch_config`].
    pub const WATCH_CONFIG: bool = false;
    /// The default of [`Self::pin_path`].
    pub const PIN_PATH: &str = "/sys/fs/bpf/meshlb";
    /// The default of [`Self::state_directory`].
    pub const STATE_DIRECTORY: &str = "/var/lib/meshlb";
}
