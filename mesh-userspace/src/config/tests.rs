//! What a valid configuration becomes, and that documents and code say the same.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/configuration.md");
const EXAMPLE: &str = include_str!("../../../deploy/meshlb.toml");

fn parsed(text: &str) -> Config {
    parse("test.toml", text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The text of every block between ```` ```toml ```` and ```` ``` ````.
fn blocks(document: &str) -> impl Iterator<Item = &str> {
    document.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next())
}

/// A service without any key that has a default.
fn service(protocol: &str) -> Service {
    let text = format!(
        "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n\
         protocol = \"{protocol}\"\nforward = \"l2\"\nhealth = {{ kind = \"http\" }}\n\
         backend = [{{ address = \"10.0.1.1\" }}]\n"
    );
    parsed(&text).services.remove(0)
}

#[test]
fn everything_but_the_interfaces_has_a_default() {
    let config = parsed("[agent]\ninterfaces = [\"eth0\"]\n");
    let agent = Agent {
        interfaces: vec!["eth0".into()],
        xdp_mode: XdpMode::Auto,
        on_exit: OnExit::Keep,
        pin_path: "/sys/fs/bpf/meshlb".into(),
        state_directory: "/var/lib/meshlb".into(),
        watch_config: false,
        seed: None,
        outer_source: OuterSource::default(),
        answer_echo: true,
        next_program: None,
    };
    let limits = Limits {
        services: 1024,
        backends: 4096,
        slots: 1_048_576,
        rules: 65_536,
        flows: 262_144,
        connections: 131_072,
        prefixes: 16_384,
    };
    assert_eq!((config.agent, config.limits), (agent, limits));
    assert_eq!(config.api.socket.to_str(), Some("/run/meshlb/meshlb.sock"));
    assert_eq!(config.metrics.listen, Some("127.0.0.1:9440".parse().unwrap()));
    assert_eq!(config.web, Web { listen: None, token_file: None });
    assert_eq!(config.log, Log { format: LogFormat::Text, level: "info".into() });
    assert_eq!(config.services, []);
}

#[test]
fn a_service_has_the_documented_defaults() {
    let (tcp, udp) = (service("tcp"), service("udp"));
    assert_eq!((tcp.window, udp.window), (Duration::from_secs(1800), Duration::from_secs(60)));
    assert_eq!((tcp.scheduler, tcp.tracking), (Scheduler::Maglev, Tracking::Adaptive));
    assert_eq!((tcp.tunnel_port, tcp.oversized), (None, Oversized::Drop));
    assert_eq!((tcp.table_size, tcp.table_size()), (None, 1021));
    assert_eq!(tcp.backends, [Backend::new("10.0.1.1".parse().unwrap(), 100)]);
    let kind = ProbeKind::Http(HttpProbe::get("/"));
    assert_eq!(tcp.health, Some(Health::new(kind)));
    assert_eq!(tcp.key().to_string(), "203.0.113.10:80/tcp");
}

#[test]
fn every_given_value_arrives() {
    let config = parsed(blocks(DOCUMENT).nth(1).unwrap());
    assert_eq!(config.agent.interfaces, ["eth0", "eth1"]);
    assert_eq!(config.agent.seed, Some(0x5ca1_ab1e_0ddb_a115));
    assert!(!config.agent.answer_echo && config.agent.watch_config);
    assert_eq!(config.agent.next_program, Some("/sys/fs/bpf/other".into()));
    let [web] = config.services.as_slice() else { panic!("{config:?}") };
    assert_eq!((web.name.as_str(), web.ports, web.protocol), ("web", Ports::one(80), Protocol::Tcp));
    assert_eq!((web.forward, web.table_size, web.table_size()), (Forward::Gue, Some(65_521), 65_521));
    assert_eq!((web.tunnel_port, web.oversized), (Some(6080), Oversized::Drop));
    let OuterSource { v4, v6 } = config.agent.outer_source;
    assert_eq!((v4, v6), ("10.255.0.0/16".parse().ok(), "fd00:1::/64".parse().ok()));
    let health = Health {
        kind: ProbeKind::Http(HttpProbe {
            tls: None,
            method: Method::Get,
            path: "/healthz".into(),
            host: Some("www.example.com".into()),
            headers: vec![("accept".into(), "text/plain".into())],
            expect: Statuses::parse("200-299,304").unwrap(),
            answer: Some(Pattern::Text("ok".into())),
            load_header: Some("x-load".into()),
        }),
        to: ProbeTo::Address,
        padded: false,
        port: Some(8080),
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        panic_threshold: 50,
        slow_start: Duration::from_secs(30),
        damping: Some(Damping { falls: 3, within: Duration::from_secs(600), hold: Duration::from_secs(120) }),
    };
    assert_eq!(config.probing, Probing { at_once: 512, mark: 109, correlated: Correlated::default() });
    assert_eq!(config.agent.state_directory.to_str(), Some("/var/lib/meshlb"));
    assert_eq!(web.health, Some(health));
    assert_eq!(web.backends.iter().map(|backend| backend.weight).collect::<Vec<_>>(), [100, 50]);
}

#[test]
fn a_short_interval_shortens_the_default_timeout() {
    let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 1\n\
                protocol = \"tcp\"\nforward = \"l2\"\nhealth = { kind = \"tcp\", interval = \"200ms\" }\n";
    let health = parsed(text).services.remove(0).health.unwrap();
    assert_eq!(health.timeout, Duration::from_millis(200));
}

#[test]
fn metrics_and_the_web_page_can_be_off() {
    let off = "listen = \"off\"\n";
    let config = parsed(&format!("[agent]\ninterfaces = [\"eth0\"]\n[metrics]\n{off}[web]\n{off}"));
    assert_eq!((config.metrics.listen, config.web.listen), (None, None));
}

#[test]
fn only_what_a_reload_cannot_change_needs_a_restart() {
    let old = parsed(blocks(DOCUMENT).nth(1).unwrap());
    let mut new = old.clone();
    new.services.clear();
    assert_eq!(old.restart_needed(&new), Vec::<&str>::new());
    new.include = Some("conf.d".into());
    new.agent.watch_config = false;
    new.agent.seed = None;
    new.agent.outer_source.v6 = None;
    new.agent.answer_echo = true;
    new.agent.next_program = None;
    new.metrics.listen = None;
    new.web = Web::default();
    new.otlp = None;
    new.limits.flows = 1;
    new.probing.at_once = 1;
    new.agent.state_directory = "/tmp".into();
    assert_eq!(
        old.restart_needed(&new),
        [
            "agent.state_directory",
            "agent.watch_config",
            "agent.seed",
            "agent.outer_source",
            "agent.answer_echo",
            "agent.next_program",
            "metrics.listen",
            "web.listen",
            "web.token_file",
            "otlp",
            "limits.flows",
            "health.at_once"
        ]
    );
}

#[test]
fn choices_are_spelled_alike_in_the_file_in_output_and_in_json() {
    for mode in XdpMode::ALL {
        assert_eq!(mode.to_string(), mode.as_str());
        assert_eq!(serde_json::to_string(mode).unwrap(), format!("\"{mode}\""));
        let config = parsed(&format!("[agent]\ninterfaces = [\"eth0\"]\nxdp_mode = \"{mode}\"\n"));
        assert_eq!(config.agent.xdp_mode, *mode);
    }
}

#[test]
fn every_example_is_valid() {
    assert!(blocks(DOCUMENT).count() >= 4);
    assert!(blocks(DOCUMENT).any(|text| parsed(text).include == Some("/etc/meshlb/conf.d".into())));
    blocks(DOCUMENT).chain([EXAMPLE]).for_each(|text| drop(parsed(text)));
}

#[test]
fn the_values_that_the_example_leaves_out_are_the_defaults() {
    let written_out = EXAMPLE
        .replace("# seed = \"0123456789abcdef\"\n", "")
        .replace("# token_file = \"/etc/meshlb/web.token\"\n", "")
        .replace("# next_program = \"/sys/fs/bpf/other\"\n", "")
        .lines()
        .fold(String::new(), uncomment);
    assert!(written_out.contains("\npanic_threshold = 0\n"), "{written_out}");
    assert_eq!(parsed(&written_out), parsed(EXAMPLE));
}

/// Appends a line; `# key = value` without its `#`.
fn uncomment(text: String, line: &str) -> String {
    let key = line.strip_prefix("# ").filter(|rest| rest.split(' ').nth(1) == Some("="));
    text + key.unwrap_or(line) + "\n"
}

#[test]
fn every_key_is_documented_where_it_belongs() {
    DiscoveryKind::ALL.iter().for_each(|kind| every_key_is_documented_beside(*kind));
}

/// Every key but those of other kinds of sources.
fn every_key_is_documented_beside(kind: DiscoveryKind) {
    let text = "[services_from]\nkind = \"etcd\"\nqqqqqqqq = 1\n[agent]\nqqqqqqqq = 1\n[api]\nqqqqqqqq = 1\n[metrics]\nqqqqqqqq = 1\n[web]\nqqqqqqqq = 1\n[log]\nqqqqqqqq = 1\n[flow_log]\nqqqqqqqq = 1\n[otlp]\nqqqqqqqq = 1\nendpoint = \"https://a\"\n\
                [limits]\nqqqqqqqq = 1\n[health]\nqqqqqqqq = 1\n[[service]]\nqqqqqqqq = 1\n\
                 [service.health]\nqqqqqqqq = 1\n[service.health.damping]\nqqqqqqqq = 1\n[service.health.passive]\nqqqqqqqq = 1\n\
                 [service.performance]\nqqqqqqqq = 1\n[service.guard]\nqqqqqqqq = 1\n[service.nat]\nqqqqqqqq = 1\n\
                 [[service.quic]]\nqqqqqqqq = 1\n[[service.backend]]\nqqqqqqqq = 1\n\
                 [[service.discovery]]\nqqqqqqqq = 1\n";
    let error = parse("test.toml", &format!("{text}kind = \"{kind}\"\n")).unwrap_err();
    let unknown = error.problems().iter().filter_map(|problem| {
        let section = problem.message().strip_prefix("unknown key `qqqqqqqq` in ")?;
        Some((section, problem.advice().strip_prefix("the keys here are ")?))
    });
    let sections: Vec<(&str, &str)> = unknown.collect();
    assert_eq!(sections.len(), 20, "{error}");
    let document = DOCUMENT.replace("\n### `[", "\n## `[");
    for (section, keys) in sections {
        let chapter =
            document.split("\n## ").find(|chapter| chapter.starts_with(&format!("`{section}`"))).unwrap();
        for key in keys.split(", ") {
            assert!(chapter.contains(&format!("\n| {key} |")), "{key} is not explained under {section}");
        }
        let explained = keys_explained(chapter, kind);
        assert_eq!(explained, keys.split(", ").count(), "{section} explains too many keys of {kind}");
    }
}

fn first_cell(row: &str) -> &str {
    row.split(" | ").next().unwrap_or_default()
}

/// How many keys are in those tables whose first column is the key, of all kinds of sources or of this one.
fn keys_explained(chapter: &str, kind: DiscoveryKind) -> usize {
    let is_meant =
        |head: &str| head == "| key" || head.starts_with("| key of ") && head.contains(&format!("`{kind}`"));
    let tables = chapter.split("\n\n").filter(|table| is_meant(first_cell(table)));
    let keys = tables.flat_map(str::lines).map(first_cell).filter(|key| key.starts_with("| `"));
    keys.collect::<BTreeSet<_>>().len()
}
