//! A list in a file.

use std::fs;

use super::stage::{SOON, Stage, finish};
use mesh_tests::wait::eventually;

/// A list as JSON: host, weight, state.
fn list(stage: &Stage, entries: &[(usize, u16, &str)]) -> String {
    let entry = |(host, weight, state): &(usize, u16, &str)| {
        let address = stage.address(*host);
        format!("{{\"address\": \"{address}\", \"weight\": {weight}, \"state\": \"{state}\"}}")
    };
    format!("{{\"backend\": [{}]}}", entries.iter().map(entry).collect::<Vec<_>>().join(",\n"))
}

/// A host as the configuration has it.
fn written(stage: &Stage, host: usize) -> String {
    format!("[[service.backend]]\naddress = \"{}\"\n", stage.address(host))
}

#[test]
fn a_file_says_who_is_there_while_connections_live() {
    let mut stage = Stage::set(4);
    let directory = stage.scene.topology.directory();
    let (file, new) = (directory.join("web.json"), directory.join("web.json.new"));
    let replace = |text: &str| {
        fs::write(&new, text).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    stage.discover(&format!("{}{}", written(&stage, 0), written(&stage, 1)));
    stage.serves(&[0, 1]);
    let (traffic, downloads) = (stage.traffic(), stage.downloads(8));

    // They move from the configuration to a file, which nobody notices.
    replace(&list(&stage, &[(0, 100, "ready"), (1, 100, "ready")]));
    let sources = format!("[[service.discovery]]\nkind = \"file\"\npath = {file:?}\n");
    stage.discover(&sources);
    stage.says(&[(0, "up", 100), (1, "up", 100)]);
    let source = stage.source_becomes("live");
    assert!(stage.backends().iter().all(|backend| backend.source == source.source));

    // One comes; one drains, which its connections do not notice; one leaves.
    replace(&list(&stage, &[(0, 100, "draining"), (1, 100, "ready"), (2, 300, "ready")]));
    stage.says(&[(0, "draining", 100), (1, "up", 100), (2, "up", 300)]);
    stage.serves(&[1, 2]);
    replace(&list(&stage, &[(0, 100, "ready"), (2, 300, "ready"), (3, 100, "failing")]));
    stage.says(&[(0, "up", 100), (2, "up", 300), (3, "down", 100)]);
    stage.serves(&[0, 2]);

    // What is wrong, or gone, changes nothing and is said, with its place.
    replace(&list(&stage, &[(1, 100, "ready")]).replace("weight", "wieght"));
    let source = stage.source_becomes("stale");
    let error = source.last_error.unwrap();
    assert!(error.contains("web.json:1:") && error.contains("unknown field `wieght`"), "{error}");
    let problem = |problem: &String| problem.contains("does not answer, its backends are those of");
    assert!(stage.status().problems.iter().any(problem), "{:?}", stage.status().problems);
    stage.serves(&[0, 2]);
    fs::remove_file(&file).unwrap();
    let is_gone = || stage.source().last_error.is_some_and(|error| error.contains("cannot be read"));
    eventually("the file is missed", SOON, is_gone).unwrap();

    // Nor does a reload, or an agent that dies meanwhile and begins with what was stored.
    stage.scene.must(&["reload"]).unwrap();
    stage.serves(&[0, 2]);
    stage.scene.agent.kill9().unwrap();
    stage.scene.agent.restart().unwrap();
    let source = stage.source_becomes("stale");
    assert_eq!((source.instances, source.services.as_slice()), (3, ["web".to_owned()].as_slice()));
    assert!(source.age_seconds.is_some_and(|age| age < 60.0), "{source:?}");
    stage.serves(&[0, 2]);
    let metrics =
        stage.scene.topology.balancer().command("curl").args(["-s", "127.0.0.1:9440/metrics"]).output();
    let metrics = String::from_utf8(metrics.unwrap().stdout).unwrap();
    let name = &source.source;
    for sample in ["discovery_up", "discovery_instances", "discovery_age_seconds", "discovery_errors_total"] {
        let sample = format!("meshlb_{sample}{{source=\"{name}\"}}");
        assert!(metrics.contains(&sample), "no {sample} in {metrics}");
    }
    assert!(metrics.contains(&format!("meshlb_discovery_up{{source=\"{name}\"}} 0")), "{metrics}");

    // The file is there again; then the service has it no more.
    replace(&list(&stage, &[(1, 100, "ready"), (2, 100, "ready")]));
    stage.source_becomes("live");
    stage.serves(&[1, 2]);
    finish(downloads);
    traffic.finish();
    stage.discover(&written(&stage, 3));
    stage.serves(&[3]);
    assert!(stage.status().discovery.is_empty());
}
