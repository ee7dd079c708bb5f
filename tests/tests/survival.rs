//! The agent crashes, restarts, is refused and is removed; packets and flows do not care.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::time::Duration;

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Agent, Download, Downloads};
use mesh_userspace::api::types::Status;

const V4: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(60);

fn start(scene: &Scene, seconds: u64) -> Downloads {
    let download = Download::lasting(scene.service(), Duration::from_secs(seconds));
    let downloads = Downloads::start(&scene.client().unwrap(), 40, download);
    downloads.flowing(SOON).unwrap();
    downloads
}

fn finish(downloads: Downloads) {
    let summary = downloads.finish(LONG).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

fn assert_survives_a_crash(native: bool) {
    let mut scene = Plot { native, ..Plot::new(V4, Way::IpipV4).unwrap() }.set().unwrap();
    let downloads = start(&scene, 6);
    // Some flows are recorded, some slots migrate: all of it must be adopted.
    scene.must(&["drain", "web", &scene.backend(0).unwrap().to_string()]).unwrap();
    scene.agent.kill9().unwrap();
    let client = scene.client().unwrap();
    for _ in 0..20 {
        client.get(scene.service()).unwrap();
    }
    scene.agent.restart().unwrap();
    assert!(scene.agent.log().contains("adopted=true"), "{}", scene.agent.log());
    assert!(scene.agent.log().contains("took over the link"), "{}", scene.agent.log());
    for _ in 0..20 {
        client.get(scene.service()).unwrap();
    }
    finish(downloads);
}

#[test]
fn downloads_and_new_connections_survive_a_crash_of_the_agent() {
    assert_survives_a_crash(false);
}

#[test]
fn downloads_and_new_connections_survive_a_crash_of_the_agent_with_native_xdp() {
    assert_survives_a_crash(true);
}

/// The kernel itself puts two iterators into every bpffs: `maps.debug` and `progs.debug`.
fn assert_nothing_pinned(scene: &Scene) {
    let names = std::fs::read_dir(scene.topology.bpffs()).unwrap().map(|entry| entry.unwrap().file_name());
    let ours: Vec<_> = names.filter(|name| !name.to_string_lossy().ends_with(".debug")).collect();
    assert!(ours.is_empty(), "{ours:?} stays pinned");
}

#[test]
fn an_agent_that_is_terminated_leaves_packets_flowing_and_detach_removes_all() {
    let mut scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    assert!(scene.agent.terminate().unwrap().success());
    let client = scene.client().unwrap();
    client.get(scene.service()).unwrap();
    let config = scene.agent.config_path();
    scene.must(&["detach", "--config", &config.display().to_string()]).unwrap();
    assert!(client.get(scene.service()).is_err(), "nobody forwards any more");
    assert_nothing_pinned(&scene);
    // Again: there is nothing to remove, and that is no error.
    scene.must(&["detach", "--config", &config.display().to_string()]).unwrap();
}

#[test]
fn an_agent_that_is_told_to_detach_on_exit_does() {
    let plot = Plot { file: "[agent]\non_exit = \"detach\"\n".into(), ..Plot::new(V4, Way::L2).unwrap() };
    let mut scene = plot.set().unwrap();
    scene.client().unwrap().get(scene.service()).unwrap();
    assert!(scene.agent.terminate().unwrap().success());
    assert_nothing_pinned(&scene);
}

#[test]
fn a_second_agent_and_a_detach_are_refused_while_one_runs() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let config = scene.agent.config_path().display().to_string();
    for arguments in [["run", "--config", &config], ["detach", "--config", &config]] {
        let output = scene.agent.cli(&arguments).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("agent"), "{output:?}");
    }
    scene.client().unwrap().get(scene.service()).unwrap();
}

#[test]
fn an_interface_that_is_missing_is_named_with_its_place_in_the_file() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let mut other = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    other = other.replace("\"eth0\"", "\"eth7\"");
    scene.agent.write_config_verbatim(&other).unwrap();
    let output =
        scene.agent.cli(&["run", "--config", &scene.agent.config_path().display().to_string()]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("eth7") && complaint.contains("meshlb.toml:"), "{complaint}");
}

/// Each is wrong in one way; the texts of the errors are tested where they are made.
const WRONG: &[(&str, &str, &str)] = &[
    ("unknown key", "port = 8080", "port = 8080\ncolour = \"red\""),
    ("bad VIP", "vip = \"192.0.2.10\"", "vip = \"192.0.2.1O\""),
    ("multicast VIP", "vip = \"192.0.2.10\"", "vip = \"224.0.0.1\""),
    ("port 0", "port = 8080", "port = 0"),
    ("port too large", "port = 8080", "port = 80800"),
    ("port a word", "port = 8080", "port = \"http\""),
    ("unknown protocol", "protocol = \"tcp\"", "protocol = \"tpc\""),
    ("unknown forward", "forward = \"l2\"", "forward = \"l3\""),
    ("unknown scheduler", "port = 8080", "port = 8080\nscheduler = \"rr\""),
    ("unknown tracking", "port = 8080", "port = 8080\ntracking = \"sometimes\""),
    ("negative weight", "weight = 100", "weight = -1"),
    ("weight too large", "weight = 100", "weight = 65536"),
    ("duration without a unit", "port = 8080", "port = 8080\nwindow = \"500\""),
    ("table no prime", "port = 8080", "port = 8080\ntable_size = 4096"),
    ("unknown section", "[metrics]", "[metric]"),
    ("missing VIP", "vip = \"192.0.2.10\"", ""),
    ("family of a backend", "address = \"10.77.0.101\"", "address = \"fd77::65\""),
    ("duplicate backend", "address = \"10.77.0.102\"", "address = \"10.77.0.101\""),
    ("broken TOML", "port = 8080", "port = = 8080"),
    ("probe of unknown kind", "kind = \"http\"", "kind = \"smtp\""),
];

#[test]
fn a_reload_of_a_wrong_file_changes_nothing() {
    let scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    let downloads = start(&scene, 5);
    let right = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    let wrong = WRONG.iter().map(|(name, from, to)| {
        assert!(right.contains(from), "{name}: {right}");
        (*name, right.replacen(from, to, 1).into_bytes())
    });
    let duplicate_service = format!("{right}\n{}", right.split_once("[[service]]").unwrap().1).into_bytes();
    let more = [
        ("empty file", Vec::new()),
        ("binary file", vec![0x7f, b'E', 0xff, 0xfe, 0]),
        ("twice", duplicate_service),
    ];
    for (name, text) in wrong.chain(more) {
        std::fs::write(scene.agent.config_path(), &text).unwrap();
        let check = scene.agent.cli(&["check", &scene.agent.config_path().display().to_string()]).unwrap();
        let reload = scene.agent.cli(&["reload"]).unwrap();
        for output in [check, reload] {
            assert_eq!(output.status.code(), Some(1), "{name}");
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(complaint.contains("meshlb.toml:") && complaint.contains("help"), "{name}: {complaint}");
        }
        scene.client().unwrap().get(scene.service()).unwrap();
    }
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert!(status.ready, "{status:?}");
    assert!(
        matches!(status.problems.as_slice(), [one] if one.contains("is not what is in the file")),
        "{status:?}"
    );
    scene.agent.write_config_verbatim(&right).unwrap();
    assert!(scene.agent.cli(&["reload"]).unwrap().status.success());
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert!(status.ready && status.problems.is_empty(), "{status:?}");
    finish(downloads);
}

#[test]
fn a_hangup_reloads() {
    let scene = Plot { spare: 1, ..Plot::new(V4, Way::L2).unwrap() }.set().unwrap();
    let text = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    let spare = scene.backend(3).unwrap().to_string();
    scene.agent.write_config_verbatim(&text.replace("10.77.0.103", &spare)).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(scene.agent.pid().unwrap()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGHUP).unwrap();
    let client = scene.client().unwrap();
    let answers = || client.get(scene.service()).unwrap().backend == Some(spare.clone());
    eventually("the new backend answers", SOON, answers).unwrap();
}

#[test]
fn limits_that_changed_are_refused_until_a_detach() {
    let mut scene = Plot::new(V4, Way::L2).unwrap().set().unwrap();
    scene.agent.terminate().unwrap();
    let text = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    scene.agent.write_config_verbatim(&format!("{text}\n[limits]\nflows = 1000\n")).unwrap();
    let run =
        |agent: &Agent| agent.cli(&["run", "--config", &agent.config_path().display().to_string()]).unwrap();
    let output = run(&scene.agent);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(complaint.contains("flows") && complaint.contains("meshlb detach"), "{complaint}");
    assert_eq!(output.status.code(), Some(1));
    scene.client().unwrap().get(scene.service()).unwrap();
    scene.must(&["detach", "--config", &scene.agent.config_path().display().to_string()]).unwrap();
    scene.agent.restart().unwrap();
    scene.client().unwrap().get(scene.service()).unwrap();
}

#[test]
fn another_xdp_mode_takes_effect_with_a_restart() {
    let mut scene = Plot { native: true, ..Plot::new(V4, Way::L2).unwrap() }.set().unwrap();
    let text = std::fs::read_to_string(scene.agent.config_path()).unwrap();
    for mode in ["generic", "native", "generic", "native"] {
        scene.agent.write_config_verbatim(&text.replace("\"native\"", &format!("\"{mode}\""))).unwrap();
        scene.agent.restart().unwrap();
        let status: Status = scene.agent.cli_json(&["status"]).unwrap();
        assert_eq!(status.interfaces.first().unwrap().mode, mode);
        scene.client().unwrap().get(scene.service()).unwrap();
    }
}
