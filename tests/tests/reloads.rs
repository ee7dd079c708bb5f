//! New configurations under traffic: what they would do, files that are watched, and hundreds of random ones.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test's helpers fail by panicking, too")]

#[path = "reloads/random.rs"]
mod random;

use std::fs;
use std::time::Duration;

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Download, Downloads};
use mesh_userspace::api::types::{BackendView, ReloadReport, ServiceView, Status};

const VIP: &str = "192.0.2.10";
const SOON: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(90);

fn downloads(scene: &Scene) -> Downloads {
    let download = Download::lasting(scene.service(), Duration::from_secs(5));
    let downloads = Downloads::start(&scene.client().unwrap(), 50, download);
    downloads.flowing(SOON).unwrap();
    downloads
}

fn assert_complete(downloads: Downloads) {
    let summary = downloads.finish(LONG).unwrap();
    assert_eq!(summary.completed, 50, "{:?}", summary.failures);
}

fn service(scene: &Scene) -> ServiceView {
    let mut services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
    services.remove(0)
}

#[test]
fn a_dry_run_says_how_many_slots_move_and_moves_none() {
    let scene = Plot { spare: 1, ..Plot::new(VIP, Way::L2).unwrap() }.set().unwrap();
    let downloads = downloads(&scene);
    let text = fs::read_to_string(scene.agent.config_path()).unwrap();
    let (spare, last) = (scene.backend(3).unwrap().to_string(), scene.backend(2).unwrap().to_string());
    let more = format!("{text}\n[[service.backend]]\naddress = \"{spare}\"\n");
    let more = more.replace("protocol = \"tcp\"", "protocol = \"tcp\"\nwindow = \"10min\"");
    scene.agent.write_config_verbatim(&more).unwrap();

    let plan: ReloadReport = scene.agent.cli_json(&["reload", "--dry-run"]).unwrap();
    assert!(plan.dry_run && plan.changed);
    let [change] = plan.services.as_slice() else { panic!("{plan:?}") };
    assert_eq!((change.service.as_str(), change.change.as_str()), ("web", "changed"));
    assert_eq!(change.backends_added, [spare.as_str()]);
    let setting = &change.settings[0];
    let values = (setting.key.as_str(), setting.from.as_deref(), setting.to.as_deref());
    assert_eq!(values, ("window", Some("30m"), Some("10m")));
    let before = service(&scene);
    assert_eq!((before.backends, before.slots.migrating), (3, 0), "a dry run changes nothing");

    let done: ReloadReport = scene.agent.cli_json(&["reload"]).unwrap();
    assert_eq!(done, ReloadReport { dry_run: false, ..plan.clone() });
    eventually("slots move as was said", SOON, || service(&scene).slots.migrating == change.slots_moved)
        .unwrap();
    assert!(change.slots_moved > change.slots / 5, "{change:?}");

    // And of a file that is wrong.
    scene.agent.write_config_verbatim(&text.replace(&last, "somewhere")).unwrap();
    let output = scene.agent.cli(&["reload", "--dry-run"]).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && complaint.contains("meshlb.toml:"), "{complaint}");
    let status: Status = scene.agent.cli_json(&["status"]).unwrap();
    assert_eq!(status.problems, [""; 0], "what was only tried is no problem");
    assert_complete(downloads);
}

#[test]
fn files_that_are_watched_are_read_when_they_change() {
    let plot = Plot { file: "[agent]\nwatch_config = true\n".into(), ..Plot::new(VIP, Way::L2).unwrap() };
    let scene = plot.set().unwrap();
    let directory = scene.agent.config_path().parent().unwrap().join("conf.d");
    fs::create_dir(&directory).unwrap();
    let downloads = downloads(&scene);
    let text = fs::read_to_string(scene.agent.config_path()).unwrap();
    let problems = || scene.agent.cli_json::<Status>(&["status"]).unwrap().problems;
    let names = || -> Vec<String> {
        let services: Vec<ServiceView> = scene.agent.cli_json(&["services"]).unwrap();
        services.into_iter().map(|service| service.name).collect()
    };
    let states = || -> Vec<Option<f64>> {
        let backends: Vec<BackendView> = scene.agent.cli_json(&["backends", "web"]).unwrap();
        backends.into_iter().map(|backend| backend.health.map(|health| health.since_seconds)).collect()
    };

    scene.agent.write_config_verbatim(&format!("include = \"conf.d\"\n{text}")).unwrap();
    let file = directory.join("more.toml");
    let more = |port: u16| {
        format!(
            "[[service]]\nname = \"more\"\nvip = \"{VIP}\"\nport = {port}\nprotocol = \"tcp\"\nforward = \"l2\"\n\
             [[service.backend]]\naddress = \"{}\"\n",
            scene.backend(0).unwrap()
        )
    };
    eventually("the directory is included", SOON, || {
        fs::write(&file, more(81)).unwrap();
        names() == ["web", "more"]
    })
    .unwrap();
    let since = states();

    fs::write(&file, more(PORT)).unwrap();
    eventually("the mistake is told", SOON, || {
        problems()
            .iter()
            .any(|problem| problem.contains("conf.d/more.toml:3:7: 192.0.2.10:8080/tcp is already"))
    })
    .unwrap();
    assert_eq!(names(), ["web", "more"], "what was before stays in force");
    let check = scene.agent.cli(&["check", &scene.agent.config_path().display().to_string()]).unwrap();
    let complaint = String::from_utf8_lossy(&check.stderr).into_owned();
    assert!(!check.status.success() && complaint.contains("more.toml:3:7"), "{complaint}");

    fs::remove_file(&file).unwrap();
    eventually("the service is gone, and the problem", SOON, || names() == ["web"] && problems().is_empty())
        .unwrap();
    assert!(states().iter().zip(&since).all(|(now, then)| now >= then), "nobody was probed anew");
    assert_complete(downloads);
}
