//! The binary as a shell sees it: exit status, standard output, standard error.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output, Stdio};
use std::sync::mpsc as sync_mpsc;

use mesh_userspace::agent::Command;
use mesh_userspace::api::types::{FlowView, Status};
use mesh_userspace::api::{AgentHandle, ApiSocket, Readiness, serve};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

fn meshlb(arguments: &[&str]) -> Process {
    let mut process = Process::new(env!("CARGO_BIN_EXE_meshlb"));
    process.args(arguments);
    process
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = meshlb(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// An API answered by `behave`, as long as the runtime lives.
fn api(runtime: &Runtime, directory: &TempDir, behave: impl Fn(Command) + Send + 'static) -> PathBuf {
    let socket = directory.path().join("meshlb.sock");
    let (commands, mut received) = mpsc::channel(1);
    let (_, ready) = watch::channel(Readiness::Ready);
    let _inside = runtime.enter();
    let bound = ApiSocket::bind(&socket).unwrap();
    runtime.spawn(serve(bound, AgentHandle::new(commands, ready), CancellationToken::new()));
    runtime.spawn(async move {
        while let Some(command) = received.recv().await {
            tokio::task::block_in_place(|| behave(command));
        }
    });
    socket
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_missing_agent_is_a_failure_that_says_how_to_start_it() {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("none.sock");
    let (code, out, err) = run(&["status", "--socket", text(&socket)]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    let expected = format!(
        "error: no agent at {}: there is no such socket\n\
         help: is the agent running? start it with: meshlb run --config FILE; or give --socket PATH\n",
        socket.display()
    );
    assert_eq!(err, expected);
}

#[test]
fn bad_usage_exits_with_2_and_help_with_0() {
    for (arguments, code) in
        [(&["fly"][..], 2), (&[][..], 2), (&["drain", "web", "x"][..], 2), (&["drain", "--help"][..], 0)]
    {
        assert_eq!(run(arguments).0, Some(code), "{arguments:?}");
    }
}

#[test]
fn an_answer_goes_to_standard_output() {
    let (runtime, directory) = (Runtime::new().unwrap(), TempDir::new().unwrap());
    let socket = api(&runtime, &directory, |command| {
        let Command::Status(reply) = command else { panic!("{command:?}") };
        reply.send(Status { version: "9.9.9".into(), ready: true, ..Status::default() }).unwrap();
    });
    let (code, out, err) = run(&["status", "--socket", text(&socket)]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with("meshlb 9.9.9: ready, up 0s\n"), "{out}");
    let (_, out, _) = run(&["-o", "json", "status", "--socket", text(&socket)]);
    assert_eq!(serde_json::from_str::<Status>(&out).unwrap().version, "9.9.9");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (runtime, directory) = (Runtime::new().unwrap(), TempDir::new().unwrap());
    let (closed, is_closed) = sync_mpsc::channel();
    let socket = api(&runtime, &directory, move |command| {
        let Command::Flows { limit, reply, .. } = command else { panic!("{command:?}") };
        is_closed.recv().unwrap();
        reply.send(Ok(vec![FlowView::default(); limit])).unwrap();
    });
    let mut child = meshlb(&["flows", "--limit", "5000", "--socket", text(&socket)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    closed.send(()).unwrap();
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    assert_eq!((status.code(), String::from_utf8(stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn nothing_is_detached_under_a_running_agent() {
    let (runtime, directory) = (Runtime::new().unwrap(), TempDir::new().unwrap());
    let socket = api(&runtime, &directory, |command| panic!("{command:?}"));
    let (code, _, err) = run(&["detach", "--socket", text(&socket)]);
    let expected = format!(
        "error: the agent is running at {}\nhelp: stop it first: systemctl stop meshlb\n",
        socket.display()
    );
    assert_eq!((code, err), (Some(1), expected));
}

#[test]
fn a_configuration_is_checked_without_an_agent() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("meshlb.toml");
    let check = |port: &str| {
        let service =
            "[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nprotocol = \"tcp\"\nforward = \"l2\"";
        let toml = format!("[agent]\ninterfaces = [\"eth0\"]\n{service}\nport = {port}\n");
        std::fs::write(&file, toml).unwrap();
        run(&["check", text(&file)])
    };
    let valid = format!("{}: valid: 1 service, 0 backends\n\nMAP ", file.display());
    let (code, out, err) = check("\"8000-8100\"");
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.starts_with(&valid), "{out}");
    let rows: Vec<Vec<&str>> = out.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
    assert!(
        rows.contains(&vec!["TABLES", "1", "12.5"]) && rows.contains(&vec!["RULES", "4", "0.1"]),
        "{out}"
    );
    assert!(rows.last().is_some_and(|row| matches!(row.as_slice(), ["all", _])), "{out}");
    let (_, out, _) = run(&["check", "-o", "json", text(&file)]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    let maps = report["maps"].as_array().unwrap();
    let sum: u64 = maps.iter().map(|map| map["bytes"].as_u64().unwrap()).sum();
    assert_eq!(report["memory_bytes"].as_u64(), Some(sum));
    assert!(
        maps.iter().any(|map| map["map"] == "CLIENTS" && map["bytes"].as_u64() > Some(13 << 20)),
        "{out}"
    );
    let (code, out, err) = check("99999");
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(err.starts_with("error: ") && err.contains(&format!("{}:8:8", file.display())), "{err}");
}
