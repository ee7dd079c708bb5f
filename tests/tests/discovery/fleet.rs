//! Whole services that are defined in etcd, under traffic.

use std::net::SocketAddr;

use mesh_tests::HttpServer;
use mesh_tests::scene::PORT;
use mesh_tests::wait::eventually;
use mesh_userspace::api::types::ReloadReport;

use super::member::{self, Etcd};
use super::stage::{SOON, Stage, finish};

/// The port of the second service.
const SECOND: u16 = 8081;

const WEB: &str = "/fleet/services/web";
const API: &str = "/fleet/services/api";

/// The configuration of every agent of the fleet, with services of its own.
fn configure(stage: &Stage, services: &str) {
    let config = format!(
        "[metrics]\nlisten = \"off\"\n[services_from]\nkind = \"etcd\"\nprefix = \"/fleet/\"\n{services}"
    );
    stage.scene.agent.write_config(&config).unwrap();
    stage.scene.must(&["reload"]).unwrap();
}

/// A service with these hosts behind it, as it would stand in a file.
fn toml(stage: &Stage, (name, port): (&str, u16), hosts: &[usize]) -> String {
    let vip = stage.scene.service().ip();
    let backend = |host: &usize| format!("[[service.backend]]\naddress = \"{}\"\n", stage.address(*host));
    let backends: String = hosts.iter().map(backend).collect();
    format!(
        "[[service]]\nname = \"{name}\"\nvip = \"{vip}\"\nport = {port}\nprotocol = \"tcp\"\nforward = \"l2\"\n\
         health = {{ kind = \"http\", path = \"/healthz\", interval = \"100ms\", timeout = \"100ms\" }}\n{backends}"
    )
}

/// The second service in JSON, without probes.
fn json(stage: &Stage, host: usize) -> String {
    let (vip, address) = (stage.scene.service().ip(), stage.address(host));
    format!(
        "{{\"name\": \"api\", \"vip\": \"{vip}\", \"port\": {SECOND}, \"protocol\": \"tcp\",\n \"forward\": \"l2\", \
         \"backend\": [{{\"address\": \"{address}\"}}]}}"
    )
}

/// Waits until the second service is answered by this host, or by nobody.
fn second_is_served(stage: &Stage, by: Option<usize>) {
    let service = SocketAddr::new(stage.scene.service().ip(), SECOND);
    let (client, expected) = (stage.scene.client().unwrap(), by.map(|host| stage.address(host).to_string()));
    let answered = || client.get(service).ok().and_then(|reply| reply.backend);
    let served = eventually("the second service has this backend", SOON, || answered() == expected);
    assert!(served.is_ok(), "{served:?}: {:?}", stage.status());
}

fn has_problem(stage: &Stage, parts: &[&str]) {
    let is_said = |problem: &String| parts.iter().all(|part| problem.contains(part));
    let said = eventually("the problem is shown", SOON, || stage.status().problems.iter().any(is_said));
    assert!(said.is_ok(), "{parts:?}: {:?}", stage.status().problems);
}

fn has_no_problem(stage: &Stage) {
    let calm = eventually("there is no problem", SOON, || stage.status().problems.is_empty());
    assert!(calm.is_ok(), "{:?}", stage.status().problems);
}

/// How long a backend of the first service has been what it is. Seconds.
fn settled(stage: &Stage, host: usize) -> f64 {
    let address = stage.address(host).to_string();
    let backend = stage.backends().into_iter().find(|backend| backend.address == address).unwrap();
    backend.health.unwrap().since_seconds
}

#[test]
fn services_come_from_etcd_while_connections_live() {
    let mut stage = Stage::set(3);
    let mut etcd = Etcd::start(&stage);
    let second = stage.scene.topology.backends().iter().map(|host| {
        let address = host.address_like(stage.scene.service().ip());
        HttpServer::start(host, SECOND, &address.to_string()).unwrap()
    });
    let _second: Vec<_> = second.collect();
    etcd.control(&["put", WEB, &toml(&stage, ("web", PORT), &[0, 1])]);
    // What is beside the services is none.
    etcd.control(&["put", "/fleet/notes", "neither"]);
    configure(&stage, "");
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    stage.serves(&[0, 1]);
    let view = stage.source_becomes("live");
    assert_eq!(view.source, "services of etcd http://127.0.0.1:2379 /fleet/services/");
    assert_eq!((view.services, view.instances), (vec!["web".to_owned()], 1));
    let (traffic, downloads) = (stage.traffic(), stage.downloads(25));

    // One comes, and nothing of the other is touched; that changes, and nothing of its backends but what is new.
    etcd.control(&["put", API, &json(&stage, 2)]);
    second_is_served(&stage, Some(2));
    let before = settled(&stage, 0);
    etcd.control(&["put", WEB, &toml(&stage, ("web", PORT), &[0, 1, 2])]);
    stage.serves(&[0, 1, 2]);
    assert!(settled(&stage, 0) >= before, "the health of what did not change began anew");
    has_no_problem(&stage);

    // What is garbage changes nothing, while the other changes.
    let garbage = toml(&stage, ("web", PORT), &[0]).replace("\"l2\"", "\"l3\"");
    etcd.control(&["put", WEB, &garbage]);
    etcd.control(&["put", API, &json(&stage, 1)]);
    second_is_served(&stage, Some(1));
    let refused = "a definition of services of etcd http://127.0.0.1:2379 /fleet/services/ is refused, the one before stays \
                   in force: /fleet/services/web:6:11: unknown way to forward \"l3\"";
    has_problem(&stage, &[refused]);
    stage.serves(&[0, 1, 2]);

    // The file wins.
    configure(&stage, &toml(&stage, ("api", SECOND), &[0]));
    second_is_served(&stage, Some(0));
    has_problem(
        &stage,
        &["none is in force: /fleet/services/api:1:10: the name \"api\" is already the service's in line"],
    );
    configure(&stage, "");
    second_is_served(&stage, Some(1));
    let report: ReloadReport = stage.scene.agent.cli_json(&["reload", "--dry-run"]).unwrap();
    assert!(!report.changed && report.services.is_empty(), "{report:?}");

    // It dies, and the agent, too: what was right last is there, how old it is is said.
    etcd.kill();
    stage.source_becomes("stale");
    has_problem(
        &stage,
        &[
            "services of etcd",
            "do not come, they are those of",
            "ago: http://127.0.0.1:2379 cannot be reached",
        ],
    );
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    let view = stage.source_becomes("stale");
    assert_eq!((view.services, view.instances), (vec!["api".to_owned(), "web".to_owned()], 2));
    assert!(view.age_seconds.is_some_and(|age| (0.0..60.0).contains(&age)));
    let screen = String::from_utf8(stage.scene.agent.cli(&["status"]).unwrap().stdout).unwrap();
    assert!(screen.contains("services of etcd http://127.0.0.1:2379 /fleet/services/"), "{screen}");
    stage.serves(&[0, 1, 2]);
    second_is_served(&stage, Some(1));

    // It is there again. What is mended applies, and what is removed is gone.
    etcd.restart(member::PORT);
    stage.source_becomes("live");
    has_problem(&stage, &[refused]);
    etcd.control(&["put", WEB, &toml(&stage, ("web", PORT), &[1, 2])]);
    stage.serves(&[1, 2]);
    has_no_problem(&stage);
    etcd.control(&["del", API]);
    second_is_served(&stage, None);
    assert_eq!(stage.source_becomes("live").services, ["web"]);
    traffic.finish();
    finish(downloads);
    // Without the source nothing of it is left.
    stage.scene.agent.write_config("[metrics]\nlisten = \"off\"\n").unwrap();
    stage.scene.must(&["reload"]).unwrap();
    assert!(stage.status().services.is_empty() && stage.status().discovery.is_empty());
}
