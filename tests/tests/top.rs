//! `meshlb top` in a terminal, with keys pressed.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::fs;
use std::io::Write as _;
use std::num::NonZeroU16;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::BackendView;

const SOON: Duration = Duration::from_secs(20);

const COLUMNS: NonZeroU16 = NonZeroU16::new(80).unwrap();
const LINES: NonZeroU16 = NonZeroU16::new(24).unwrap();

/// A terminal, which `script` makes and whose output it writes to a file.
struct Screen {
    script: Child,
    file: std::path::PathBuf,
}

impl Screen {
    fn open(scene: &Scene) -> Self {
        let file = scene.topology.directory().join("screen");
        let (program, socket) = (scene.agent.binary().display(), scene.agent.socket());
        let top =
            format!("stty cols {COLUMNS} rows {LINES}; exec {program} top --socket {}", socket.display());
        let mut command: Command = scene.topology.balancer().command("script");
        command.args(["--quiet", "--flush", "--return", "--command", &top]).arg(&file);
        let script =
            command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        Self { script, file }
    }

    /// What stands on it now.
    fn text(&self) -> String {
        let mut terminal = vt100::Parser::new(LINES, COLUMNS, 0);
        terminal.process(&fs::read(&self.file).unwrap_or_default());
        terminal.screen().contents()
    }

    fn shows(&self, what: &str) {
        let is_seen = eventually(&format!("{what:?} is shown"), SOON, || self.text().contains(what));
        assert!(is_seen.is_ok(), "{is_seen:?}: {}", self.text());
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.script.kill());
        drop(self.script.wait());
    }
}

#[test]
fn a_backend_is_drained_from_the_screen() {
    let scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let first = scene.backend(0).unwrap().to_string();
    let mut screen = Screen::open(&scene);
    screen.shows("web");
    screen.press("\r");
    screen.shows(&first);
    screen.press("d");
    screen.shows(&format!("drain {first} of web? y/n"));
    screen.press("y");
    screen.shows(&format!("{first} of web drains"));
    let backends: Vec<BackendView> = scene.agent.cli_json(&["backends"]).unwrap();
    let states: Vec<_> = backends.iter().map(|backend| backend.state.as_str()).collect();
    assert_eq!(states, ["draining", "up", "up"]);
    screen.press("q");
    assert!(screen.script.wait().unwrap().success());
}

#[test]
fn who_has_no_terminal_is_told() {
    let scene = Plot::new("192.0.2.10", Way::L2).unwrap().set().unwrap();
    let output = scene.agent.cli(&["top"]).unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("error: standard output is no terminal\nhelp: "), "{complaint}");
}
