//! Traffic that is not plain: datagrams in fragments, and ping.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

use std::hash::{DefaultHasher, Hasher as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Output;
use std::time::Duration;

use mesh_tests::{Agent, Decap, Host, Topology};
use mesh_userspace::api::types::{BackendView, Status};

const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];
const PORT: u16 = 5353;
/// The longest datagram takes 41 fragments.
const SIZES: [usize; 5] = [1, 1473, 3000, 20_000, 60_000];

/// Length and hash of a datagram: short enough for any way back.
fn digest(datagram: &[u8]) -> [u8; 16] {
    let mut hasher = DefaultHasher::new();
    hasher.write(datagram);
    let [length, hash] = [u64::try_from(datagram.len()).unwrap(), hasher.finish()].map(u64::to_be_bytes);
    [length, hash].concat().try_into().unwrap()
}

/// Answers every datagram with its digest, which only somebody who got all of it knows.
fn digester(host: &Host, vip: IpAddr) {
    let _task = host
        .spawn(async move {
            let socket = tokio::net::UdpSocket::bind((vip, PORT)).await.unwrap();
            let mut buffer = vec![0; 0x1_0000];
            loop {
                let (length, client) = socket.recv_from(&mut buffer).await.unwrap();
                socket.send_to(&digest(&buffer[..length]), client).await.unwrap();
            }
        })
        .unwrap();
}

/// Three backends behind both VIPs, reached by `forward` over one family; bound in this order, the topology goes last.
fn scene(forward: &str, over: Option<IpAddr>, agent: &str) -> (Topology, Vec<Decap>, Agent) {
    let mut topology = Topology::builder().backends(3).build().unwrap();
    let vips = VIPS.map(|vip| vip.parse::<IpAddr>().unwrap());
    vips.iter().for_each(|vip| topology.add_vip(*vip).unwrap());
    let hosts = topology.backends();
    hosts.iter().for_each(|host| vips.iter().for_each(|vip| digester(host, *vip)));
    let decaps = if forward == "l2" { &[] } else { hosts };
    let decaps = decaps.iter().map(|host| Decap::start(host, &vips).unwrap()).collect();
    let service = |vip: &IpAddr| {
        let family = over.unwrap_or(*vip);
        let backend =
            |host: &Host| format!("[[service.backend]]\naddress = \"{}\"\n", host.address_like(family));
        let backends: String = hosts.iter().map(backend).collect();
        let name = if vip.is_ipv4() { "v4" } else { "v6" };
        format!(
            "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {PORT}\nprotocol = \"udp\"\n\
             forward = \"{forward}\"\n{backends}",
        )
    };
    let config =
        format!("{agent}\n[metrics]\nlisten = \"off\"\n{}", vips.iter().map(service).collect::<String>());
    let agent = Agent::start(&topology, &config).unwrap();
    (topology, decaps, agent)
}

fn assert_digested(socket: &UdpSocket, service: SocketAddr, size: usize) {
    let datagram: Vec<u8> = (0..size).map(|at| u8::try_from(at % 253).unwrap()).collect();
    let mut answer = [0; 64];
    for _ in 0..5 {
        socket.send_to(&datagram, service).unwrap();
        if let Ok((length, _)) = socket.recv_from(&mut answer) {
            assert_eq!(answer[..length], digest(&datagram), "{size} bytes to {service}");
            return;
        }
    }
    unreachable!("no answer from {service} to {size} bytes");
}

/// From so many ports that each of three backends has a part, but for one run in 10^7.
fn send_all(vip: IpAddr) {
    let any = if vip.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    for _ in 0..48 {
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        SIZES.iter().for_each(|size| assert_digested(&socket, SocketAddr::new(vip, PORT), *size));
    }
}

fn check_fragments(forward: &str, over: Option<&str>) {
    let (topology, _decaps, agent) = scene(forward, over.map(|family| family.parse().unwrap()), "");
    for vip in VIPS {
        topology.client().run(|| send_all(vip.parse().unwrap())).unwrap();
    }
    let backends: Vec<BackendView> = agent.cli_json(&["backends"]).unwrap();
    assert_eq!(backends.len(), 6);
    // Each datagram of the longest size alone is 41 packets.
    assert!(backends.iter().all(|backend| backend.packets > 50), "{backends:?}");
    let status: Status = agent.cli_json(&["status"]).unwrap();
    for outcome in ["fragment", "orphan_fragment", "too_many_headers"] {
        assert_eq!(status.outcomes[outcome], 0, "{outcome}");
    }
}

#[test]
fn datagrams_in_fragments_arrive_whole_by_direct_return() {
    check_fragments("l2", None);
}

#[test]
fn datagrams_in_fragments_arrive_whole_through_ipv4() {
    check_fragments("ipip", Some("0.0.0.0"));
}

#[test]
fn datagrams_in_fragments_arrive_whole_through_ipv6() {
    check_fragments("ipip", Some("::"));
}

fn ping(client: &Host, arguments: &[&str]) -> Output {
    client.command("ping").args(["-n", "-c", "3", "-i", "0.2", "-W", "1"]).args(arguments).output().unwrap()
}

#[test]
fn ping_to_a_vip_of_either_family_is_answered_by_the_balancer() {
    let (topology, _decaps, agent) = scene("l2", None, "");
    for vip in VIPS {
        for size in ["0", "56", "1400"] {
            let output = ping(topology.client(), &["-s", size, vip]);
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains(" 0% packet loss"), "{text}");
            assert!(!text.contains("DIFF") && !text.contains("wrong"), "{text}");
        }
    }
    let status: Status = agent.cli_json(&["status"]).unwrap();
    assert_eq!(status.outcomes["echo_answered"], 18);
}

#[test]
fn ping_is_left_to_the_host_where_the_configuration_says_so() {
    let (topology, _decaps, agent) =
        scene("l2", None, "[agent]\ninterfaces = [\"eth0\"]\nanswer_echo = false");
    assert!(!ping(topology.client(), &[VIPS[0]]).status.success());
    // The VIP on the balancer itself: its own stack answers.
    topology.balancer().ip(&format!("addr add {}/32 dev lo", VIPS[0])).unwrap();
    assert!(ping(topology.client(), &[VIPS[0]]).status.success());
    let status: Status = agent.cli_json(&["status"]).unwrap();
    assert_eq!(status.outcomes["echo_answered"], 0);
}
