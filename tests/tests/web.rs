//! The web page in a real Chromium: what people see, and how they get around on it.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's helpers fail by panicking, too"
)]

#[path = "web/browser.rs"]
mod browser;
#[path = "web/stage.rs"]
mod stage;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use mesh_tests::Requests;
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::Explanation;
use serde::Deserialize;
use serde_json::{Value, json};
use thirtyfour::Key;

use browser::PATIENCE;
use stage::{PAGE, Stage, TOKEN};

/// Nothing went wrong in the page, and nobody but the agent was asked.
fn check_calm(stage: &Stage) {
    assert_eq!(stage.browser.console(), [""; 0]);
    assert_eq!(stage.browser.asked(), BTreeSet::from([PAGE.to_owned()]));
}

/// Whether the timeline of the first backend ends so.
fn turned(stage: &Stage, to: &str) -> bool {
    let text =
        stage.browser.check::<String>("document.querySelector('.timeline').getAttribute('aria-label')");
    text.rsplit(", ").next().is_some_and(|last| last.starts_with(to))
}

#[test]
fn what_lives_and_dies_is_shown() {
    let mut stage = Stage::set();
    let dying = stage.address(0);
    let requests = Requests::start(stage.scene.client().unwrap(), stage.scene.service());
    let rate = |stage: &Stage| stage.row(&stage.address(1))[4].parse::<f64>().unwrap_or(0.0);
    eventually("packets are counted", PATIENCE, || rate(&stage) > 1.0).unwrap();
    stage.browser.shows("#service-table tbody tr", "192.0.2.10:8080/tcp");
    stage.browser.shows("#verdict", "Ready, no problems");
    stage.browser.shows("#topology", &format!("{dying} of web: up"));
    stage.browser.shows("#slot-bars", &format!("{dying}: 3"));
    stage.browser.shows("#outcome-table", "Sent to a backend");
    let whole = stage.browser.check::<Vec<Vec<String>>>("rowsOf('#backend-table')");
    assert_eq!(whole.len(), 3, "{whole:?}");

    stage.scene.servers[0].kill();
    stage.browser.shows("#service-table tbody tr", "degraded");
    let row = stage.row(&dying);
    assert!(row[1].starts_with("down\n") && row[3] == "0 %", "{row:?}");
    stage.browser.shows("#event-table tbody tr", "went down: ");
    stage.browser.shows("#topology", &format!("{dying} of web: down"));
    assert!(stage.browser.has("#topology .way[data-state='down']"));
    eventually("the timeline tells it", PATIENCE, || turned(&stage, "down from ")).unwrap();
    eventually("it owns no slots", PATIENCE, || !stage.browser.text("#slot-bars").contains(&dying)).unwrap();

    stage.scene.servers[0].restart().unwrap();
    stage.browser.shows("#event-table tbody tr", "came up");
    stage.browser.shows("#service-table .state", "ok");
    eventually("the timeline goes on", PATIENCE, || turned(&stage, "up from ")).unwrap();
    requests.finish().unwrap();
    check_calm(&stage);
}

#[test]
fn a_packet_is_explained_as_the_command_line_does_and_by_keys_alone() {
    let stage = Stage::set();
    let expected: Vec<Explanation> = stage
        .scene
        .agent
        .cli_json(&["explain", "--from", "198.51.100.7:4242", "--to", "192.0.2.10:8080"])
        .unwrap();
    let backend = expected[0].backend.as_ref().unwrap();
    stage.browser.check::<Value>("document.querySelector('#from').focus()");
    stage.browser.type_text("198.51.100.7:4242\u{e004}192.0.2.10:8080\u{e007}");
    stage.browser.shows("#explanation dl", &backend.address);
    for words in [&backend.reason, &expected[0].outcome, &expected[0].steps[0].finding] {
        stage.browser.shows("#explanation", words);
    }
    let other: Vec<Explanation> = stage
        .scene
        .agent
        .cli_json(&[
            "explain",
            "--from",
            "198.51.100.7:4242",
            "--to",
            "192.0.2.10:8080",
            "--if-down",
            &backend.address,
        ])
        .unwrap();
    stage.browser.check::<Value>("document.querySelector('#if-down').focus()");
    stage.browser.type_text(&format!("{}\u{e007}", backend.address));
    stage.browser.shows(
        "#explanation",
        &format!("would go to {} instead", other[0].prospect.as_ref().unwrap().new_flow.then[0]),
    );
    check_calm(&stage);

    stage.browser.check::<Value>("document.querySelector('#from').focus()");
    stage.browser.type_text("x\u{e007}");
    stage
        .browser
        .shows("#explanation .refusal", "x\" is not an address with a port, such as 203.0.113.10:80");
}

#[test]
fn everything_is_reached_and_worked_by_keys() {
    let stage = Stage::set();
    let wanted: Vec<String> = stage.browser.check("operable()");
    assert!(wanted.len() > 25, "{wanted:?}");
    let mut reached = Vec::new();
    for _ in 0..wanted.len() {
        stage.browser.press(&[Key::Tab]);
        reached.push(stage.browser.check::<String>("focused()"));
        assert!(stage.browser.check::<bool>("focusIsMarked()"), "the focus is not seen at {reached:?}");
    }
    assert_eq!(reached, wanted, "the order of keys is that of the page, and leaves nothing out");
    assert!(reached[0].contains("Skip to the content"), "{reached:?}");

    let focus = |selector: &str| {
        stage.browser.check::<Value>(&format!("document.querySelector({}).focus()", json!(selector)))
    };
    let sort = "#backend-table thead th:nth-child(1)";
    focus(&format!("{sort} button"));
    stage.browser.press(&[Key::Enter]);
    let first = || stage.browser.check::<Vec<Vec<String>>>("rowsOf('#backend-table')")[0][0].clone();
    assert!(stage.browser.has(&format!("{sort}[aria-sort='ascending']")));
    assert!(first().starts_with(&stage.address(0)));
    stage.browser.press(&[Key::Space]);
    assert!(stage.browser.has(&format!("{sort}[aria-sort='descending']")));
    assert!(first().starts_with(&stage.address(2)));

    focus("#service-table tbody button");
    stage.browser.press(&[Key::Enter]);
    assert!(stage.browser.has("#service-table tbody button[aria-pressed='true']"));
    stage.browser.shows("#backend-note", "3 backends of web");
    // What is shown anew every second takes no focus away.
    let before: f64 = stage.browser.check("performance.now()");
    let later = || stage.browser.check::<f64>("performance.now()") > before + 2500.0;
    eventually("the page was drawn again", PATIENCE, later).unwrap();
    assert_eq!(stage.browser.check::<String>("focused()"), "services: BUTTON web");

    focus("#filter");
    stage.browser.type_text(&stage.address(1));
    eventually("others are filtered out", PATIENCE, || stage.row(&stage.address(0)).is_empty()).unwrap();
    assert!(!stage.row(&stage.address(1)).is_empty());
    check_calm(&stage);
}

/// What assistive software gets to know of an element.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    ignored: bool,
    role: Option<Property>,
    name: Option<Property>,
}

#[derive(Debug, Deserialize)]
struct Property {
    #[serde(default)]
    value: Value,
}

impl Node {
    fn is(&self, roles: &[&str]) -> bool {
        let role = self.role.as_ref().and_then(|role| role.value.as_str());
        !self.ignored && role.is_some_and(|role| roles.contains(&role))
    }

    fn name(&self) -> &str {
        self.name.as_ref().and_then(|name| name.value.as_str()).unwrap_or_default()
    }
}

#[test]
fn what_is_on_the_page_has_names_and_an_order() {
    let stage = Stage::set();
    stage.browser.shows("#event-table", "agent");
    let mut tree = stage.browser.tools("Accessibility.getFullAXTree", json!({}));
    let nodes: Vec<Node> = serde_json::from_value(tree["nodes"].take()).unwrap();
    let needs_name = [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "image",
        "img",
        "table",
        "region",
        "navigation",
        "heading",
        "columnheader",
        "rowheader",
    ];
    let named: Vec<&Node> = nodes.iter().filter(|node| node.is(&needs_name)).collect();
    assert!(named.len() > 60, "{}", named.len());
    let nameless: Vec<_> = named.iter().filter(|node| node.name().trim().is_empty()).collect();
    assert!(nameless.is_empty(), "{nameless:#?}");
    for role in ["banner", "navigation", "main", "contentinfo"] {
        assert_eq!(nodes.iter().filter(|node| node.is(&[role])).count(), 1, "{role}");
    }
    for role in ["status", "table", "rowheader", "columnheader", "image"] {
        assert!(nodes.iter().any(|node| node.is(&[role])), "{role}");
    }
    let headings: Vec<u8> = stage.browser.check("headings()");
    assert_eq!(headings.iter().filter(|level| **level == 1).count(), 1, "{headings:?}");
    assert!(headings.windows(2).all(|two| two[1] <= two[0] + 1), "a level is left out: {headings:?}");
    let bare = "[...document.querySelectorAll('th:not([scope])')].length";
    assert_eq!(stage.browser.check::<u32>(bare), 0, "heads of tables say what they are the head of");
    let twice = "[...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, at, all) => all.indexOf(id) !== at)";
    assert_eq!(stage.browser.check::<Vec<String>>(twice), [""; 0]);
    // What changes every second is not read out every second.
    let live = "[...document.querySelectorAll('[aria-live], [role=status], [role=alert]')].map((one) => one.textContent).join()";
    let before: String = stage.browser.check(live);
    let begun: f64 = stage.browser.check("performance.now()");
    eventually("seconds pass", PATIENCE, || stage.browser.check::<f64>("performance.now()") > begun + 2500.0)
        .unwrap();
    assert_eq!(stage.browser.check::<String>(live), before);
    check_calm(&stage);
}

/// What a check found, of how many.
#[derive(Debug, Deserialize)]
struct Found {
    wrong: Vec<String>,
    looked: u32,
}

/// What makes a page too wide.
#[derive(Debug, Deserialize)]
struct Wide {
    by: i32,
    what: Vec<String>,
}

/// A service beside `web`, some of whose backends nobody is at.
const OTHERS: &str = r#"
[[service]]
name = "shop-checkout-of-the-old-world-and-the-new"
vip = "192.0.2.10"
port = "8000-8010"
protocol = "tcp"
forward = "l2"
backend = [{ address = "10.77.0.101", weight = 50 }, { address = "10.77.0.102" }, { address = "10.77.0.103" }]

[[service]]
name = "dns"
vip = "192.0.2.11"
port = 53
protocol = "udp"
forward = "l2"
backend = [{ address = "10.77.0.103" }, { address = "10.77.0.109" }]
"#;

/// Sizes of windows, and their names.
const SIZES: [(&str, (u32, u32)); 2] = [("wide", (1280, 2150)), ("narrow", (360, 2150))];

#[test]
fn texts_are_seen_in_both_schemes_and_fit_narrow_windows() {
    let mut stage = Stage::with(OTHERS);
    let drained = stage.address(1);
    stage.scene.must(&["drain", "web", &drained]).unwrap();
    stage.scene.servers[0].kill();
    stage.browser.shows("#event-table", "went down");
    stage.browser.shows("#backend-table", "draining");
    let requests = Requests::start(stage.scene.client().unwrap(), stage.scene.service());
    let busy = stage.address(2);
    // Nobody listens there, which costs packets, too.
    let refused = SocketAddr::new(stage.scene.service().ip(), 8005);
    let vain = Requests::start(stage.scene.client().unwrap(), refused);
    let rate = |stage: &Stage| stage.row(&busy)[4].parse::<f64>().unwrap_or(0.0);
    eventually("packets flow", PATIENCE, || rate(&stage) > 10.0).unwrap();
    for scheme in ["light", "dark"] {
        for (name, size) in SIZES {
            stage.browser.look(size, scheme);
            eventually("the drawing fits", PATIENCE, || stage.browser.check::<Wide>("tooWide()").by <= 0)
                .unwrap_or_else(|error| {
                    panic!("{error:#}: {:?}", stage.browser.check::<Wide>("tooWide()").what)
                });
            let texts: Found = stage.browser.check("faint()");
            assert!(texts.looked > 150 && texts.wrong.is_empty(), "{scheme} {name}: {texts:#?}");
            let lines: Found = stage.browser.check("faintLines()");
            assert!(lines.looked > 15 && lines.wrong.is_empty(), "{scheme} {name}: {lines:#?}");
            let picture = stage.browser.picture();
            assert!(picture.len() > 20_000, "{scheme} {name}: a picture of nothing");
            if let Some(directory) = std::env::var_os("MESHLB_PICTURES") {
                std::fs::write(Path::new(&directory).join(format!("web-{name}-{scheme}.png")), picture)
                    .unwrap();
            }
        }
    }
    requests.finish().unwrap();
    vain.finish().unwrap();
    check_calm(&stage);
}

/// The status of a request that `curl` makes in the balancer.
fn curl(stage: &Stage, arguments: &[&str]) -> String {
    let mut command: Command = stage.scene.topology.balancer().command("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]).args(arguments);
    String::from_utf8(command.output().unwrap().stdout).unwrap()
}

#[test]
fn a_backend_is_drained_with_the_token_only() {
    let stage = Stage::set();
    let (address, page) = (stage.address(1), format!("{PAGE}/v1/services/web/backends"));
    let order = format!("{page}/{address}/drain");
    let bearer = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(curl(&stage, &["--request", "POST", &order]), "401");
    assert_eq!(curl(&stage, &["--request", "POST", &order, "--header", "Authorization: Bearer 0"]), "401");
    let named = ["--request", "POST", &order, "--header", &bearer, "--header", "Host: evil.example"];
    assert_eq!(curl(&stage, &named), "421");
    assert_eq!(curl(&stage, &[PAGE, "--header", "Host: evil.example:9148"]), "421");
    let foreign =
        ["--request", "POST", &order, "--header", &bearer, "--header", "Origin: http://evil.example"];
    assert_eq!(curl(&stage, &foreign), "403");
    assert!(stage.backends().iter().all(|backend| backend.state == "up"));
    assert!(!stage.browser.has("[aria-label^='Drain']:not([hidden])"));
    check_calm(&stage);

    stage.browser.click("#token");
    stage.browser.type_text("wrong\u{e007}");
    stage.browser.shows("#access-error", "this is not the token");
    stage.browser.type_text(&format!("{}{TOKEN}\u{e007}", "\u{e003}".repeat(5)));
    stage.browser.shows("#access-text", "Backends can be drained");
    assert_eq!(stage.browser.text("#access-error"), "");
    let button = |what: &str| format!("[aria-label='{what} {address} of web']");
    stage.browser.click(&button("Drain"));
    stage.browser.shows("#order-result", &format!("{address} of web drains"));
    stage.browser.shows("#backend-table", "draining");
    assert_eq!(stage.backends()[1].state, "draining");
    eventually("it can be undone", PATIENCE, || stage.browser.has(&button("Undrain"))).unwrap();
    stage.browser.click(&button("Undrain"));
    stage.browser.shows("#order-result", "takes new flows again");
    eventually("it is up", PATIENCE, || stage.backends()[1].state == "up").unwrap();
    stage.browser.click("#lock");
    eventually("nobody can drain", PATIENCE, || !stage.browser.has("[aria-label^='Drain']:not([hidden])"))
        .unwrap();
}

#[test]
fn an_agent_that_is_gone_is_told_and_another_is_found() {
    let mut stage = Stage::set();
    stage.scene.agent.kill9().unwrap();
    stage.browser.shows("#connection-text", "The agent does not answer");
    stage.browser.shows("#connection-age", "since 3 s; what is shown is from then");
    assert!(stage.browser.has("body.stale"));
    // What was known stays.
    assert!(stage.browser.text("#service-table").contains("192.0.2.10:8080/tcp"));
    stage.scene.agent.restart().unwrap();
    stage.browser.shows("#connection-text", "Live");
    assert_eq!(stage.browser.text("#connection-age"), "");
    assert!(!stage.browser.has("body.stale"));
    let begun = "rowsOf('#event-table').filter((row) => row[1] === 'agent').length";
    eventually("the events of both are shown", PATIENCE, || stage.browser.check::<u32>(begun) == 2).unwrap();
    let silent: Vec<_> =
        stage.browser.console().into_iter().filter(|line| !line.contains("ERR_CONNECTION")).collect();
    assert_eq!(silent, [""; 0]);
}

#[test]
fn a_thousand_backends_are_shown_a_part_at_a_time() {
    let backend = |number: u32| format!("{{ address = \"10.78.{}.{}\" }}", number / 250, number % 250 + 1);
    let backends: Vec<String> = (0..1000).map(backend).collect();
    let stage = Stage::with(&format!(
        "[[service]]\nname = \"many\"\nvip = \"192.0.2.10\"\nport = 81\nprotocol = \"tcp\"\nforward = \"l2\"\n\
         backend = [{}]\n",
        backends.join(", ")
    ));
    stage.browser.shows("#backend-note", "1003 backends of all services");
    let rows = || stage.browser.check::<usize>("rowsOf('#backend-table').length");
    assert_eq!(rows(), 50);
    stage.browser.shows("#backend-more", "50 of 1003 are shown.");
    stage.browser.click("#backend-more button");
    eventually("more are shown", PATIENCE, || rows() == 100).unwrap();
    stage.browser.shows("#topology", "and 992 more backends");
    stage.browser.click("#filter");
    stage.browser.type_text("10.78.3.250");
    eventually("one is found", PATIENCE, || rows() == 1).unwrap();
    assert!(stage.browser.check::<usize>("document.querySelectorAll('#problems li').length") <= 21);
    check_calm(&stage);
}
