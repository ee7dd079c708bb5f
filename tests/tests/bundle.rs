//! `meshlb bundle`, unpacked: everything is there, nothing secret is, and what could not be had is said.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Topology, meshlb};
use mesh_userspace::bundle::Manifest;
use mesh_userspace::preflight::Report;
use serde_json::Value;
use tempfile::TempDir;

const VIP: &str = "192.0.2.10";

/// What nobody but the operator may see, each in another place of the configuration.
const HEADER: &str = "open-sesame-4711";
const QUERY: &str = "swordfish-0815";
const SEED: &str = "5eed5eed5eed5eed";
const COMMENT: &str = "comment-with-hunter2";
const TOKEN: &str = "e95b599e-166e-7d80-08ad-aee76e7ddf19";
const PASSWORD: &str = "correct-horse-battery";

/// Names (without the archive's own directory) and contents.
type Files = BTreeMap<String, String>;

fn unpacked(path: &Path) -> Files {
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path).unwrap()));
    let mut files = Files::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        assert_eq!(entry.header().mode().unwrap(), 0o600);
        let name = entry.path().unwrap().components().skip(1).collect::<PathBuf>().display().to_string();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        files.insert(name, text);
    }
    files
}

fn manifest(files: &Files) -> Manifest {
    serde_json::from_str(&files["manifest.json"]).unwrap()
}

/// A service whose configuration is full of secrets, and whose probes fail and say what they have asked for.
fn scene() -> (Scene, TempDir) {
    let temporary = TempDir::new().unwrap();
    let directory = temporary.path();
    let identity = rcgen::generate_simple_self_signed(vec!["balancer.example".into()]).unwrap();
    let [certificate, key] = ["client.pem", "client.key"].map(|name| directory.join(name));
    fs::write(&certificate, identity.cert.pem()).unwrap();
    fs::write(&key, identity.signing_key.serialize_pem()).unwrap();
    let [token, password] = [("token", TOKEN), ("password", PASSWORD)].map(|(name, secret)| {
        let file = directory.join(name);
        fs::write(&file, format!("{secret}\n")).unwrap();
        file
    });
    let health = format!(
        "health = {{ kind = \"http\", path = \"/healthz?auth={QUERY}\", expect = \"299\", interval = \"200ms\", \
         timeout = \"200ms\", headers = {{ authorization = \"Bearer {HEADER}\" }} }}\n\
         [[service.discovery]]\nkind = \"consul\"\nservice = \"web\"\nendpoints = [\"https://127.0.0.1:1\"]\n\
         token_file = {token:?}\nca_file = {certificate:?}\ncertificate_file = {certificate:?}\nprivate_key_file = {key:?}\n\
         [[service.discovery]]\nkind = \"etcd\"\nprefix = \"/web/\"\nendpoints = [\"http://127.0.0.1:1\"]\n\
         user = \"u\"\npassword_file = {password:?}\n"
    );
    let plot = Plot::new(VIP, Way::IpipV4).unwrap();
    let file = format!("[agent]\nseed = \"{SEED}\"\n");
    let plot = Plot { weights: vec![100; 2], service: health, file, ..plot };
    let scene = plot.set().unwrap();
    let config = scene.agent.config_path();
    let commented = fs::read_to_string(&config).unwrap() + &format!("# {COMMENT}\n");
    fs::write(config, commented).unwrap();
    (scene, temporary)
}

#[test]
fn an_archive_has_what_the_agent_and_the_host_say_and_no_secret() {
    let (scene, temporary) = scene();
    let directory = temporary.path();
    let said = |scene: &Scene| String::from_utf8(scene.agent.cli(&["backends"]).unwrap().stdout).unwrap();
    // The agent itself does say what it asks for.
    eventually("probes fail", Duration::from_secs(20), || said(&scene).contains(QUERY)).unwrap();
    let path = directory.join("bundle.tar.gz");
    let config = scene.agent.config_path();
    let arguments = ["bundle", "--config", config.to_str().unwrap(), "-w", path.to_str().unwrap()];
    scene.must(&arguments).unwrap();
    let files = unpacked(&path);
    let manifest = manifest(&files);
    for file in &manifest.files {
        assert_eq!(files[&file.name].len(), file.bytes, "{file:?}");
    }
    for name in [
        "config/0.toml",
        "config/check.txt",
        "preflight.json",
        "system.txt",
        "sysctl.txt",
        "network/links.txt",
        "network/routes4.txt",
        "network/neighbours.txt",
        "bpf/programs.json",
        "bpf/maps.json",
        "agent/status.json",
        "agent/services.json",
        "agent/backends.json",
        "agent/flows.json",
        "agent/events.json",
    ] {
        assert!(files.contains_key(name), "{name} is missing: {:?}", manifest.missing);
    }
    let key = fs::read_to_string(directory.join("client.key")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for (name, text) in &files {
        for secret in [HEADER, QUERY, SEED, COMMENT, TOKEN, PASSWORD, key] {
            assert!(!text.contains(secret), "{secret} is in {name}");
        }
    }
    assert!(files["config/0.toml"].contains("client.key"), "paths are no secrets");
    assert!(files["config/0.toml"].contains("authorization = \"***\""), "{}", files["config/0.toml"]);
    assert!(files["agent/backends.json"].contains("/healthz?***"), "{}", files["agent/backends.json"]);
    assert!(files["bpf/programs.json"].contains("\"meshlb\""));
    let report: Report = serde_json::from_str(&files["preflight.json"]).unwrap();
    assert!(report.ok > 5, "{report:?}");
    let metrics = manifest.missing.iter().find(|missing| missing.name == "agent/metrics.txt").unwrap();
    assert!(metrics.reason.contains("switches them off"), "{metrics:?}");
    // It is not replaced unless that is asked for.
    let again = scene.agent.cli(&arguments).unwrap();
    let complaint = String::from_utf8(again.stderr).unwrap();
    assert_eq!(again.status.code(), Some(1));
    assert!(complaint.contains("is there already") && complaint.contains("--force"), "{complaint}");
    scene.must(&[&arguments[..], &["--force"]].concat()).unwrap();
}

#[test]
fn without_an_agent_and_a_configuration_the_manifest_says_what_is_missing() {
    let topology = Topology::builder().build().unwrap();
    let path = topology.directory().join("bundle.tar.gz");
    let none = topology.directory().join("none");
    let output = topology
        .balancer()
        .command(meshlb::binary().unwrap())
        .args(["bundle", "-o", "json", "-w"])
        .arg(&path)
        .arg("--config")
        .arg(none.join("meshlb.toml"))
        .arg("--socket")
        .arg(none.join("meshlb.sock"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let files = unpacked(&path);
    assert_eq!(said["files"], files.len());
    let manifest = manifest(&files);
    let reason =
        |name: &str| manifest.missing.iter().find(|missing| missing.name == name).unwrap().reason.clone();
    assert!(reason("agent/status.json").contains("no agent at"), "{manifest:?}");
    assert!(reason("config").contains("none/meshlb.toml"), "{manifest:?}");
    assert!(reason("agent/metrics.txt").contains("does not say where"), "{manifest:?}");
    assert!(files["network/links.txt"].contains("eth0"), "the namespace's own");
}

#[test]
fn a_configuration_that_is_no_toml_is_left_out() {
    let topology = Topology::builder().build().unwrap();
    let [path, config] = ["bundle.tar.gz", "broken.toml"].map(|name| topology.directory().join(name));
    fs::write(&config, format!("[[service]]\nheaders = {{ authorization = \"Bearer {HEADER}\"\n")).unwrap();
    let mut command = topology.balancer().command(meshlb::binary().unwrap());
    let output = command.arg("bundle").arg("-w").arg(&path).arg("--config").arg(&config).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let files = unpacked(&path);
    assert!(files.iter().all(|(_, text)| !text.contains(HEADER)), "{files:?}");
    let reasons: Vec<_> = manifest(&files).missing.into_iter().map(|missing| missing.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("it is no TOML")), "{reasons:?}");
}
