//! Two network namespaces joined by a cable, removed again whatever happens.

use std::fs::File;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// A namespace of our own; removed with everything in it when it is dropped.
pub(super) struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("meshlb-nexthop-{}-{number}", std::process::id()));
        run("ip", &["netns", "add", &namespace.0]);
        namespace
    }

    /// `ip` with words separated by spaces.
    pub(super) fn ip(&self, command: &str) {
        let words: Vec<&str> = ["-n", &self.0].into_iter().chain(command.split(' ')).collect();
        run("ip", &words);
    }

    pub(super) fn sysctl(&self, name: &str, value: &str) {
        let write = format!("echo {value} > /proc/sys/net/{name}");
        run("ip", &["netns", "exec", &self.0, "sh", "-c", &write]);
    }

    fn enter(&self) {
        let namespace = File::open(format!("/run/netns/{}", self.0)).unwrap();
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
}

/// This host and one neighbour: `eth0` at both ends, 10.99.0.1 and fd99::1 here, 10.99.0.2 and fd99::2 there.
pub(super) struct Lab {
    pub(super) host: Namespace,
    pub(super) peer: Namespace,
}

impl Lab {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "network namespaces need root: run this test as root");
        let lab = Self { host: Namespace::new(), peer: Namespace::new() };
        lab.host.ip(&format!(
            "link add eth0 address 02:00:00:00:00:01 type veth peer name eth0 address 02:00:00:00:00:02 netns {}",
            lab.peer.0
        ));
        for (namespace, number) in [(&lab.host, 1), (&lab.peer, 2)] {
            namespace.ip("link set lo up");
            namespace.ip(&format!("address add 10.99.0.{number}/24 dev eth0"));
            namespace.ip(&format!("address add fd99::{number}/64 dev eth0 nodad"));
            namespace.ip("link set eth0 up");
        }
        lab
    }
}

/// Runs a test on a thread of its own inside the host's namespace.
pub(super) fn in_lab(test: impl AsyncFnOnce(&Lab) + Send + 'static) {
    let inside = std::thread::spawn(|| {
        let lab = Lab::new();
        lab.host.enter();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(&lab));
    });
    inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}
