//! Whom a service serves, with real clients: lists and files, orders with an end, reloads and crashes meanwhile.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, Requests};
use mesh_userspace::api::types::{GuardView, Status};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn scene(vip: &str, way: Way, limits: &str) -> Scene {
    Plot { file: limits.into(), ..Plot::new(vip, way).unwrap() }.set().unwrap()
}

fn usual(guard: &str) -> String {
    format!(
        "health = {{ kind = \"http\", path = \"/healthz\", interval = \"200ms\", timeout = \"200ms\" }}\n{guard}"
    )
}

fn denied(scene: &Scene) -> u64 {
    scene.agent.cli_json::<Status>(&["status"]).unwrap().outcomes.get("denied").copied().unwrap()
}

/// A client that does not wait long for who does not answer.
fn impatient(scene: &Scene) -> Client {
    Client::with_timeout(scene.topology.client(), Duration::from_secs(1)).unwrap()
}

fn is_served(scene: &Scene) -> bool {
    impatient(scene).get(scene.service()).is_ok()
}

fn client_address(scene: &Scene) -> IpAddr {
    scene.topology.client().address_like(scene.service().ip())
}

#[test]
fn clients_are_kept_out_and_let_in_while_others_notice_nothing() {
    for (vip, way) in [("192.0.2.10", Way::L2), ("2001:db8::10", Way::IpipV6)] {
        let mut scene = scene(vip, way, "");
        let client = client_address(&scene).to_string();
        assert!(is_served(&scene));
        // A connection that goes on is dropped with its client, and goes on when that is let in again.
        let lasting = Download::lasting(scene.service(), Duration::from_secs(8));
        // The backend sends again after pauses that grow.
        let patient = Download { stall: SOON, ..lasting };
        let downloads = Downloads::start(&scene.client().unwrap(), 5, patient);
        downloads.flowing(SOON).unwrap();
        scene.must(&["guard", "add", "web", &client, "--for", "3s"]).unwrap();
        assert!(!is_served(&scene));
        assert!(denied(&scene) > 0);
        let (from, to) = (SocketAddr::new(client_address(&scene), 4000), scene.service());
        let explained =
            scene.agent.cli(&["explain", "--from", &from.to_string(), "--to", &to.to_string()]).unwrap();
        let explained = String::from_utf8(explained.stdout).unwrap();
        let by =
            format!("the client is in {}, which is kept out by the operator's order", IpNet::from(from.ip()));
        assert!(explained.contains(&by) && explained.contains("denied: "), "{explained}");
        let [guard] = &scene.agent.cli_json::<Vec<GuardView>>(&["guard", "list"]).unwrap()[..] else {
            panic!()
        };
        assert!(guard.ordered[0].remaining_seconds.unwrap() <= 3.0, "{guard:?}");
        eventually("the order's time is over", SOON, || is_served(&scene)).unwrap();
        assert_eq!(scene.agent.cli_json::<Vec<GuardView>>(&["guard", "list"]).unwrap(), []);
        let summary = downloads.finish(LONG).unwrap();
        assert_eq!((summary.completed, summary.failures.len()), (5, 0), "{:?}", summary.failures);

        // What is ordered survives a crash, and nobody slips in meanwhile.
        scene.must(&["guard", "add", "w", &client]).unwrap();
        scene.agent.kill9().unwrap();
        assert!(!is_served(&scene));
        scene.agent.restart().unwrap();
        assert!(!is_served(&scene));
        scene.must(&["guard", "del", "web", &client]).unwrap();
        assert!(is_served(&scene));
        let again = scene.agent.cli(&["guard", "del", "web", &client]).unwrap();
        assert!(
            String::from_utf8_lossy(&again.stderr).contains("nothing is ordered about clients in"),
            "{again:?}"
        );
    }
}

#[test]
fn lists_are_swapped_under_traffic_and_a_file_that_is_wrong_changes_nothing() {
    let mut scene = scene("192.0.2.10", Way::L2, "");
    let file = scene.topology.directory().join("deny.txt");
    let guard = usual(&format!("guard = {{ deny_file = \"{}\" }}", file.display()));
    let requests = Requests::start(scene.client().unwrap(), scene.service());
    for round in 0..20_u32 {
        let mut text = "# nobody we know\n".to_owned();
        for number in 0..2000 + round * 100 {
            let [_, a, b, c] = number.wrapping_mul(2_654_435_761).to_be_bytes();
            writeln!(text, "{}.{a}.{b}.{c} # {number}", 11 + number % 100).unwrap();
        }
        fs::write(&file, text).unwrap();
        scene.change_service(&guard).unwrap();
        let [view] = &scene.agent.cli_json::<Vec<GuardView>>(&["guard", "list"]).unwrap()[..] else {
            panic!()
        };
        assert!(view.configured > 1900, "{view:?}");
    }
    let (done, failures) = requests.finish().unwrap();
    assert!(done > 50 && failures.is_empty(), "{done}: {failures:?}");

    let client = client_address(&scene);
    fs::write(&file, format!("{client}\n300.1.2.3\n")).unwrap();
    let refused = scene.agent.cli(&["reload"]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("line 2 of ") && said.contains("300.1.2.3"), "{said}");
    assert!(is_served(&scene));
    fs::write(&file, format!("{client}\n")).unwrap();
    scene.must(&["reload"]).unwrap();
    assert!(!is_served(&scene));
    // Of equal length, what is ordered decides.
    scene.must(&["guard", "add", "web", &client.to_string(), "--allow"]).unwrap();
    assert!(is_served(&scene));
}

#[test]
fn only_who_is_allowed_is_served_where_others_are_denied() {
    let mut scene = scene("192.0.2.10", Way::L2, "[limits]\nprefixes = 2\n");
    scene.change_service(&usual("guard = { default = \"deny\" }")).unwrap();
    assert!(!is_served(&scene));
    let client = client_address(&scene);
    scene
        .change_service(&usual(&format!("guard = {{ default = \"deny\", allow = [\"{client}\"] }}")))
        .unwrap();
    assert!(is_served(&scene));
    // What does not fit is told, and what stood stands.
    let many: Vec<String> = (1..9).map(|number| format!("\"203.0.113.{}\"", number * 2)).collect();
    scene
        .change_service(&usual(&format!("guard = {{ default = \"deny\", allow = [{}] }}", many.join(", "))))
        .unwrap();
    let status = scene.agent.cli_json::<Status>(&["status"]).unwrap();
    assert!(
        status.problems.iter().any(|problem| problem.contains("raise limits.prefixes")),
        "{:?}",
        status.problems
    );
    assert!(is_served(&scene));
}
