//! The systemd unit, under systemd.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use mesh_tests::wait::{eventually, until};
use mesh_tests::{Client, Decap, HttpServer, LoggedChild, Topology, preflight};
use mesh_userspace::api::types::{BackendView, Status};

const SOON: Duration = Duration::from_secs(30);

const VIP: &str = "192.0.2.10";
const PORT: u16 = 8080;

/// Where the configuration is, to the unit.
const FILE: &str = "/etc/meshlb/meshlb.toml";

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(file)
}

fn unit() -> PathBuf {
    deploy("meshlb.service")
}

/// A machine with systemd, whose only service is the agent, in the balancer's place.
struct Machine {
    systemd: LoggedChild,
    client: Client,
    servers: Vec<HttpServer>,
    _decaps: Vec<Decap>,
    _topology: Topology,
}

impl Machine {
    fn boot() -> Self {
        preflight::present("systemctl", "systemd").unwrap();
        let vip = VIP.parse().unwrap();
        let mut topology = Topology::builder().backends(2).build().unwrap();
        topology.add_vip(vip).unwrap();
        let hosts = topology.backends();
        let servers = hosts.iter().map(|host| HttpServer::start(host, PORT, &host.v4().to_string()).unwrap());
        let servers: Vec<_> = servers.collect();
        let decaps = hosts.iter().map(|host| Decap::start(host, &[vip]).unwrap()).collect();
        let (directory, config) = (topology.directory().join("machine"), topology.directory().join("file"));
        fs::create_dir(&directory).unwrap();
        // Probes to the VIP need a device and packets of their own.
        let backends: String = servers
            .iter()
            .map(|server| format!("[[service.backend]]\naddress = \"{}\"\n", server.name()))
            .collect();
        let text = format!(
            "[agent]\ninterfaces = [\"eth0\"]\nxdp_mode = \"generic\"\n[[service]]\nname = \"web\"\nvip = \"{VIP}\"\n\
             port = {PORT}\nprotocol = \"tcp\"\nforward = \"ipip\"\nhealth = {{ kind = \"http\", path = \"/healthz\", \
             interval = \"200ms\", timeout = \"200ms\", to = \"vip\", padded = true }}\n{backends}"
        );
        fs::write(&config, text).unwrap();
        let mut command = topology.balancer().command("unshare");
        command.args(["--mount", "--pid", "--cgroup", "--uts", "--ipc", "--fork", "--kill-child"]);
        command.args(["sh", "-c", include_str!("unit/boot.sh"), "sh"]).arg(directory);
        command.arg(mesh_tests::meshlb::binary().unwrap()).arg(unit());
        command.arg(deploy("meshlb.sysusers")).arg(config);
        let systemd =
            LoggedChild::spawn("systemd", command, topology.directory().join("systemd.log")).unwrap();
        let client = Client::new(topology.client()).unwrap();
        Self { systemd, client, servers, _decaps: decaps, _topology: topology }
    }

    /// The first process of the machine.
    fn init(&self) -> anyhow::Result<String> {
        let pid = self.systemd.pid();
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        Ok(children.trim().to_owned())
    }

    /// Runs something on the machine.
    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--pid", "--net", "--target", &self.init().unwrap()]);
        command.args(words).output().unwrap()
    }

    /// What something says that must succeed.
    fn must(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {output:?}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&self.run(&["tail", "-n", "40", "/var/log/meshlb.log"]).stdout).into_owned()
    }

    fn becomes(&self, state: &str) {
        let is = || {
            let output = self.run(&["systemctl", "is-active", "meshlb"]);
            String::from_utf8_lossy(&output.stdout).trim() == state
        };
        let became = eventually(&format!("the unit is {state}"), SOON, is);
        assert!(became.is_ok(), "{became:?}: {}{}", self.log(), self.systemd.log());
    }

    fn property(&self, name: &str) -> String {
        self.must(&["systemctl", "show", "--value", "--property", name, "meshlb"])
    }

    fn answers(&self) {
        let service = SocketAddr::new(VIP.parse().unwrap(), PORT);
        until("the service answers", SOON, || self.client.get(service)).unwrap();
    }

    fn backends(&self) -> Vec<BackendView> {
        serde_json::from_str(&self.must(&["meshlb", "backends", "-o", "json"])).unwrap()
    }

    fn problems(&self) -> Vec<String> {
        let status: Status = serde_json::from_str(&self.must(&["meshlb", "status", "-o", "json"])).unwrap();
        status.problems
    }
}

#[test]
fn the_unit_runs() {
    let machine = Machine::boot();
    machine.becomes("active");
    machine.answers();
    assert_eq!(machine.problems(), [""; 0]);
    assert!(machine.backends().iter().all(|backend| backend.state == "up"), "{:?}", machine.backends());
    // Nothing to say is what it says.
    assert_eq!(machine.must(&["systemd-analyze", "verify", "meshlb.service"]), "");

    // It is watched, and says what it does.
    assert_eq!(machine.property("WatchdogUSec"), "1min");
    assert_eq!(machine.property("StatusText"), "services: 1");
    // Its group may talk to it, and nobody else.
    let asked = |group: &str| {
        machine.run(&[
            "setpriv",
            "--reuid=nobody",
            &format!("--regid={group}"),
            "--clear-groups",
            "meshlb",
            "services",
        ])
    };
    assert!(asked("meshlb").status.success(), "{:?}", asked("meshlb"));
    assert!(!asked("nogroup").status.success());

    // A reload of what is wrong fails, and changes nothing.
    machine.must(&["systemctl", "reload", "meshlb"]);
    machine.must(&["cp", FILE, "/tmp/right"]);
    machine.must(&["sh", "-c", &format!("echo garbage >> {FILE}")]);
    assert!(!machine.run(&["systemctl", "reload", "meshlb"]).status.success());
    machine.becomes("active");
    let said = machine.property("StatusText");
    assert!(said.starts_with("services: 1, as before; the file was refused"), "{said}");
    machine.must(&["cp", "/tmp/right", FILE]);
    machine.must(&["systemctl", "reload", "meshlb"]);

    // Orders outlive the agent, which is started again when it dies.
    let drained = machine.servers[0].name().to_owned();
    machine.must(&["meshlb", "drain", "web", &drained]);
    assert_eq!(machine.problems(), [""; 0]);
    machine.must(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "meshlb"]);
    eventually("it was started again", SOON, || machine.property("NRestarts") == "1").unwrap();
    machine.becomes("active");
    machine.answers();
    let is_drained = |backend: &BackendView| backend.drained == (backend.address == drained);
    assert!(machine.backends().iter().all(is_drained), "{:?}", machine.backends());
    assert_eq!(machine.problems(), [""; 0]);

    // Packets need no agent.
    machine.must(&["systemctl", "stop", "meshlb"]);
    machine.becomes("inactive");
    machine.answers();
    machine.must(&["systemctl", "start", "meshlb"]);
    machine.becomes("active");
    machine.answers();
}

#[test]
fn the_walls_of_the_unit_are_up() {
    let machine = Machine::boot();
    machine.becomes("active");
    let agent = machine.property("MainPID");
    let status = machine.must(&["cat", &format!("/proc/{agent}/status")]);
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    // NET_ADMIN 12, NET_RAW 13, PERFMON 38, BPF 39 (include/uapi/linux/capability.h).
    let wanted: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;
    for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
        assert_eq!(u64::from_str_radix(value(set), 16).unwrap(), wanted, "{set} {status}");
    }
    // What the agent starts has none.
    for set in ["CapInh:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(value(set), 16).unwrap(), 0, "{set} {status}");
    }
    let user = machine.must(&["id", "--user", "meshlb"]);
    assert!(user != "0" && value("Uid:").split('\t').all(|id| id == user), "{user}: {status}");
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1", "2"));
    let within = |words: &[&str]| machine.run(&[&["nsenter", "--mount", "--target", &agent], words].concat());
    for place in ["/etc/x", "/usr/x", "/sys/fs/bpf/x", "/proc/sys/vm/swappiness", "/sys/fs/cgroup/x"] {
        let output = within(&["sh", "-c", &format!("echo 1 >> {place} || mkdir {place}")]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("Read-only file system"), "{place}: {output:?}");
    }
    for place in ["/run/meshlb/x", "/var/lib/meshlb/x", "/var/log/meshlb/x"] {
        assert!(within(&["touch", place]).status.success(), "{place}");
    }
    assert!(within(&["mkdir", "/sys/fs/bpf/meshlb/x"]).status.success());
}

#[test]
fn the_exposure_of_the_unit_is_no_more_than_documented() {
    preflight::present("systemd-analyze", "systemd").unwrap();
    let mut command = Command::new("systemd-analyze");
    let output = command.args(["security", "--offline=yes", "--no-pager"]).arg(unit()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let (_, level) = said.rsplit_once("Overall exposure level for meshlb.service: ").unwrap();
    let level: f32 = level.split(' ').next().unwrap().parse().unwrap();
    let page = unit().parent().unwrap().parent().unwrap().join("docs/install.md");
    let document = fs::read_to_string(page).unwrap();
    let (_, documented) = document.split_once("an exposure level of ").unwrap();
    let documented: f32 = documented.split([' ', ',']).next().unwrap().parse().unwrap();
    assert!(level <= documented, "{level}, documented is {documented}");
}
