//! What the agent tells the service manager, and what it may do while it runs.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test's helpers fail by panicking, too"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::{eventually, until};
use mesh_tests::{LoggedChild, Topology, meshlb};
use mesh_userspace::api::types::BackendView;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(30);

/// Numbers of the capabilities that are documented (include/uapi/linux/capability.h).
const NUMBERS: [(&str, u64); 5] = [
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_NET_ADMIN", 12),
    ("CAP_NET_RAW", 13),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

fn set(names: &[String]) -> u64 {
    names.iter().map(|name| 1 << NUMBERS.iter().find(|(known, _)| known == name).unwrap().1).sum()
}

/// The capabilities of the table in SECURITY.md whose second column names who has them.
fn documented(who: &str) -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("SECURITY.md");
    let text = fs::read_to_string(file).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `CAP_")?.split_once("` | "));
    let rows = rows.filter(|(_, rest)| rest.split('|').next().unwrap().contains(who));
    rows.map(|(name, _)| format!("CAP_{name}")).collect()
}

/// The capability sets of each thread of a process, by the kernel's names, and whether new privileges are forbidden.
fn threads(process: u32) -> Vec<BTreeMap<String, u64>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    tasks.map(|task| sets(&fs::read_to_string(task.unwrap().path().join("status")).unwrap())).collect()
}

fn sets(status: &str) -> BTreeMap<String, u64> {
    let fields = status.lines().filter_map(|line| line.split_once(":\t"));
    let known = fields.filter(|(name, _)| name.starts_with("Cap") || *name == "NoNewPrivs");
    known.map(|(name, value)| (name.to_owned(), u64::from_str_radix(value, 16).unwrap())).collect()
}

fn assert_has(process: u32, wanted: u64) {
    let expected = [
        ("CapAmb", 0),
        ("CapBnd", wanted),
        ("CapEff", wanted),
        ("CapInh", 0),
        ("CapPrm", wanted),
        ("NoNewPrivs", 1),
    ];
    let expected = BTreeMap::from(expected.map(|(name, set)| (name.to_owned(), set)));
    let threads = threads(process);
    assert!(threads.len() > 1, "a runtime has threads");
    assert!(threads.iter().all(|thread| *thread == expected), "expected {expected:x?}: {threads:x?}");
}

fn scene(health: &str) -> Scene {
    let plot =
        Plot { service: format!("health = {{ {health} }}"), ..Plot::new("192.0.2.10", Way::IpipV4).unwrap() };
    plot.set().unwrap()
}

#[test]
fn agent_and_decapsulator_have_the_documented_capabilities_and_no_others() {
    let scene = scene("kind = \"icmp\", interval = \"200ms\"");
    assert_has(scene.agent.pid().unwrap(), set(&documented("agent")));
    // What the table names for ports below 1024 is for those only.
    let mut agent = scene.agent;
    let mut config: toml::Table = fs::read_to_string(agent.config_path()).unwrap().parse().unwrap();
    config["metrics"] = toml::toml! { listen = "127.0.0.1:944" }.into();
    agent.write_config(&config.to_string()).unwrap();
    agent.restart().unwrap();
    assert_has(agent.pid().unwrap(), set(&documented("agent")) | set(&documented("low port")));
    assert_has(scene.decaps[0].pid(), set(&documented("decap")));
}

#[test]
fn a_probing_command_has_no_capability() {
    let shown = tempfile::tempdir().unwrap();
    let file = shown.path().join("status");
    let command = format!("cp /proc/self/status {0}.new && mv {0}.new {0}", file.display());
    let health =
        format!("kind = \"command\", command = [\"/bin/sh\", \"-c\", {command:?}], interval = \"200ms\"");
    let _scene = scene(&health);
    let status = until("the command ran", SOON, || Ok(fs::read_to_string(&file)?)).unwrap();
    let sets = sets(&status);
    for name in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
        assert_eq!(sets[name], 0, "{name}: {status}");
    }
    assert_eq!(sets["NoNewPrivs"], 1, "{status}");
}

/// Runs the agent without one of its capabilities until it ends; what it says.
fn run_without(topology: &Topology, config: &Path, capability: &str) -> String {
    let mut command = topology.balancer().command("setpriv");
    let less = format!("-{}", capability.strip_prefix("CAP_").unwrap().to_lowercase());
    command.args(["--bounding-set", &less, "--inh-caps", &less]);
    command.arg(meshlb::binary().unwrap()).arg("run").arg("--config").arg(config);
    let log = topology.directory().join("without.log");
    let mut child = LoggedChild::spawn("meshlb run", command, log).unwrap();
    let ended = child.await_end(SOON).unwrap_or_else(|error| panic!("without {capability}: {error:#}"));
    assert!(!ended.success(), "without {capability}: {}", child.log());
    child.log()
}

#[test]
fn no_capability_can_be_left_out() {
    let mut scene = scene("kind = \"icmp\", interval = \"200ms\"");
    scene.agent.terminate().unwrap();
    let config = scene.agent.config_path();
    let needed = documented("agent");
    for capability in needed.iter().filter(|name| *name != "CAP_NET_RAW") {
        // Nothing is adopted.
        scene.must(&["detach", "--config", config.to_str().unwrap()]).unwrap();
        run_without(&scene.topology, &config, capability);
    }
    // The agent goes on without this one, and says who needs it.
    scene.agent.wrap(&["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
    scene.agent.restart().unwrap();
    let complains = |backend: &BackendView| format!("{backend:?}").contains("CAP_NET_RAW");
    eventually("probes say what they lack", SOON, || {
        scene.agent.cli_json::<Vec<BackendView>>(&["backends"]).unwrap().iter().all(complains)
    })
    .unwrap();
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    fn listen(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(SOON)).unwrap();
        Self { socket, heard: Vec::new() }
    }

    fn hear(&mut self) -> String {
        let mut buffer = [0; 4096];
        let length =
            self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{error}: {:?}", self.heard));
        let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
        self.heard.push(message.clone());
        message
    }

    /// The next message that is no sign of life.
    fn hear_news(&mut self) -> String {
        loop {
            let message = self.hear();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }

    fn hear_reload(&mut self) -> String {
        let begins = self.hear_news();
        let since =
            begins.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap_or_else(|| panic!("{begins:?}"));
        assert!(since.trim_end().parse::<u64>().unwrap() > 0, "{begins:?}");
        self.hear_news()
    }
}

#[test]
fn the_service_manager_hears_what_the_agent_does() {
    let mut scene = scene("kind = \"tcp\", interval = \"200ms\"");
    let path = scene.topology.directory().join("notify");
    let mut manager = Manager::listen(&path);
    let variables = [format!("NOTIFY_SOCKET={}", path.display()), "WATCHDOG_USEC=60000000".to_owned()];
    scene.agent.wrap(&[&["env".to_owned()], &variables[..]].concat());
    scene.agent.restart().unwrap();
    assert_eq!(manager.hear_news(), "READY=1\nSTATUS=services: 1\n");
    // One a second, as long as the loop goes round.
    for _ in 0..3 {
        assert_eq!(manager.hear(), "WATCHDOG=1\n");
    }

    let process = Pid::from_raw(scene.agent.pid().unwrap().try_into().unwrap());
    kill(process, Signal::SIGHUP).unwrap();
    assert_eq!(manager.hear_reload(), "READY=1\nSTATUS=services: 1\n");
    let right = fs::read_to_string(scene.agent.config_path()).unwrap();
    scene.agent.write_config_verbatim(&format!("{right}\ngarbage")).unwrap();
    kill(process, Signal::SIGHUP).unwrap();
    let refused = manager.hear_reload();
    assert!(
        refused.starts_with("READY=1\nSTATUS=services: 1, as before; the file was refused: "),
        "{refused:?}"
    );
    assert_eq!(refused.lines().count(), 2, "{refused:?}");
    scene.agent.write_config_verbatim(&right).unwrap();
    kill(process, Signal::SIGHUP).unwrap();
    assert_eq!(manager.hear_reload(), "READY=1\nSTATUS=services: 1\n");

    scene.agent.terminate().unwrap();
    assert_eq!(manager.hear_news(), "STOPPING=1\n");
}
