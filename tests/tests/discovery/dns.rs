//! A name server: dnsmasq on the client's host.

use std::fs;
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mesh_tests::LoggedChild;
use nix::sys::signal::Signal;

use super::stage::{SOON, Stage, finish};

const NAME: &str = "web.example";
const OFFERS: &str = "_http._tcp.web.example";
const PORT: u16 = 53;

/// Until dnsmasq has read its files: it logs that it has.
const BEGUN: Duration = Duration::from_secs(5);

/// A name server that knows the hosts in a file, for a second at a time.
struct NameServer {
    child: LoggedChild,
    hosts: PathBuf,
}

impl NameServer {
    /// Starts it, with further arguments.
    fn start(stage: &Stage, arguments: &[String]) -> Self {
        let directory = stage.scene.topology.directory();
        let hosts = directory.join("dnsmasq.hosts");
        let client = stage.scene.topology.client();
        let mut command = client.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--pid-file="]);
        command.args(["--no-resolv", "--no-hosts", "--local=/example/", "--local-ttl=1", "--user=root"]);
        command.args(["--bind-interfaces", &format!("--listen-address={}", client.v4())]);
        command.arg(format!("--addn-hosts={}", hosts.display())).args(arguments);
        fs::OpenOptions::new().create(true).append(true).open(&hosts).unwrap();
        let mut child = LoggedChild::spawn("dnsmasq", command, directory.join("dnsmasq.log")).unwrap();
        let has_read = |child: &LoggedChild| {
            anyhow::ensure!(child.log().contains("read "), "it has read nothing yet");
            Ok(())
        };
        child.await_ready(BEGUN, has_read).unwrap();
        Self { child, hosts }
    }

    fn write(hosts: &PathBuf, lines: &[(IpAddr, &str)]) {
        let lines: String = lines.iter().map(|(address, name)| format!("{address} {name}\n")).collect();
        fs::write(hosts, lines).unwrap();
    }

    /// From now on the name has exactly these addresses.
    fn has(&mut self, stage: &Stage, numbers: &[usize]) {
        let lines: Vec<_> = numbers.iter().map(|number| (stage.address(*number), NAME)).collect();
        Self::write(&self.hosts, &lines);
        self.signal(Signal::SIGHUP);
    }

    fn signal(&mut self, signal: Signal) {
        self.child.signal(signal).unwrap();
    }
}

/// Answers every question by SERVFAIL, in the name server's place.
fn fails_meanwhile(stage: &Stage, meanwhile: impl FnOnce()) {
    let client = stage.scene.topology.client();
    let address = (client.v4(), PORT);
    let socket = client.run(move || UdpSocket::bind(address)).unwrap().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                fail_one(&socket).unwrap();
            }
        });
        meanwhile();
        is_over.store(true, Ordering::Relaxed);
    });
}

/// RFC 1035 §4.1.1: a response, with code 2.
fn fail_one(socket: &UdpSocket) -> io::Result<()> {
    let mut message = [0; 512];
    let (length, from) = match socket.recv_from(&mut message) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
        received => received?,
    };
    message[2] |= 0x80;
    message[3] = (message[3] & 0xf0) | 2;
    socket.send_to(message.get(..length).unwrap_or_default(), from).map(drop)
}

fn source(stage: &Stage, more: &str) -> String {
    let server = stage.scene.topology.client().v4();
    format!("[[service.discovery]]\nkind = \"dns\"\nservers = [\"{server}\"]\nfamily = \"ipv4\"\n{more}")
}

fn addresses(stage: &Stage) -> String {
    source(stage, &format!("name = \"{NAME}\"\ntimeout = \"400ms\"\nabsent_after = \"10s\"\n"))
}

/// Waits until the source says nothing, for this reason.
fn fails(stage: &Stage, reason: &str) {
    let is_reason = || stage.source().last_error.is_some_and(|error| error.contains(reason));
    let failed = mesh_tests::wait::eventually("the source fails", SOON, is_reason);
    assert!(failed.is_ok(), "no {reason:?} in {:?}", stage.source());
    assert_eq!(stage.source().state, "stale");
}

#[test]
fn addresses_of_a_name_come_and_go_while_connections_live() {
    let mut stage = Stage::set(4);
    let mut server = NameServer::start(&stage, &[]);
    server.has(&stage, &[0, 1]);
    stage.discover(&addresses(&stage));
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(20));
    server.has(&stage, &[0, 1, 2]);
    stage.serves(&[0, 1, 2]);
    server.has(&stage, &[1, 2]);
    stage.serves(&[1, 2]);

    // One that cannot make up its mind.
    for _ in 0..10 {
        server.has(&stage, &[1, 2, 3]);
        thread::sleep(Duration::from_millis(300));
        server.has(&stage, &[1, 2]);
        thread::sleep(Duration::from_millis(300));
    }
    server.has(&stage, &[1, 2, 3]);
    stage.serves(&[1, 2, 3]);

    // The server dies, and the agent meanwhile.
    drop(server);
    fails(&stage, "Connection refused");
    stage.serves(&[1, 2, 3]);
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    assert_eq!(stage.source_becomes("stale").instances, 3);
    stage.serves(&[1, 2, 3]);
    // In its place comes one that can tell nothing.
    fails_meanwhile(&stage, || fails(&stage, "Server Failure"));
    stage.serves(&[1, 2, 3]);

    // One that has just begun knows nobody yet.
    let mut server = NameServer::start(&stage, &[]);
    server.has(&stage, &[]);
    fails(&stage, "there is no such name (NXDOMAIN); this is believed after 10s");
    stage.serves(&[1, 2, 3]);
    server.has(&stage, &[0, 1]);
    stage.source_becomes("live");
    stage.serves(&[0, 1]);

    // It answers late, then too late.
    server.has(&stage, &[0, 2]);
    for _ in 0..20 {
        server.signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(150));
        server.signal(Signal::SIGCONT);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(stage.source().state, "live");
    stage.serves(&[0, 2]);
    server.signal(Signal::SIGSTOP);
    fails(&stage, "no answer within 400ms");
    stage.serves(&[0, 2]);
    server.signal(Signal::SIGCONT);
    server.has(&stage, &[0, 3]);
    stage.source_becomes("live");
    stage.serves(&[0, 3]);
    finish(downloads);
    traffic.finish();

    // A name that stays away has nobody.
    server.has(&stage, &[]);
    stage.says(&[]);
    assert_eq!(stage.source_becomes("live").instances, 0);
}

#[test]
fn srv_records_say_weights_priorities_and_ports() {
    let stage = Stage::set(4);
    let hosts: Vec<String> = (0..4).map(|number| format!("h{number}.example")).collect();
    let lines: Vec<_> = hosts.iter().enumerate().map(|(n, host)| (stage.address(n), host.as_str())).collect();
    let offer = |host: usize, port: u16, priority: u16, weight: u16| {
        format!("--srv-host={OFFERS},{},{port},{priority},{weight}", hosts[host])
    };
    let first = [offer(0, 8080, 1, 10), offer(1, 8080, 1, 30), offer(2, 8080, 2, 0), offer(3, 9090, 1, 5)];
    let mut server = NameServer::start(&stage, &first);
    NameServer::write(&server.hosts, &lines);
    server.signal(Signal::SIGHUP);
    stage.discover(&source(&stage, &format!("name = \"{OFFERS}\"\nrecord = \"SRV\"\nweight = 7\n")));
    stage.says(&[(0, "up", 10), (1, "up", 30), (2, "standby", 7)]);
    let other_port = |problem: &String| problem.contains("with other ports than 8080");
    assert!(stage.status().problems.iter().any(other_port), "{:?}", stage.status().problems);
    let traffic = stage.traffic();
    stage.serves(&[0, 1]);

    // More than fit into a datagram of 512 bytes: they come over TCP.
    let hosts_file = server.hosts.clone();
    drop(server);
    let name = |n: u8| format!("a-host-with-a-long-name-{n}.example");
    let far = |n| format!("--srv-host={OFFERS},{},9090,1,5", name(n));
    let many: Vec<String> = (0..30).map(far).chain([offer(1, 8080, 1, 20), offer(2, 8080, 1, 20)]).collect();
    let others: Vec<(IpAddr, String)> = (0..30).map(|n| ([10, 99, 0, n].into(), name(n))).collect();
    let others = others.iter().map(|(address, host)| (*address, host.as_str()));
    NameServer::write(&hosts_file, &lines.iter().copied().chain(others).collect::<Vec<_>>());
    let server = NameServer::start(&stage, &many);
    stage.says(&[(1, "up", 20), (2, "up", 20)]);
    stage.serves(&[1, 2]);
    assert_eq!(stage.source().instances, 32);
    traffic.finish();
    drop(server);
}
