//! `meshlb trace` beside a running agent: what is told, and that nothing of it stays, whoever is killed.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Download, Downloads};
use mesh_userspace::api::types::{BackendView, Status, TraceLine, TraceView};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn status(scene: &Scene) -> Status {
    scene.agent.cli_json(&["status"]).unwrap()
}

fn await_watched(scene: &Scene, watched: bool) {
    eventually(&format!("watched: {watched}"), SOON, || status(scene).watched == watched).unwrap();
}

/// `meshlb trace`, once the programs that tell of packets are attached.
fn watch(scene: &Scene, arguments: &[&str]) -> Child {
    let mut command: Command = scene.topology.balancer().command(scene.agent.binary());
    command.arg("trace").args(arguments).arg("--socket").arg(scene.agent.socket());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    await_watched(scene, true);
    child
}

/// What a command that must succeed has written.
fn said(child: Child) -> String {
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn lines(child: Child) -> Vec<TraceLine> {
    said(child).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The packets among lines, and how many were missed.
fn told(lines: Vec<TraceLine>) -> (Vec<TraceView>, u64) {
    let (mut packets, mut missed) = (Vec::new(), 0);
    for line in lines {
        match line {
            TraceLine::Packet(packet) => packets.push(*packet),
            TraceLine::Missed(so_far) => missed = so_far,
        }
    }
    (packets, missed)
}

/// Packets sent to each backend so far.
fn sent(scene: &Scene) -> BTreeMap<String, u64> {
    let views: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    views.into_iter().map(|view| (view.address, view.packets)).collect()
}

fn every_packet_of_clients_is_told_of(native: bool) {
    let scene = Plot { native, ..Plot::new(V4, Way::IpipV4).unwrap() }.set().unwrap();
    let before = sent(&scene);
    let watcher = watch(&scene, &["--service", "web", "--for", "6s", "-o", "json"]);
    let client = scene.client().unwrap();
    let answers: Vec<_> = (0..30).map(|_| client.get(scene.service()).unwrap()).collect();
    let downloads = Downloads::start(&client, 4, Download::lasting(scene.service(), Duration::from_secs(1)));
    assert!(downloads.finish(LONG).unwrap().failures.is_empty());
    let (packets, missed) = told(lines(watcher));
    assert!(!status(&scene).watched, "the agent ended it when the time was over");
    let after = sent(&scene);
    let mut by_backend = BTreeMap::<String, u64>::new();
    for packet in &packets {
        assert_eq!((packet.outcome.as_str(), packet.service.as_deref()), ("transmitted", Some("web")));
        *by_backend.entry(packet.backend.clone().unwrap()).or_default() += 1;
    }
    let counted: u64 = after.iter().map(|(address, count)| count - before[address]).sum();
    assert_eq!(by_backend.values().sum::<u64>() + missed, counted);
    // The first packet of each connection went where the answer came from.
    for answer in answers {
        let (client, backend) = (answer.client.unwrap().to_string(), answer.backend);
        let mut own = packets.iter().filter(|packet| packet.client.as_ref() == Some(&client));
        let first = own.next().unwrap();
        assert_eq!((first.flags.as_deref(), &first.backend), (Some("SYN"), &backend));
        assert!(own.all(|packet| packet.backend == backend));
    }
}

#[test]
fn every_packet_of_clients_is_told_of_with_generic_xdp() {
    every_packet_of_clients_is_told_of(false);
}

#[test]
fn every_packet_of_clients_is_told_of_with_native_xdp() {
    every_packet_of_clients_is_told_of(true);
}

#[test]
fn a_watcher_that_is_killed_is_noticed_and_one_watches_at_a_time() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let client = scene.client().unwrap();
    for _ in 0..3 {
        let mut watcher = watch(&scene, &[]);
        let refused = scene.agent.cli(&["trace"]).unwrap();
        let complaint = String::from_utf8(refused.stderr).unwrap();
        assert!(
            !refused.status.success() && complaint.contains("somebody watches packets already"),
            "{complaint}"
        );
        client.get(scene.service()).unwrap();
        watcher.kill().unwrap();
        watcher.wait().unwrap();
        await_watched(&scene, false);
        client.get(scene.service()).unwrap();
    }
    // Who interrupts is told what was seen.
    let watcher = watch(&scene, &["--service", "web"]);
    client.get(scene.service()).unwrap();
    let pid = Pid::from_raw(watcher.id().try_into().unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    let text = said(watcher);
    assert!(text.trim_end().lines().last().unwrap().contains(" packets, 0 missed"), "{text}");
    await_watched(&scene, false);
    assert!(!is_pinned(&scene.topology.bpffs()), "the programs that told of packets stay pinned");
    for (arguments, complaint) in [
        (&["trace", "--service", "api"][..], "there is no service \"api\""),
        (&["trace", "--backend", "10.9.9.9"], "no service has a backend 10.9.9.9"),
    ] {
        let refused = scene.agent.cli(arguments).unwrap();
        assert!(String::from_utf8(refused.stderr).unwrap().contains(complaint), "{arguments:?}");
        assert!(!status(&scene).watched, "a refusal leaves nothing attached");
    }
}

/// Whether the pin of programs that tell of packets is somewhere below.
fn is_pinned(directory: &Path) -> bool {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut entries = entries.collect::<Vec<_>>().into_iter();
    entries.any(|path| path.ends_with("TRACE_PROGRAMS") || path.is_dir() && is_pinned(&path))
}

#[test]
fn packets_flow_on_when_the_agent_is_killed_while_somebody_watches() {
    let mut scene = Plot::new(V4, Way::IpipV4).unwrap().set().unwrap();
    let client = scene.client().unwrap();
    let downloads = Downloads::start(&client, 20, Download::lasting(scene.service(), Duration::from_secs(8)));
    downloads.flowing(SOON).unwrap();
    let mut watcher = watch(&scene, &[]);
    scene.agent.kill9().unwrap();
    watcher.wait().unwrap();
    for _ in 0..20 {
        client.get(scene.service()).unwrap();
    }
    assert!(is_pinned(&scene.topology.bpffs()), "the programs that are attached need the pin");
    scene.agent.restart().unwrap();
    assert!(scene.agent.log().contains("took over the link"), "{}", scene.agent.log());
    assert!(!status(&scene).watched && !is_pinned(&scene.topology.bpffs()));
    for _ in 0..20 {
        client.get(scene.service()).unwrap();
    }
    // An agent that ends in peace takes its leave of who watches.
    let mut watcher = watch(&scene, &[]);
    assert!(scene.agent.terminate().unwrap().success());
    watcher.wait().unwrap();
    assert!(!is_pinned(&scene.topology.bpffs()));
    client.get(scene.service()).unwrap();
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

#[test]
fn drops_are_told_by_reason_and_a_file_can_be_read_by_others() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let client = scene.client().unwrap();
    for number in 0..3 {
        scene.must(&["drain", "web", &scene.backend(number).unwrap().to_string()]).unwrap();
    }
    let watcher = watch(&scene, &["--drops", "--count", "2"]);
    assert!(client.get(scene.service()).is_err(), "nobody takes new flows");
    let text = said(watcher);
    let lines: Vec<_> = text.lines().collect();
    assert!(
        lines.iter().take(2).all(|line| line.contains(" eth0 no_backend web (") && line.contains("[SYN]")),
        "{text}"
    );
    assert!(text.ends_with("2 packets, 0 missed: no_backend 2\n"), "{text}");
    await_watched(&scene, false);

    let file = scene.agent.config_path().with_file_name("drops.pcapng");
    let watcher =
        watch(&scene, &["--outcome", "no_backend", "--count", "3", "-w", &file.display().to_string()]);
    let _no_answer = client.get(scene.service());
    let _nor_here = client.get(scene.service());
    let text = said(watcher);
    assert!(text.contains("3 packets written to ") && text.contains("no_backend 3"), "{text}");
    let read = Command::new("tcpdump").arg("-nr").arg(&file).output().unwrap();
    let read = String::from_utf8(read.stdout).unwrap();
    assert_eq!(read.lines().count(), 3, "{read}");
    assert!(read.lines().all(|line| line.contains("> 192.0.2.10.8080: Flags [S]")), "{read}");
    let bytes = std::fs::read(&file).unwrap();
    assert!(bytes.windows(14).any(|window| window == b"no_backend web"), "the comment is in the file");
}
