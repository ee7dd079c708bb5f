//! One host of a topology: a namespace with one link, `eth0`.

use std::ffi::OsStr;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use tokio::task::JoinHandle;

use crate::namespace::Namespace;
use crate::runtime::HostRuntime;

/// The interface of every host.
pub const INTERFACE: &str = "eth0";

/// The far end of a host's cable.
#[derive(Debug)]
pub(crate) struct FarEnd {
    pub(crate) namespace: Namespace,
    pub(crate) interface: String,
}

/// A handle to one host; clones are the same host.
#[derive(Debug, Clone)]
pub struct Host(Arc<Facts>);

#[derive(Debug)]
struct Facts {
    name: String,
    namespace: Namespace,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    far_end: FarEnd,
    runtime: OnceLock<HostRuntime>,
}

impl Host {
    pub(crate) fn new(
        name: &str,
        namespace: Namespace,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        far_end: FarEnd,
    ) -> Self {
        Self(Arc::new(Facts { name: name.into(), namespace, v4, v6, far_end, runtime: OnceLock::new() }))
    }

    /// `client`, `balancer`, `router`, `backend-1` …
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The IPv4 address of `eth0`.
    pub fn v4(&self) -> Ipv4Addr {
        self.0.v4
    }

    /// The global IPv6 address of `eth0`.
    pub fn v6(&self) -> Ipv6Addr {
        self.0.v6
    }

    /// The address of `eth0` that is of the same family as `other`.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4().into() } else { self.v6().into() }
    }

    /// The namespace's file, as `nsenter --net=` takes it.
    pub fn namespace_path(&self) -> PathBuf {
        self.0.namespace.path()
    }

    /// A command that starts inside this host. It is killed when the thread that spawned it ends and when the
    /// topology is dropped. Mounts are those of the caller: bpffs stays visible, but `/sys/class/net` shows the
    /// caller's links.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.0.namespace.command(program)
    }

    /// Runs a closure on a new thread inside this host; a panic in it is the caller's.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        self.0.namespace.run(work)
    }

    /// A new runtime with `threads` threads inside this host.
    pub fn runtime(&self, threads: usize) -> Result<HostRuntime> {
        HostRuntime::start(&self.0.namespace, threads)
    }

    /// Starts a future inside this host, on a runtime that all callers share.
    pub fn spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        if self.0.runtime.get().is_none() {
            let _ = self.0.runtime.set(self.runtime(1)?);
        }
        Ok(self.0.runtime.get().context("the host's runtime is not set")?.spawn(future))
    }

    /// Runs `ip` commands in this host, one per line.
    pub fn ip(&self, script: &str) -> Result<()> {
        self.0.namespace.ip(script)
    }

    /// Sets a kernel setting of this host, given as a path: `net/ipv4/ip_forward`.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.0.namespace.sysctls(&[(key, value)])
    }

    /// Pulls this host's cable: the far end goes down, `eth0` loses its carrier and keeps its configuration.
    pub fn link_down(&self) -> Result<()> {
        self.set_far_end("down")
    }

    /// Puts the cable back.
    pub fn link_up(&self) -> Result<()> {
        self.set_far_end("up")
    }

    /// Has the far end of this host's cable lose frames whose packets are longer, which nobody is told.
    pub fn narrow(&self, mtu: u32) -> Result<()> {
        let FarEnd { namespace, interface } = self.far_end();
        namespace.ip(&format!("link set {interface} mtu {mtu}\n"))
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.0.namespace.directory()
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.0.namespace
    }

    pub(crate) fn far_end(&self) -> &FarEnd {
        &self.0.far_end
    }

    fn set_far_end(&self, state: &str) -> Result<()> {
        let FarEnd { namespace, interface } = self.far_end();
        namespace.ip(&format!("link set {interface} {state}\n"))
    }
}
