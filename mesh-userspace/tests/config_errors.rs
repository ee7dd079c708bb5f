//! Every wrong configuration is refused with the place, what is wrong and what would be right; none makes the
//! reader panic.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test panics when its claim is false"
)]

#[path = "config_errors/composition.rs"]
mod composition;
#[path = "config_errors/definitions.rs"]
mod definitions;
#[path = "config_errors/discovery.rs"]
mod discovery;
#[path = "config_errors/guard.rs"]
mod guard;
#[path = "config_errors/health.rs"]
mod health;
#[path = "config_errors/include.rs"]
mod include;
#[path = "config_errors/nat.rs"]
mod nat;
#[path = "config_errors/properties.rs"]
mod properties;
#[path = "config_errors/quic.rs"]
mod quic;
#[path = "config_errors/relations.rs"]
mod relations;
#[path = "config_errors/reports.rs"]
mod reports;
#[path = "config_errors/structure.rs"]
mod structure;
#[path = "config_errors/values.rs"]
mod values;

use mesh_userspace::config::{self, Config, ConfigError, Source};

/// A valid configuration; cases replace one part of it. Line numbers in cases count from here.
const VALID: &str = r#"[agent]
interfaces = ["eth0", "eth1"]
xdp_mode = "auto"
on_exit = "keep"
pin_path = "/sys/fs/bpf/meshlb"
seed = "0123456789abcdef"
[api]
socket = "/run/meshlb/meshlb.sock"
[metrics]
listen = "127.0.0.1:9440"
[log]
format = "text"
level = "info"
[limits]
services = 2
backends = 3
slots = 20000
[[service]]
name = "web"
vip = "203.0.113.10"
port = 80
protocol = "tcp"
scheduler = "maglev"
forward = "ipip"
tracking = "adaptive"
window = "30min"
table_size = 1021
[service.health]
kind = "http"
port = 8080
path = "/healthz"
host = "www.example.com"
expect = [200, 204]
interval = "1s"
timeout = "500ms"
rise = 2
fall = 3
panic_threshold = 50
[[service.backend]]
address = "10.0.1.1"
weight = 100
[[service.backend]]
address = "2001:db8::2"
weight = 0
[[service]]
name = "dns"
vip = "2001:db8::53"
port = 53
protocol = "udp"
forward = "l2"
[[service.backend]]
address = "2001:db8::3"
"#;

/// A wrong configuration: its one problem's place, and what its message and advice say.
struct Case {
    text: Vec<u8>,
    at: &'static str,
    message: &'static str,
    advice: &'static str,
}

impl Case {
    /// A second replacement, where one would leave more than one problem.
    fn with(mut self, from: &str, to: &str) -> Self {
        self.text = String::from_utf8(self.text).unwrap().replacen(from, to, 1).into_bytes();
        self
    }

    /// Another advice.
    fn advising(mut self, advice: &'static str) -> Self {
        self.advice = advice;
        self
    }
}

/// The valid configuration with the first `from` replaced.
fn case(from: &str, to: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    assert!(VALID.contains(from), "{from:?} is not in the valid configuration");
    raw(VALID.replacen(from, to, 1), at, message, advice)
}

fn raw(text: impl Into<Vec<u8>>, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    Case { text: text.into(), at, message, advice }
}

fn read(bytes: &[u8]) -> Result<Config, ConfigError> {
    Source::from_bytes("meshlb.toml", bytes.to_vec()).and_then(|source| source.parse())
}

fn check(cases: &[Case]) {
    for case in cases {
        let shown = String::from_utf8_lossy(&case.text);
        let error = read(&case.text).expect_err(&shown);
        let [problem] = error.problems() else { panic!("expected one problem\n{error}\nin\n{shown}") };
        let place = problem.location().map(|location| location.to_string());
        assert_eq!(place.as_deref(), Some(case.at), "\n{error}");
        assert!(problem.message().contains(case.message), "no {:?} in\n{error}", case.message);
        assert!(problem.advice().contains(case.advice), "no {:?} in\n{error}", case.advice);
        let rendered = error.to_string();
        assert!(rendered.contains(&format!("--> meshlb.toml:{}\n", case.at)), "\n{rendered}");
    }
}

#[test]
fn the_configuration_that_the_cases_change_is_valid() {
    config::parse("meshlb.toml", VALID).unwrap();
}
