//! The demo does what it says, and what it leaves running can be tried and goes.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const DEMO: &str = env!("CARGO_BIN_EXE_demo");

/// Namespaces, files and mounts of the process.
fn traces_of(pid: u32) -> Vec<String> {
    let mark = format!("mlb-{pid}-");
    let names = |directory: &Path| {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut traces = names(Path::new("/run/netns"));
    traces.extend(names(&std::env::temp_dir()));
    traces.extend(fs::read_to_string("/proc/self/mountinfo").unwrap().lines().map(str::to_owned));
    traces.retain(|trace| trace.contains(&mark));
    traces
}

/// The rows of the summary: what is between the borders, cell by cell.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let rows = text.lines().filter(|line| line.starts_with('│'));
    rows.map(|row| row.split(['│', '┆']).map(str::trim).filter(|cell| !cell.is_empty()).collect()).collect()
}

#[test]
fn the_demo_shows_five_phases_that_are_right_and_leaves_nothing() {
    let child = Command::new(DEMO).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    let (text, complaint) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{status}\n{text}\n{complaint}");
    let rows = rows(&text);
    let phases: Vec<_> = rows.iter().filter(|row| row.last() == Some(&"ok")).map(|row| row[0]).collect();
    assert_eq!(
        phases,
        [
            "spread over 3 backends",
            "backend-3 killed",
            "backend-3 back",
            "backend-1 drained",
            "backend-1 undrained"
        ],
        "{text}"
    );
    assert!(text.contains("none dropped") && !text.contains("wrong"), "{text}");
    assert_eq!(complaint, "");
    assert_eq!(traces_of(pid), Vec::<String>::new());
}

/// A demo that is left running; ended with the test, however that ends.
struct Kept {
    child: Child,
    commands: Vec<String>,
}

impl Kept {
    fn start() -> Self {
        let mut child = Command::new(DEMO).arg("--keep").stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let is_command = |line: &String| line.starts_with("    ");
        let mut said = String::new();
        let mut lines = lines.inspect(|line| said += &format!("{line}\n"));
        let first = lines.find(is_command);
        let hints = lines.take_while(|line| !line.is_empty()).filter(is_command);
        let commands: Vec<_> = first.into_iter().chain(hints).map(|line| line.trim().to_owned()).collect();
        assert!(!commands.is_empty(), "{said}");
        Self { child, commands }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Nobody to signal when it has ended and was waited for.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = kill(self.pid(), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

fn must(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {}: {complaint}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// A word of each command, and of what it prints.
const PRINTED: [(&str, &str); 11] = [
    ("192.0.2.10:80", "backend-"),
    ("[2001:db8::10]:80", "backend-"),
    (" status", "native"),
    (" services", "web6"),
    (" backends", "10.77.0.103"),
    (" flows", "CLIENT"),
    (" drain", "is draining"),
    (" undrain", "gets new flows again"),
    (" down", ""),
    (" up", ""),
    ("/metrics", "meshlb_ready 1"),
];

#[test]
fn what_is_kept_answers_the_commands_shown_and_goes_with_a_signal() {
    let mut kept = Kept::start();
    assert_eq!(kept.commands.len(), PRINTED.len(), "{:?}", kept.commands);
    for (command, (word, answer)) in kept.commands.iter().zip(PRINTED) {
        assert!(command.contains(word), "{command} does not contain {word}");
        let printed = must(command);
        assert!(printed.contains(answer), "{command} printed {printed}");
    }
    assert!(!traces_of(kept.child.id()).is_empty());
    kill(kept.pid(), Signal::SIGTERM).unwrap();
    let status = kept.child.wait().unwrap();
    assert_eq!(status.signal(), Some(Signal::SIGTERM as i32));
    assert_eq!(traces_of(kept.child.id()), Vec::<String>::new());
}
