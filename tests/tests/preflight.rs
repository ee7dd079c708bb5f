//! `meshlb preflight` on hosts that lack something: each fault is planted, and has to be named with what to do about it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking, too")]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, include_bytes_aligned};
use mesh_tests::{Agent, Builder, Host, Topology, meshlb};
use mesh_userspace::preflight::{CHECKS, Finding, Level, Report};

const VIP: &str = "192.0.2.10";

/// A host on which no agent has run yet, and the configuration that it is to have.
struct Ground {
    topology: Topology,
    agent: String,
    service: String,
    metrics: String,
    backends: Vec<String>,
}

impl Ground {
    fn new(builder: Builder) -> Self {
        let topology = builder.build().unwrap();
        let backends = topology.backends().iter().map(|host| host.v4().to_string()).collect();
        let directory = topology.directory();
        let agent = format!(
            "interfaces = [\"eth0\"]\nxdp_mode = \"generic\"\npin_path = {:?}\nstate_directory = {:?}\n",
            topology.bpffs().join("meshlb"),
            directory.join("state"),
        );
        let service = "forward = \"ipip\"\nhealth = { kind = \"tcp\" }\n".to_owned();
        Self { topology, agent, service, metrics: "off".into(), backends }
    }

    fn host(&self) -> &Host {
        self.topology.balancer()
    }

    /// Writes the configuration, and says where it is.
    fn file(&self) -> PathBuf {
        let directory = self.topology.directory();
        let backend = |address: &String| format!("[[service.backend]]\naddress = \"{address}\"\n");
        let text = format!(
            "[agent]\n{}[api]\nsocket = {:?}\n[metrics]\nlisten = \"{}\"\n[[service]]\nname = \"web\"\n\
             vip = \"{VIP}\"\nport = 8080\nprotocol = \"tcp\"\n{}{}",
            self.agent,
            directory.join("agent/meshlb.sock"),
            self.metrics,
            self.service,
            self.backends.iter().map(backend).collect::<String>(),
        );
        let file = directory.join("preflight.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// What is found; the exit status has to say the same.
    fn check(&self) -> Report {
        self.check_by(|program| self.host().command(program))
    }

    fn check_by(&self, start: impl Fn(PathBuf) -> Command) -> Report {
        let mut command = start(meshlb::binary().unwrap());
        command.arg("preflight").arg("--config").arg(self.file());
        let table = command.output().unwrap();
        let output = command.args(["-o", "json"]).output().unwrap();
        let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let expected = if report.fail > 0 { 3 } else { 0 };
        assert_eq!([code(&table), code(&output)], [expected; 2], "{report:#?}");
        let shown = String::from_utf8(table.stdout).unwrap();
        assert!(
            report.findings.iter().all(|finding| CHECKS.contains(&finding.check.as_str())),
            "{report:#?}"
        );
        for finding in report.findings.iter().filter(|finding| finding.level != Level::Ok) {
            assert!(!finding.why.is_empty() && !finding.remedy.is_empty(), "{finding:?}");
            assert!(
                !finding.remedy.contains('\n') && shown.contains(&finding.remedy),
                "{finding:?}\n{shown}"
            );
        }
        report
    }

    /// The one finding of a check that is not well.
    fn fault(&self, check: &str) -> Finding {
        one_fault(&self.check(), check)
    }

    fn level(&self, check: &str) -> Level {
        self.check().findings.iter().filter(|finding| finding.check == check).map(|f| f.level).max().unwrap()
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn one_fault(report: &Report, check: &str) -> Finding {
    let is_fault = |finding: &&Finding| finding.check == check && finding.level != Level::Ok;
    let faults: Vec<_> = report.findings.iter().filter(is_fault).collect();
    let [fault] = faults[..] else { panic!("{check}: {report:#?}") };
    fault.clone()
}

fn assert_says(finding: &Finding, level: Level, found: &str, remedy: &str) {
    assert_eq!(finding.level, level, "{finding:?}");
    assert!(finding.found.contains(found) && finding.remedy.contains(remedy), "{finding:?}");
}

#[test]
fn a_host_that_is_ready_passes_before_and_while_the_agent_runs() {
    let mut ground = Ground::new(Topology::builder().backends(2));
    ground.topology.add_vip(VIP.parse().unwrap()).unwrap();
    ground.metrics = "127.0.0.1:9440".into();
    let report = ground.check();
    assert_eq!((report.fail, report.warn), (0, 0), "{report:#?}");
    let checks: Vec<_> = report.findings.iter().map(|finding| finding.check.as_str()).collect();
    for check in
        ["kernel", "capabilities", "bpffs", "memory", "listen", "interface", "xdp", "route", "mtu", "vip"]
    {
        assert!(checks.contains(&check), "{check} is missing in {checks:?}");
    }
    let _agent = Agent::start(&ground.topology, &fs::read_to_string(ground.file()).unwrap()).unwrap();
    let report = ground.check();
    assert_eq!((report.fail, report.warn), (0, 0), "{report:#?}");
    let own = report.findings.iter().find(|finding| finding.check == "xdp-program").unwrap();
    assert!(own.found.contains("an agent's own program"), "{own:?}");
}

#[test]
fn without_a_configuration_the_host_alone_is_checked() {
    let ground = Ground::new(Topology::builder());
    let output =
        ground.host().command(meshlb::binary().unwrap()).args(["preflight", "-o", "json"]).output().unwrap();
    let report: Report = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report.config.is_none() && report.ok > 4, "{report:#?}");
    let wrong = ["preflight", "--config", "/nonexistent/meshlb.toml"];
    let output = ground.host().command(meshlb::binary().unwrap()).args(wrong).output().unwrap();
    assert_eq!(code(&output), 1, "{output:?}");
}

#[test]
fn a_caller_without_capabilities_is_told_which() {
    let mut ground = Ground::new(Topology::builder());
    let found = |ground: &Ground, names: [&str; 2]| {
        let report = ground.check_by(|program| {
            let mut command = ground.host().command("setpriv");
            command.args(names).arg(program);
            command
        });
        one_fault(&report, "capabilities")
    };
    let bpf = ["--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin"];
    assert_says(&found(&ground, bpf), Level::Fail, "lacks CAP_BPF", "run as root");
    ground.service = "forward = \"ipip\"\nhealth = { kind = \"icmp\" }\n".into();
    let raw = ["--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    assert_says(&found(&ground, raw), Level::Fail, "lacks CAP_NET_RAW", "CapabilityBoundingSet");
}

#[test]
fn pins_that_are_not_on_a_bpf_file_system_are_told() {
    let mut ground = Ground::new(Topology::builder());
    let elsewhere = ground.topology.directory().join("plain/meshlb");
    ground.agent = format!("interfaces = [\"eth0\"]\nxdp_mode = \"generic\"\npin_path = {elsewhere:?}\n");
    let mount = format!("mount -t bpf bpf {}", elsewhere.parent().unwrap().display());
    assert_says(&ground.fault("bpffs"), Level::Fail, "not on a BPF file system", &mount);
}

#[test]
fn interfaces_that_take_no_packets_are_told() {
    let mut ground = Ground::new(Topology::builder());
    ground.agent = ground.agent.replace("\"eth0\"", "\"eth7\"");
    assert_says(&ground.fault("interface"), Level::Fail, "no such interface", "ip link");
    ground.agent = ground.agent.replace("\"eth7\"", "\"lo\"");
    assert_says(&ground.fault("interface"), Level::Fail, "no Ethernet interface", "clients' packets");
    ground.agent = ground.agent.replace("\"lo\"", "\"eth0\"");
    ground.topology.balancer().link_down().unwrap();
    assert_says(&ground.fault("interface"), Level::Warn, "no carrier", "cable of eth0");
    ground.host().ip("link set eth0 down\n").unwrap();
    let report = ground.check();
    assert_says(&one_fault(&report, "interface"), Level::Fail, "it is down", "ip link set eth0 up");
    assert_says(&one_fault(&report, "route"), Level::Fail, "no route to", "ip route add");
}

#[test]
fn a_port_of_a_bridge_is_told_with_the_bridge() {
    let ground = Ground::new(Topology::builder());
    ground.host().ip("link add br9 type bridge\nlink set br9 up\nlink set eth0 master br9\n").unwrap();
    assert_says(&ground.fault("interface"), Level::Warn, "port of the bridge br9", "interfaces = [\"br9\"]");
}

#[test]
fn another_xdp_program_is_told_by_name() {
    let ground = Ground::new(Topology::builder());
    let mut object = Ebpf::load(include_bytes_aligned!(env!("MESHLB_BENCH_OBJECT"))).unwrap();
    let program: &mut Xdp = object.program_mut("pass").unwrap().try_into().unwrap();
    program.load().unwrap();
    ground.host().run(|| program.attach("eth0", XdpMode::Skb)).unwrap().unwrap();
    assert_says(
        &ground.fault("xdp-program"),
        Level::Fail,
        "another XDP program is attached: \"pass\" (id ",
        "xdp off",
    );
    drop(object);
    let other = |finding: &Finding| finding.check == "xdp-program";
    mesh_tests::wait::eventually("it is gone", std::time::Duration::from_secs(10), || {
        !ground.check().findings.iter().any(other)
    })
    .unwrap();
}

#[test]
fn where_native_xdp_runs_follows_from_what_the_driver_says() {
    let mut ground = Ground::new(Topology::builder());
    ground.host().ip("link add tap9 type bridge\nlink set tap9 up\n").unwrap();
    ground.agent = ground.agent.replace("\"generic\"", "\"native\"");
    assert_eq!(ground.level("xdp"), Level::Ok, "a veth runs native programs");
    ground.agent = ground.agent.replace("\"eth0\"", "\"tap9\"");
    assert_says(&ground.fault("xdp"), Level::Fail, "runs no native XDP", "xdp_mode = \"auto\"");
    ground.agent = ground.agent.replace("\"native\"", "\"auto\"");
    assert_says(&ground.fault("xdp"), Level::Warn, "runs no native XDP", "xdp_mode = \"generic\"");
}

#[test]
fn an_interface_that_native_programs_cannot_redirect_to_is_told() {
    let mut ground = Ground::new(Topology::builder());
    ground.agent = ground.agent.replace("\"generic\"", "\"auto\"");
    ground.backends = vec!["198.18.0.2".into()];
    let far = "link add out0 type veth peer name out1\nlink set out0 mtu 1600\nlink set out1 mtu 1600\n\
               link set out0 up\nlink set out1 up\naddr add 198.18.0.1/24 dev out0\n\
               neigh add 198.18.0.2 lladdr 02:00:00:00:00:77 dev out0\n";
    ground.host().ip(far).unwrap();
    let gro = |state| {
        let output = ground.host().command("ethtool").args(["-K", "out1", "gro", state]).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    gro("off");
    assert_says(&ground.fault("egress"), Level::Fail, "sends nothing that native", "xdp_mode = \"generic\"");
    gro("on");
    assert_eq!(ground.level("egress"), Level::Ok);
}

#[test]
fn an_mtu_that_is_too_small_is_told_with_the_one_that_is_not() {
    let ground = Ground::new(Topology::builder().mtu(1500));
    let fault = ground.fault("mtu");
    assert_says(
        &fault,
        Level::Warn,
        "MTU 1500 less 20 bytes of headers leaves 1480",
        "ip link set eth0 mtu 1520",
    );
    assert!(fault.remedy.contains("advmss 1440"), "{fault:?}");
    ground.host().ip("link set eth0 mtu 1520\n").unwrap();
    assert_eq!(ground.level("mtu"), Level::Ok, "the remedy helps");
    let backend = ground.topology.backend(1).unwrap().v4();
    ground.host().ip(&format!("route add {backend}/32 dev eth0 mtu 560\n")).unwrap();
    assert_eq!(ground.fault("mtu").level, Level::Fail);
}

#[test]
fn backends_that_cannot_be_reached_are_told_with_what_is_in_the_way() {
    let mut ground = Ground::new(Topology::builder());
    ground.backends = vec!["198.18.0.2".into()];
    assert_says(&ground.fault("route"), Level::Fail, "no route to 198.18.0.2", "ip route add 198.18.0.2 via");
    ground.host().ip("route add blackhole 198.18.0.2/32\n").unwrap();
    assert_says(&ground.fault("route"), Level::Fail, "of type blackhole", "ip route show type blackhole");
    let nobody = "10.77.0.250";
    ground
        .host()
        .ip(&format!("route del blackhole 198.18.0.2/32\nroute add 198.18.0.0/24 via {nobody}\n"))
        .unwrap();
    assert_says(
        &ground.fault("route"),
        Level::Fail,
        "neighbour 10.77.0.250 on eth0 does not answer",
        "is 10.77.0.250 on",
    );
    let router = ground.topology.backend(1).unwrap().v4();
    ground.host().ip(&format!("route replace 198.18.0.0/24 via {router}\n")).unwrap();
    assert_eq!(ground.level("route"), Level::Ok);
    ground.service = "forward = \"l2\"\nhealth = { kind = \"tcp\" }\n".into();
    assert_says(&ground.fault("route"), Level::Fail, "behind a router", "forward = \"ipip\"");
}

#[test]
fn files_and_ports_that_the_agent_cannot_have_are_told() {
    let mut ground = Ground::new(Topology::builder());
    let file = ground.topology.directory().join("file");
    fs::write(&file, "").unwrap();
    ground.metrics = "127.0.0.1:9440".into();
    ground.agent =
        ground.agent.replace("/state\"", "/file/state\"") + "next_program = \"/sys/fs/bpf/none\"\n";
    let holder = ground.host().run(|| std::net::TcpListener::bind("127.0.0.1:9440")).unwrap().unwrap();
    let report = ground.check();
    assert_says(&one_fault(&report, "state"), Level::Fail, "is not a directory", "mkdir -p");
    assert_says(&one_fault(&report, "listen"), Level::Fail, "in use", "ss -ltnp 'sport = :9440'");
    assert_says(
        &one_fault(&report, "next-program"),
        Level::Fail,
        "nothing is pinned",
        "leave next_program out",
    );
    drop(holder);
    assert_eq!(ground.level("listen"), Level::Ok);
}

#[test]
fn maps_that_do_not_fit_into_memory_are_told() {
    let mut ground = Ground::new(Topology::builder());
    ground.agent += "[limits]\nflows = 4294967295\nslots = 4294967295\n";
    assert_says(&ground.fault("memory"), Level::Fail, "MiB are available", "lower [limits]");
}

#[test]
fn what_stops_probes_of_vips_is_told() {
    let mut ground = Ground::new(Topology::builder());
    ground.service = "forward = \"ipip\"\nhealth = { kind = \"tcp\", to = \"vip\" }\n".into();
    ground.host().sysctl("net/ipv4/conf/eth0/rp_filter", "1").unwrap();
    ground.host().ip(&format!("addr add {VIP}/32 dev lo\n")).unwrap();
    let report = ground.check();
    assert_says(&one_fault(&report, "rp-filter"), Level::Warn, "strict", "net.ipv4.conf.eth0.rp_filter=2");
    assert_says(
        &one_fault(&report, "vip"),
        Level::Fail,
        "an address of this host",
        &format!("ip address del {VIP}"),
    );
}

#[test]
fn services_without_probes_are_told() {
    let mut ground = Ground::new(Topology::builder());
    ground.service = "forward = \"ipip\"\n".into();
    assert_says(&ground.fault("health"), Level::Warn, "not probed", "[service.health]");
}
