//! Real QUIC connections through the balancer, of clients whose addresses change.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

#[path = "quic/ids.rs"]
mod ids;
#[path = "quic/stage.rs"]
mod stage;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use ids::Scheme;
use mesh_tests::scene::Way;
use mesh_tests::wait;
use mesh_userspace::api::types::{ServiceView, Status};
use stage::{Plan, SOON, Stage};

/// Moves of one client: by chance it would reach the same of three servers every time once in 6561 runs.
const MOVES: u8 = 8;

const SECRET: Scheme = Scheme { key: Some(*b"a key for tests.") };
const V4: Plan = Plan { vip: "192.0.2.10", way: Way::L2, scheme: SECRET };
const V6: Plan = Plan { vip: "2001:db8::10", way: Way::IpipV6, scheme: Scheme { key: None } };

fn status(stage: &Stage) -> Status {
    stage.agent.cli_json(&["status"]).unwrap()
}

fn migrating(stage: &Stage) -> u32 {
    let services: Vec<ServiceView> = stage.agent.cli_json(&["services"]).unwrap();
    services.iter().map(|service| service.slots.migrating).sum()
}

/// How many packets went which way, for those that went any.
fn routed(stage: &Stage) -> BTreeMap<String, u64> {
    status(stage).quic.routed.into_iter().filter(|(_, packets)| *packets > 0).collect()
}

fn a_client_that_moves_stays_at_its_server(plan: Plan) {
    let stage = Stage::set(plan);
    let client = stage.connect();
    let mut download = client.download(900);
    for number in 0..MOVES {
        download.take(100);
        client.migrate(number);
    }
    let server = download.finish();
    assert_eq!(client.ask(), server);
    let routed = routed(&stage);
    assert!(routed.keys().eq(["connection_id", "initial"]), "{routed:?}");
    assert!(routed["connection_id"] > routed["initial"], "{routed:?}");
}

#[test]
fn clients_that_move_stay_at_their_servers_behind_translations() {
    for plan in
        [Plan { way: Way::NatV4, ..V4 }, Plan { way: Way::NatV6, ..V4 }, Plan { way: Way::NatV4, ..V6 }]
    {
        a_client_that_moves_stays_at_its_server(plan);
    }
}

#[test]
fn an_ipv4_client_that_moves_stays_at_its_server_by_encrypted_ids() {
    a_client_that_moves_stays_at_its_server(V4);
}

#[test]
fn an_ipv6_client_that_moves_stays_at_its_server_by_plain_ids() {
    a_client_that_moves_stays_at_its_server(V6);
}

#[test]
fn a_drained_server_keeps_clients_that_move_and_gets_no_others() {
    let stage = Stage::set(V4);
    let client = stage.connect();
    let server = client.ask();
    stage.must(&["drain", "web", &stage.backend(server).to_string()]);
    for number in 0..MOVES {
        client.migrate(number);
        assert_eq!(client.ask(), server);
    }
    // Until then a new flow cannot be told from an old one.
    wait::until("the window is over", SOON, || match migrating(&stage) {
        0 => Ok(()),
        slots => bail!("{slots} slots migrate"),
    })
    .unwrap();
    let others: BTreeSet<u8> = (0..10).map(|_| stage.connect().ask()).collect();
    assert!(!others.contains(&server), "{others:?}");
}

#[test]
fn connections_outlive_rotations_and_agents() {
    let mut stage = Stage::set(V4);
    let old = stage.connect();
    let server = old.ask();
    stage.reload(&[0, 1]);
    stage.rotate(1);
    let new = stage.connect();
    let other = new.ask();
    stage.agent.kill9().unwrap();
    for number in 0..MOVES {
        old.migrate(number);
        new.migrate(number);
        assert_eq!((old.ask(), new.ask()), (server, other));
    }
    stage.agent.restart().unwrap();
    assert_eq!(status(&stage).problems, Vec::<String>::new());
    old.migrate(0);
    new.migrate(1);
    assert_eq!((old.ask(), new.ask()), (server, other));
    let rotations = status(&stage).quic.rotations;
    assert!(rotations["0"] > 0 && rotations["1"] > 0 && rotations["2"] == 0, "{rotations:?}");
    let key = SECRET.config(0);
    let key = key.split('"').nth(1).unwrap();
    assert!(!stage.agent.log().contains(key), "the key is in the log");
}
