//! What this process may do, and no more.
//!
//! Invariant: what is given up is given up for good, by every thread and by every program that is started: threads inherit
//! what the first one has (capabilities(7)), which is why it is done before there are others.

use rustix::io::Errno;
use rustix::thread::{
    self, CapabilitiesSecureBits as SecureBits, CapabilitySet, CapabilitySets,
    capability_is_in_bounding_set as is_bounding,
};
use std::net::SocketAddr;

/// What loading, attaching and filling maps takes: programs and maps; links, netlink; arithmetic on packet pointers.
const PROGRAMS: CapabilitySet =
    CapabilitySet::BPF.union(CapabilitySet::NET_ADMIN).union(CapabilitySet::PERFMON);

/// Ports below this one are for those who have `CAP_NET_BIND_SERVICE` (`net.ipv4.ip_unprivileged_port_start`, as it is
/// unless somebody has changed it).
const UNPRIVILEGED: u16 = 1024;

/// A step of giving up that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("cannot give up privileges: {step}: {source}")]
pub struct PrivilegeError {
    step: &'static str,
    source: Errno,
}

/// What the agent keeps. A reload may bring the first probes that need raw sockets.
#[must_use]
pub fn of_agent(listeners: impl IntoIterator<Item = SocketAddr>) -> CapabilitySet {
    PROGRAMS | CapabilitySet::NET_RAW | of_listeners(listeners)
}

/// What the decapsulator keeps.
#[must_use]
pub fn of_decapsulator(listeners: impl IntoIterator<Item = SocketAddr>) -> CapabilitySet {
    PROGRAMS | of_listeners(listeners)
}

fn of_listeners(listeners: impl IntoIterator<Item = SocketAddr>) -> CapabilitySet {
    let mut ports = listeners.into_iter().map(|listener| listener.port());
    if ports.any(|port| (1..UNPRIVILEGED).contains(&port)) {
        CapabilitySet::NET_BIND_SERVICE
    } else {
        CapabilitySet::empty()
    }
}

/// Gives up all capabilities but these, and all of them for programs that are started. Call it while there is one thread.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn keep(wanted: CapabilitySet) -> Result<(), PrivilegeError> {
    let step = |step| move |source| PrivilegeError { step, source };
    let had = thread::capabilities(None).map_err(step("read capabilities"))?;
    if had.effective.contains(CapabilitySet::SETPCAP) {
        bound(wanted).map_err(step("limit the bounding set"))?;
        // Or whatever root starts would have what the bounding set allows.
        let rootless = SecureBits::NO_ROOT | SecureBits::NO_ROOT_LOCKED;
        thread::set_capabilities_secure_bits(rootless).map_err(step("set the secure bits"))?;
    }
    thread::clear_ambient_capability_set().map_err(step("clear the ambient set"))?;
    thread::set_no_new_privs(true).map_err(step("forbid new privileges"))?;
    let kept = had.permitted & wanted;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    thread::set_capabilities(None, sets).map_err(step("set capabilities"))
}

/// Takes all that the kernel knows out of the bounding set, but for what is wanted.
fn bound(wanted: CapabilitySet) -> Result<(), Errno> {
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match is_bounding(one) {
            Ok(true) if !wanted.contains(one) => thread::remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            // The last one was the last that this kernel knows.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_of_administration_take_a_capability() {
        let listening = |at: &str| of_agent(Some(at.parse().unwrap()));
        assert!(!of_agent(None).contains(CapabilitySet::NET_BIND_SERVICE));
        assert!(!listening("127.0.0.1:9440").contains(CapabilitySet::NET_BIND_SERVICE));
        assert!(!listening("127.0.0.1:1024").contains(CapabilitySet::NET_BIND_SERVICE));
        assert!(listening("127.0.0.1:1023").contains(CapabilitySet::NET_BIND_SERVICE));
        assert!(!listening("127.0.0.1:0").contains(CapabilitySet::NET_BIND_SERVICE), "any port");
    }

    #[test]
    fn a_thread_that_gave_up_has_nothing_left_and_gives_its_children_nothing() {
        let status = || std::fs::read_to_string("/proc/thread-self/status").unwrap();
        // In a thread of its own: what is given up does not come back.
        let (own, child) = std::thread::spawn(move || {
            keep(CapabilitySet::NET_RAW).unwrap();
            let child = std::process::Command::new("cat").arg("/proc/self/status").output().unwrap();
            (status(), String::from_utf8(child.stdout).unwrap())
        })
        .join()
        .unwrap();
        let raw = format!("{:016x}", CapabilitySet::NET_RAW.bits());
        let none = format!("{:016x}", 0);
        let line = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned()
        };
        for name in ["CapEff:", "CapPrm:", "CapBnd:"] {
            assert_eq!(line(&own, name), raw, "{name} {own}");
        }
        for name in ["CapInh:", "CapAmb:"] {
            assert_eq!(line(&own, name), none, "{name} {own}");
        }
        for name in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            assert_eq!(line(&child, name), none, "{name} {child}");
        }
        assert_eq!(line(&child, "NoNewPrivs:"), "1");
    }
}
