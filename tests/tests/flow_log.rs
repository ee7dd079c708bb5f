//! The flow log beside a running agent: what is in it, and that nothing is missing silently.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers fail by panicking, too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use mesh_tests::Reply;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::Status;
use serde_json::Value;

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);

/// A scene that logs flows to a file; with further lines for that.
fn logging_with(plot: Plot, to: &Path, lines: &str) -> Scene {
    let file = format!("{}\n[flow_log]\nto = {to:?}\n{lines}\n", plot.file);
    Plot { file, ..plot }.set().unwrap()
}

fn logging(plot: Plot, to: &Path) -> Scene {
    logging_with(plot, to, "")
}

fn plot(way: Way) -> Plot {
    Plot::new(V4, way).unwrap()
}

/// A directory of its own, which goes with it.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn status(scene: &Scene) -> Status {
    scene.agent.cli_json(&["status"]).unwrap()
}

/// The records of files, in their order.
fn records(paths: &[PathBuf]) -> Vec<Value> {
    let texts: String = paths.iter().map(|path| fs::read_to_string(path).unwrap_or_default()).collect();
    texts.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn of(records: &[Value], event: &str) -> Vec<Value> {
    records.iter().filter(|record| record["event"] == event).cloned().collect()
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record[key].as_str().unwrap_or_else(|| panic!("no {key} in {record}"))
}

/// Waits until there are so many records of an event.
fn await_records(paths: &[PathBuf], event: &str, count: usize) -> Vec<Value> {
    let what = format!("{count} records say {event}");
    eventually(&what, SOON, || of(&records(paths), event).len() >= count)
        .unwrap_or_else(|error| panic!("{error}: {:?}", records(paths)));
    records(paths)
}

/// Who answered whom, by the client's address and port.
fn answered(replies: &[Reply]) -> BTreeMap<String, String> {
    replies.iter().map(|it| (it.client.unwrap().to_string(), it.backend.clone().unwrap())).collect()
}

/// Every flow begins once and ends once, at the backend that answered it.
fn assert_complete(records: &[Value], replies: &[Reply], vip: &str) {
    let answered = answered(replies);
    assert_eq!(answered.len(), replies.len(), "every request had a connection of its own");
    for event in ["start", "end"] {
        let told = of(records, event);
        let backends: BTreeMap<String, String> =
            told.iter().map(|it| (text(it, "client").into(), text(it, "backend").into())).collect();
        assert_eq!(backends, answered, "{event}");
        assert_eq!(told.len(), replies.len(), "{event}: none is told twice");
        for record in told {
            let named = (text(&record, "service"), text(&record, "vip"), text(&record, "protocol"));
            assert_eq!(named, ("web", vip, "tcp"), "{record}");
        }
    }
    for end in of(records, "end") {
        assert!(["fin", "rst"].contains(&text(&end, "reason")), "{end}");
        assert!(
            end["duration_seconds"].as_f64().is_some_and(|seconds| (0.0..20.0).contains(&seconds)),
            "{end}"
        );
    }
    assert!(of(records, "lost").is_empty() && of(records, "refused").is_empty());
}

fn every_download_begins_and_ends_once(plot: Plot) {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    let scene = logging(plot, &path);
    let client = scene.client().unwrap();
    let replies: Vec<Reply> = (0..60).map(|_| client.get(scene.service()).unwrap()).collect();
    let records = await_records(&[path], "end", replies.len());
    assert_eq!(records[0]["event"], "opened");
    assert_complete(&records, &replies, &scene.service().to_string());
    assert_eq!(status(&scene).problems, Vec::<String>::new());
}

#[test]
fn every_download_is_logged_with_direct_return() {
    every_download_begins_and_ends_once(plot(Way::L2));
}

#[test]
fn every_download_is_logged_with_native_xdp_and_tunnels() {
    every_download_begins_and_ends_once(Plot { native: true, ..plot(Way::GueV4) });
}

#[test]
fn every_download_is_logged_over_ipv6() {
    every_download_begins_and_ends_once(Plot::new("2001:db8::10", Way::IpipV6).unwrap());
}

#[test]
fn what_cannot_begin_is_refused_by_its_outcome() {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    let scene = logging(plot(Way::L2), &path);
    for number in 0..3 {
        scene.must(&["drain", "web", &scene.backend(number).unwrap().to_string()]).unwrap();
    }
    assert!(scene.client().unwrap().get(scene.service()).is_err());
    let records = await_records(&[path], "refused", 1);
    let refused = &of(&records, "refused")[0];
    assert_eq!((text(refused, "outcome"), &refused["backend"]), ("no_backend", &Value::Null));
    assert!(of(&records, "start").is_empty());
}

/// `meshlb trace` in the balancer, for two seconds.
fn watch(scene: &Scene) {
    let mut command: Command = scene.topology.balancer().command(scene.agent.binary());
    command.args(["trace", "--for", "2s", "--socket"]).arg(scene.agent.socket());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("somebody watches", SOON, || status(scene).watched).unwrap();
    let replies = scene.answers(10).unwrap();
    assert_eq!(replies.values().sum::<u32>(), 10);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && said.matches("[SYN]").count() == 10, "{said}");
}

#[test]
fn flows_are_logged_while_somebody_watches_packets_and_after() {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    let scene = logging(plot(Way::L2), &path);
    for round in 1..=2 {
        watch(&scene);
        eventually("nobody watches", SOON, || !status(&scene).watched).unwrap();
        scene.answers(10).unwrap();
        let records = await_records(std::slice::from_ref(&path), "end", round * 20);
        assert_eq!((of(&records, "start").len(), of(&records, "end").len()), (round * 20, round * 20));
        assert!(of(&records, "lost").is_empty(), "{records:?}");
    }
}

/// As logrotate does it: move the file, and tell the agent.
#[test]
fn a_file_that_is_moved_away_is_opened_again_by_a_reload() {
    let directory = directory();
    let [path, moved] = ["flows.jsonl", "flows.jsonl-20261121"].map(|name| directory.path().join(name));
    let scene = logging(plot(Way::L2), &path);
    let client = scene.client().unwrap();
    let mut replies: Vec<Reply> = (0..20).map(|_| client.get(scene.service()).unwrap()).collect();
    await_records(std::slice::from_ref(&path), "end", 20);
    fs::rename(&path, &moved).unwrap();
    scene.must(&["reload"]).unwrap();
    replies.extend((0..20).map(|_| client.get(scene.service()).unwrap()));
    await_records(std::slice::from_ref(&path), "end", 20);
    assert_complete(&records(&[moved, path]), &replies, &scene.service().to_string());
}

#[test]
fn long_files_are_rotated_and_lose_nothing() {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    let scene = logging_with(plot(Way::L2), &path, "rotate_at = 65536\nkeep = 3");
    let client = scene.client().unwrap();
    let replies: Vec<Reply> = (0..250).map(|_| client.get(scene.service()).unwrap()).collect();
    let files: Vec<PathBuf> = [".2", ".1", ""].map(|end| format!("{}{end}", path.display()).into()).to_vec();
    let records = await_records(&files, "end", replies.len());
    assert_complete(&records, &replies, &scene.service().to_string());
    assert!(files[1].exists() && fs::metadata(&files[1]).unwrap().len() <= 65_536);
}

fn has_problem(scene: &Scene, part: &str) -> bool {
    status(scene).problems.iter().any(|problem| problem.contains(part))
}

#[test]
fn a_full_disk_is_told_and_counted_and_holds_up_nobody() {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    symlink("/dev/full", &path).unwrap();
    let scene = logging(plot(Way::L2), &path);
    let client = scene.client().unwrap();
    let replies: Vec<Reply> = (0..20).map(|_| client.get(scene.service()).unwrap()).collect();
    assert_eq!(answered(&replies).len(), 20);
    eventually("the full disk is a problem", SOON, || has_problem(&scene, "No space left on device"))
        .unwrap();
    // All of 20 starts, 20 ends, and the record that says that the log begins.
    eventually("what is lost is counted", SOON, || has_problem(&scene, " 41 records are lost")).unwrap();
    let status = scene.agent.cli(&["status"]).unwrap();
    assert_eq!(status.status.code(), Some(3), "a problem makes itself heard");

    fs::remove_file(&path).unwrap();
    scene.must(&["reload"]).unwrap();
    let replies: Vec<Reply> = (0..5).map(|_| client.get(scene.service()).unwrap()).collect();
    let records = await_records(&[path], "end", 5);
    assert_eq!(
        (&records[0]["event"], &records[0]["by"], &records[0]["count"]),
        (&"lost".into(), &"write".into(), &41.into())
    );
    assert_complete(&records[1..], &replies, &scene.service().to_string());
    eventually("the problem is over", SOON, || !has_problem(&scene, "flow log")).unwrap();
}

/// Whether anything of the log is pinned somewhere below.
fn is_pinned(directory: &Path) -> bool {
    let names = ["LOG_PROGRAMS", "FLOWS", "FLOWS_MISSED"];
    let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.any(|path| names.iter().any(|name| path.ends_with(name)) || path.is_dir() && is_pinned(&path))
}

#[test]
fn packets_flow_on_without_the_agent_and_the_next_one_logs_again() {
    let directory = directory();
    let path = directory.path().join("flows.jsonl");
    let mut scene = logging(plot(Way::IpipV4), &path);
    let client = scene.client().unwrap();
    client.get(scene.service()).unwrap();
    await_records(std::slice::from_ref(&path), "end", 1);
    scene.agent.kill9().unwrap();
    for _ in 0..20 {
        client.get(scene.service()).unwrap();
    }
    scene.agent.restart().unwrap();
    client.get(scene.service()).unwrap();
    let records = await_records(std::slice::from_ref(&path), "end", 2);
    let events: Vec<&str> = records.iter().map(|record| text(record, "event")).collect();
    assert_eq!(
        events,
        ["opened", "start", "end", "opened", "start", "end"],
        "what nobody read is a visible gap"
    );
    client.get(scene.service()).unwrap();
    // An agent that ends in peace writes all that it was told.
    assert!(scene.agent.terminate().unwrap().success());
    let events: Vec<String> =
        self::records(&[path]).iter().map(|record| text(record, "event").to_owned()).collect();
    assert_eq!(events[6..], ["start", "end", "closed"]);
    assert!(!is_pinned(&scene.topology.bpffs()));
    client.get(scene.service()).unwrap();
}

#[test]
fn the_log_can_go_to_standard_output() {
    let scene = logging(plot(Way::L2), Path::new("stdout"));
    scene.answers(3).unwrap();
    let told = || scene.agent.log().lines().filter(|line| line.starts_with("{\"event\":\"end\"")).count();
    eventually("three ends are told", SOON, || told() == 3).unwrap();
}
