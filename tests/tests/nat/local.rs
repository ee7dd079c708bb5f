//! Backends on the balancer itself.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, UdpSocket};
use std::time::Duration;

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, HttpServer};
use mesh_userspace::api::types::BackendView;

use crate::{LONG, SOON, crowd, curl, outcome, start, status, unprobed};

/// The port of the services that have a backend here.
const HERE: u16 = 8081;

/// The name of the server on the balancer.
const NAME: &str = "the balancer";

/// A scene whose second service has a backend on the balancer, and one elsewhere.
struct Stage {
    scene: Scene,
    server: HttpServer,
    service: SocketAddr,
}

/// The backend's address is of the way's family; these lines are for the service.
fn stage(vip: &str, way: Way, native: bool, lines: &str) -> Stage {
    let scene = Plot { native, ..unprobed(vip, way, 1, "") }.set().unwrap();
    let (here, there) = (own(&scene), scene.backend(0).unwrap());
    // Packets that come in where answers do not leave are refused.
    scene.topology.balancer().sysctl("net/ipv4/conf/all/rp_filter", "1").unwrap();
    scene
        .agent
        .write_config(&format!(
            "[metrics]\nlisten = \"off\"\n\
             [[service]]\nname = \"here\"\nvip = \"{vip}\"\nport = {HERE}\nprotocol = \"tcp\"\nforward = \"nat\"\n\
             nat = {{ port = {PORT} }}\n{lines}\n\
             [[service.backend]]\naddress = \"{here}\"\n[[service.backend]]\naddress = \"{there}\"\n"
        ))
        .unwrap();
    scene.must(&["reload"]).unwrap();
    let server = HttpServer::start(scene.topology.balancer(), PORT, NAME).unwrap();
    let service = SocketAddr::new(vip.parse().unwrap(), HERE);
    eventually("both are up", SOON, || backends(&scene).iter().all(|it| it.state == "up")).unwrap();
    Stage { scene, server, service }
}

/// The balancer's address of the backends' family.
fn own(scene: &Scene) -> IpAddr {
    scene.topology.balancer().address_like(scene.backend(0).unwrap())
}

fn backends(scene: &Scene) -> Vec<BackendView> {
    scene.agent.cli_json(&["backends"]).unwrap()
}

impl Stage {
    /// Who answers so many requests.
    fn answers(&self, requests: u32) -> BTreeSet<String> {
        let client = self.scene.client().unwrap();
        (0..requests).map(|_| client.get(self.service).unwrap().backend.unwrap()).collect()
    }

    fn both(&self) -> BTreeSet<String> {
        [NAME.to_owned(), self.scene.backend(0).unwrap().to_string()].into()
    }

    /// Whether the balancer has the devices.
    fn has_devices(&self) -> bool {
        let mut command = self.scene.topology.balancer().command("ip");
        command.args(["link", "show", "meshlb-local"]).output().unwrap().status.success()
    }
}

const PROBED: &str = "health = { kind = \"http\", path = \"/healthz\", port = 8080, interval = \"200ms\" }";

#[test]
fn clients_are_served_by_the_balancer_itself_beside_others() {
    for (vip, way) in crate::ALL {
        for native in [false, true] {
            let stage = stage(vip, way, native, PROBED);
            assert_eq!(stage.answers(40), stage.both(), "{vip} {way:?} native: {native}");
            assert!(backends(&stage.scene).iter().all(|it| it.replies > 0), "{:?}", backends(&stage.scene));
            assert_eq!(status(&stage.scene).problems, [""; 0]);
            // A request and an answer of many long segments.
            stage.scene.must(&["drain", "here", &stage.scene.backend(0).unwrap().to_string()]).unwrap();
            let (client, long) = (stage.scene.topology.client(), format!("x-long: {}", "x".repeat(7000)));
            assert!(!curl(client, &["-H", &long], stage.service, "/").is_empty());
            let got = curl(client, &[], stage.service, "/download?chunks=500&size=4096&pause_ms=0");
            assert_eq!(got.len(), 500 * 4096);
        }
    }
}

#[test]
fn connections_to_the_balancer_itself_outlive_the_agent() {
    for (vip, way) in [crate::ALL[0], crate::ALL[1]] {
        let mut stage = stage(vip, way, true, "");
        let lasting = Download::lasting(stage.service, Duration::from_secs(8));
        let downloads = Downloads::start(&stage.scene.client().unwrap(), 20, lasting);
        downloads.flowing(SOON).unwrap();
        let hops = |scene: &Scene| -> Vec<_> { backends(scene).into_iter().map(|it| it.next_hop).collect() };
        let before = hops(&stage.scene);
        stage.scene.agent.kill9().unwrap();
        assert_eq!(stage.answers(20), stage.both());
        stage.scene.agent.restart().unwrap();
        assert_eq!(hops(&stage.scene), before, "the devices are the same");
        assert_eq!(stage.answers(20), stage.both());
        let summary = downloads.finish(LONG).unwrap();
        assert_eq!((summary.completed, summary.failures.len()), (20, 0), "{:?}", summary.failures);
        assert!(stage.server.connections() > 10);
    }
}

#[test]
fn the_devices_end_with_what_the_agent_left_and_come_back_if_others_remove_them() {
    let mut stage = stage("192.0.2.10", Way::NatV4, false, "");
    stage.scene.topology.balancer().ip("link del meshlb-local\n").unwrap();
    let impatient = Client::with_timeout(stage.scene.topology.client(), Duration::from_secs(1)).unwrap();
    eventually("the devices are made again", LONG, || {
        stage.has_devices()
            && (0..10).all(|_| impatient.get(stage.service).is_ok())
            && status(&stage.scene).problems.is_empty()
    })
    .unwrap();
    assert_eq!(stage.answers(40), stage.both());
    stage.scene.agent.terminate().unwrap();
    assert!(stage.has_devices());
    let config = stage.scene.agent.config_path();
    let mut detach = stage.scene.topology.balancer().command(stage.scene.agent.binary());
    let output = detach.args(["detach", "--config"]).arg(config).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!stage.has_devices());
}

#[test]
fn only_translation_reaches_the_balancer_itself() {
    let scene = unprobed("192.0.2.10", Way::NatV4, 1, "").set().unwrap();
    let here = own(&scene);
    scene
        .agent
        .write_config(&format!(
            "[metrics]\nlisten = \"off\"\n[[service]]\nname = \"here\"\nvip = \"192.0.2.10\"\nport = 1\n\
             protocol = \"tcp\"\nforward = \"ipip\"\nbackend = [{{ address = \"{here}\" }}]\n"
        ))
        .unwrap();
    scene.must(&["reload"]).unwrap();
    eventually("it is told", SOON, || {
        let wanted = format!("backend {here} cannot be reached: {here} is an address of this host");
        status(&scene).problems.contains(&wanted)
    })
    .unwrap();
    assert_eq!(backends(&scene)[0].state, "unresolved");
}

#[test]
fn datagrams_and_errors_come_from_the_balancer_itself() {
    const ECHO: u16 = 7;
    let scene = unprobed("192.0.2.10", Way::NatV4, 1, "").set().unwrap();
    let service = |port: u16, own_port: u16| {
        format!(
            "[[service]]\nname = \"s{port}\"\nvip = \"192.0.2.10\"\nport = {port}\nprotocol = \"udp\"\n\
             forward = \"nat\"\nnat = {{ source = [\"10.77.0.250\"], port = {own_port} }}\n\
             backend = [{{ address = \"{}\" }}]\n",
            own(&scene)
        )
    };
    let services = service(53, ECHO) + &service(54, ECHO + 1);
    scene.agent.write_config(&format!("[metrics]\nlisten = \"off\"\n{services}")).unwrap();
    scene.must(&["reload"]).unwrap();
    let _server = crowd::echo(scene.topology.balancer(), ECHO);
    eventually("both are up", SOON, || backends(&scene).iter().all(|it| it.state == "up")).unwrap();
    let client = scene.topology.client();
    let vip = [192, 0, 2, 10].into();
    assert_eq!(crowd::ask_from(client, 2000..3000, SocketAddrV4::new(vip, 53), LONG), 1000);
    // Nothing listens there: the error about the translated datagram comes as one about the client's.
    let refused = client.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect(SocketAddrV4::new(vip, 54)).unwrap();
        socket.send(b"anybody?").unwrap();
        socket.recv(&mut [0; 16]).unwrap_err().kind()
    });
    assert_eq!(refused.unwrap(), ErrorKind::ConnectionRefused);
    assert!(outcome(&scene, "reply_redirected") > 1000);
}

#[test]
fn checksums_of_bulk_from_the_balancer_itself_are_right() {
    for (vip, way) in [crate::ALL[0], crate::ALL[3]] {
        let stage = stage(vip, way, true, "");
        stage.scene.must(&["drain", "here", &stage.scene.backend(0).unwrap().to_string()]).unwrap();
        let directory = stage.scene.topology.directory();
        let client = stage.scene.topology.client();
        let filter = ["-i", "eth0", "-nvv", "-c", "2000", "tcp"];
        let capture = start(client, "tcpdump", &filter, &directory, "listening on");
        let path = "/download?chunks=2000&size=4096&pause_ms=0";
        assert_eq!(curl(client, &[], stage.service, path).len(), 2000 * 4096);
        let seen = capture.finish(SOON).unwrap();
        assert!(seen.matches("correct)").count() > 1000, "{seen}");
        assert!(!seen.contains("incorrect") && !seen.contains("bad cksum"), "{seen}");
    }
}
