//! Services where more connections begin than are remembered, with real clients and servers.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use mesh_tests::flood::{Flood, Of};
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, LoggedChild};
use mesh_userspace::api::types::{ServiceView, Status};

const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

const ALL: [(&str, Way); 4] = [
    ("192.0.2.10", Way::NatV4),
    ("2001:db8::10", Way::NatV6),
    ("192.0.2.10", Way::NatV6),
    ("2001:db8::10", Way::NatV4),
];

/// A service to which a hundred new connections a second are a flood.
fn touchy(vip: &str, way: Way) -> Plot {
    Plot { service: "flood_threshold = 100".into(), ..Plot::new(vip, way).unwrap() }
}

/// A flood that the service's agent has seen: every client needs a cookie.
fn flooded(scene: &Scene, of: Of) -> Flood {
    let flood = Flood::start(scene.topology.client(), of, scene.service(), Some(2000)).unwrap();
    eventually("the flood is seen", SOON, || service(scene).flooded).unwrap();
    flood
}

fn service(scene: &Scene) -> ServiceView {
    let services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
    services.into_iter().next().unwrap()
}

fn status(scene: &Scene) -> Status {
    scene.agent.cli_json(&["status"]).unwrap()
}

fn events(scene: &Scene) -> String {
    String::from_utf8(scene.agent.cli(&["events"]).unwrap().stdout).unwrap()
}

fn outcome(scene: &Scene, name: &str) -> u64 {
    status(scene).outcomes.get(name).copied().unwrap()
}

#[test]
fn clients_are_served_that_come_back_with_cookies() {
    for (nth, (vip, way)) in ALL.into_iter().enumerate() {
        let scene = Plot { native: nth % 2 == 0, ..touchy(vip, way) }.set().unwrap();
        let downloads = Downloads::start(
            &scene.client().unwrap(),
            10,
            Download::lasting(scene.service(), Duration::from_secs(4)),
        );
        downloads.flowing(SOON).unwrap();
        let flood = flooded(&scene, Of::Syns);
        let client = Client::with_timeout(scene.topology.client(), SOON).unwrap();
        for _ in 0..100 {
            client.get(scene.service()).unwrap_or_else(|error| panic!("{vip} {way:?}: {error:#}"));
        }
        assert!(flood.end().unwrap() > 0 && outcome(&scene, "syn_cookie") > 100);
        let summary = downloads.finish(LONG).unwrap();
        assert_eq!((summary.completed, summary.failures.len()), (10, 0), "{:?}", summary.failures);
        eventually("the flood is over", SOON, || !service(&scene).flooded).unwrap();
        client.get(scene.service()).unwrap();
    }
}

#[test]
fn every_byte_arrives_over_lossy_ways_and_every_checksum_is_right() {
    // One packet of fifty is lost before the client gets it, which it tells by selective acknowledgements.
    const LOSS: &str = "table inet loss { chain in { type filter hook input priority -300; \
         meta l4proto tcp numgen random mod 50 == 0 drop; }; }";
    for (vip, way) in ALL {
        let scene = touchy(vip, way).set().unwrap();
        let client = scene.topology.client();
        let _flood = flooded(&scene, Of::Syns);
        assert!(client.command("nft").arg(LOSS).status().unwrap().success());
        let mut tcpdump = client.command("tcpdump");
        let filter = format!("tcp and host {vip} and not net 198.18.0.0/15 and not net 2001:2::/32");
        tcpdump.args(["-i", "eth0", "-nvv", "-c", "2000", &filter]);
        let log = scene.topology.directory().join("tcpdump.log");
        let capture = LoggedChild::spawn("tcpdump", tcpdump, log).unwrap();
        eventually("tcpdump listens", SOON, || capture.log().contains("listening on")).unwrap();
        let mut curl = client.command("curl");
        let url = format!("http://{}/download?chunks=3000&size=1024&pause_ms=0", scene.service());
        let output = curl
            .args(["-gsS", "--max-time", "60", "-H", &format!("x-long: {}", "x".repeat(7000)), &url])
            .output();
        let output = output.unwrap();
        assert!(output.status.success(), "{vip} {way:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout.len(), 3000 * 1024, "{vip} {way:?}");
        let seen = capture.finish(SOON).unwrap();
        assert!(seen.contains("sack 1") && seen.matches("correct)").count() > 1000, "{vip} {way:?}: {seen}");
        assert!(!seen.contains("incorrect") && !seen.contains("bad cksum"), "{vip} {way:?}: {seen}");
    }
}

#[test]
fn who_is_refused_by_the_backend_learns_so() {
    for (vip, way) in ALL {
        let mut plot = touchy(vip, way);
        plot.service += "\nnat = { port = 9 }";
        let scene = plot.set().unwrap();
        let _flood = flooded(&scene, Of::Syns);
        let service = scene.service();
        let refused = scene.topology.client().run(|| {
            let mut stream = TcpStream::connect_timeout(&service, SOON)?;
            stream.set_read_timeout(Some(SOON))?;
            stream.read(&mut [0; 8])
        });
        let error = refused.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{vip} {way:?}: {error}");
    }
}

#[test]
fn connections_that_begin_in_a_flood_outlive_the_agent_and_are_told_of() {
    let mut scene = touchy("192.0.2.10", Way::NatV4).set().unwrap();
    let flood = flooded(&scene, Of::Syns);
    let download = Download::lasting(scene.service(), Duration::from_secs(6));
    let downloads = Downloads::start(&scene.client().unwrap(), 10, download);
    downloads.flowing(SOON).unwrap();
    scene.agent.kill9().unwrap();
    let client = Client::with_timeout(scene.topology.client(), SOON).unwrap();
    (0..20).for_each(|_| drop(client.get(scene.service()).unwrap()));
    scene.agent.restart().unwrap();
    (0..20).for_each(|_| drop(client.get(scene.service()).unwrap()));
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!((summary.completed, summary.failures.len()), (10, 0), "{:?}", summary.failures);
    eventually("a problem says so", SOON, || {
        status(&scene).problems.iter().any(|problem| problem.contains("flooded"))
    })
    .unwrap();
    drop(flood);
    eventually("it is over", SOON, || !service(&scene).flooded).unwrap();
    let events = events(&scene);
    assert!(events.contains("SYNs are answered by cookies") && events.contains("no more flows"), "{events}");
}

#[test]
fn datagrams_of_nobody_take_no_more_room_than_they_may() {
    let echo = "[[service]]\nname = \"echo\"\nvip = \"192.0.2.10\"\nport = 53\nprotocol = \"udp\"\n\
         forward = \"nat\"\nflood_threshold = 100\n[[service.backend]]\naddress = \"10.77.0.101\"\n";
    let scene = Plot { file: echo.into(), ..Plot::new("192.0.2.10", Way::NatV4).unwrap() }.set().unwrap();
    let target = ([192, 0, 2, 10], 53).into();
    let flood = Flood::start(scene.topology.client(), Of::Datagrams, target, Some(20_000)).unwrap();
    eventually("most are dropped", SOON, || outcome(&scene, "flooded") > 20_000).unwrap();
    assert_eq!(scene.answers(100).unwrap().len(), 3);
    assert!(flood.end().unwrap() > 20_000);
    // A hundred for each second, some seconds of which have passed, and those of the requests.
    let known = status(&scene).connections.used;
    assert!(known < 5000, "{known}");
}
