//! Nothing is left behind, however a test or its process ends.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use mesh_tests::Topology;
use mesh_tests::wait::{eventually, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{LONG, SOON};

fn traces_of(topology: &str) -> Vec<String> {
    let namespaces = fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name());
    let namespaces = namespaces.map(|name| name.into_string().unwrap());
    let mut traces: Vec<_> = namespaces.filter(|name| name.starts_with(&format!("{topology}-"))).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    traces.extend(mounts.lines().filter(|line| line.contains(&format!("{topology}/"))).map(str::to_owned));
    let directory = std::env::temp_dir().join(topology);
    traces.extend(directory.exists().then(|| directory.display().to_string()));
    traces
}

#[test]
fn a_panic_leaves_no_namespace_mount_file_or_process() {
    let mut known = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let topology = Topology::builder().backends(2).build().unwrap();
        fs::write(topology.bpffs().join("../a-file"), "x").unwrap();
        let child = topology.client().command("sleep").arg("1000").spawn().unwrap();
        assert!(traces_of(topology.name()).len() > 4, "there is something to clean up");
        known = Some((topology.name().to_owned(), child));
        panic!("as a failing test does");
    }));
    assert!(panic.is_err());
    let (topology, mut child) = known.unwrap();
    assert_eq!(traces_of(&topology), Vec::<String>::new());
    assert_eq!(killer_of(&mut child), Some(Signal::SIGKILL));
}

#[test]
fn a_process_that_wiped_its_environment_ends_with_its_topology() {
    let topology = Topology::builder().build().unwrap();
    let mut child = topology.client().command("env").args(["-i", "sleep", "1000"]).spawn().unwrap();
    let environment = format!("/proc/{}/environ", child.id());
    eventually("the mark is gone", SOON, || fs::read(&environment).is_ok_and(|read| read.is_empty()))
        .unwrap();
    drop(topology);
    assert_eq!(killer_of(&mut child), Some(Signal::SIGKILL));
}

fn killer_of(child: &mut Child) -> Option<Signal> {
    let running = "it is still running";
    let end = until("the process has ended", SOON, || child.try_wait()?.context(running)).unwrap();
    end.signal().map(|number| Signal::try_from(number).unwrap())
}

/// Not a test by itself: the tests of interruption run it in a process of its own and interrupt it.
#[test]
#[ignore = "waits until it is killed"]
fn helper_that_waits_to_be_killed() {
    let topology = Topology::builder().backends(1).build().unwrap();
    let ready = std::env::var_os("MESHLB_HARNESS_READY").unwrap();
    let mut child = topology.client().command("sleep").arg("1000").spawn().unwrap();
    let unfinished = Path::new(&ready).with_extension("part");
    fs::write(&unfinished, format!("{} {}", topology.name(), child.id())).unwrap();
    fs::rename(&unfinished, &ready).unwrap();
    let nobody_came = eventually("somebody kills this process", LONG, || false);
    child.kill().and_then(|()| child.wait()).unwrap();
    nobody_came.unwrap();
}

/// Interrupts a process with a live topology: its topology, its child, and how it ended.
fn interrupt_another_process(signal: Signal) -> (String, i32, Option<Signal>) {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "cleanup::helper_that_waits_to_be_killed"])
        .env("MESHLB_HARNESS_READY", &ready)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let made = until("the other process has a topology", SOON, || Ok(fs::read_to_string(&ready)?)).unwrap();
    let (topology, child) = made.split_once(' ').unwrap();
    assert!(!traces_of(topology).is_empty());
    kill(Pid::from_raw(other.id().try_into().unwrap()), signal).unwrap();
    (topology.to_owned(), child.parse().unwrap(), killer_of(&mut other))
}

fn assert_gone(pid: i32) {
    let gone = || {
        // A zombie that nobody has collected yet is gone, too.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    };
    eventually("the child has gone", SOON, gone).unwrap();
}

#[test]
fn an_interrupted_process_cleans_up_and_dies_of_the_signal() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (topology, child, end) = interrupt_another_process(signal);
        assert_eq!(end, Some(signal));
        assert_eq!(traces_of(&topology), Vec::<String>::new(), "after {signal}");
        assert_gone(child);
    }
}

#[test]
fn what_a_killed_process_leaves_is_swept_by_the_next() {
    let (topology, child, end) = interrupt_another_process(Signal::SIGKILL);
    assert_eq!(end, Some(Signal::SIGKILL));
    assert_gone(child);
    // Every new topology sweeps; another test's may have been faster.
    drop(Topology::builder().build().unwrap());
    eventually("nothing is left", SOON, || traces_of(&topology).is_empty()).unwrap();
}
