//! What sources say becomes backends; what they do not say stays.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, TempDir, tempdir};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Combined, Instance, Report, Reports, Snapshot, Sources, combine};
use crate::config::{self, Config, DiscoverySource, FileSource, Standing};

const SOON: Duration = Duration::from_secs(10);

fn written(service: &str) -> Config {
    let text = format!(
        "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n\
         protocol = \"tcp\"\n{service}"
    );
    config::parse("test", &text).unwrap()
}

fn two_files(forward: &str) -> Config {
    written(&format!(
        "forward = \"{forward}\"\nbackend = [{{ address = \"10.0.0.1\" }}]\n\
         [[service.discovery]]\nkind = \"file\"\npath = \"/a\"\nweight = 50\n\
         [[service.discovery]]\nkind = \"file\"\npath = \"/b\"\nport = \"8000-8100\"\n"
    ))
}

fn at(last: u8) -> Instance {
    Instance::new([10, 0, 0, last].into(), None)
}

fn said(instances: impl IntoIterator<Item = Instance>) -> Report {
    let snapshot = Snapshot::from_iter(instances);
    Report { snapshot: Some(snapshot.into()), has_spoken: true, ..Report::default() }
}

fn combined(config: &Config, a: Report, b: Report) -> Combined {
    combine(config, &Reports::from([("file /a".to_owned(), a), ("file /b".to_owned(), b)]))
}

/// Last octets and weights.
fn backends(combined: &Combined) -> Vec<(u8, u16)> {
    let last = |address| match address {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(_) => 0,
    };
    combined.config.services[0].backends.iter().map(|it| (last(it.address), it.weight)).collect()
}

#[test]
fn backends_are_those_that_anybody_knows() {
    let config = two_files("ipip");
    let heavy = Instance { weight: Some(7), ..at(3) };
    let both = combined(&config, said([at(2), heavy]), said([at(4)]));
    assert_eq!(backends(&both), [(1, 100), (2, 50), (3, 7), (4, 100)]);
    assert_eq!(both.remarks, [""; 0]);
    let origins: Vec<_> = both.origins.iter().map(|(key, source)| (key.address, source.as_str())).collect();
    let from = |last: u8, source| (IpAddr::from([10, 0, 0, last]), source);
    assert_eq!(origins, [from(2, "file /a"), from(3, "file /a"), from(4, "file /b")]);
    // A source that is silent adds nobody, and takes nobody away.
    assert_eq!(backends(&combined(&config, said([at(2)]), Report::default())), [(1, 100), (2, 50)]);
    assert_eq!(backends(&combine(&config, &Reports::new())), [(1, 100)]);
}

#[test]
fn the_first_word_stands_and_the_other_is_said() {
    let config = two_files("ipip");
    let ends = Instance { standing: Standing::Draining, ..at(2) };
    let disputed = combined(&config, said([at(1), ends]), said([at(2)]));
    assert_eq!(backends(&disputed), [(1, 100), (2, 50)]);
    assert_eq!(disputed.config.services[0].backends[1].standing, Standing::Draining);
    let expected = [
        "service \"web\": file /a says something else of backends than the configuration, whose word stands: 1, such \
         as 10.0.0.1",
        "service \"web\": file /b says something else of backends than file /a, whose word stands: 1, such as 10.0.0.2",
    ];
    assert_eq!(disputed.remarks, expected);
    let agreed = Instance { weight: Some(100), ..at(1) };
    assert_eq!(combined(&config, said([agreed]), Report::default()).remarks, [""; 0]);
}

#[test]
fn what_the_service_cannot_use_is_left_out_and_said() {
    let on = |last: u8, port| Instance::new([10, 0, 0, last].into(), Some(port));
    let nobody = Instance::new("224.0.0.1".parse().unwrap(), None);
    let vip = Instance::new("203.0.113.10".parse().unwrap(), None);
    let v6 = Instance::new("2001:db8::1".parse().unwrap(), None);
    let snapshots =
        || (said([on(2, 80), on(3, 8080), on(4, 8081), nobody, vip, v6]), said([on(5, 8080), on(6, 80)]));
    let (a, b) = snapshots();
    let wrapped = combined(&two_files("ipip"), a, b);
    assert_eq!(backends(&wrapped), [(1, 100), (2, 50), (0, 50), (5, 100)]);
    let expected = [
        "service \"web\": file /a has instances with other ports than 80, which are left out: 2, such as 10.0.0.3 port 8080",
        "service \"web\": file /a has instances that no packet can be sent to, which are left out: 2, such as 203.0.113.10",
        "service \"web\": file /b has instances with other ports than 8000-8100, which are left out: 1, such as 10.0.0.6 port 80",
    ];
    assert_eq!(wrapped.remarks, expected);
    let (a, b) = snapshots();
    let direct = combined(&two_files("l2"), a, b);
    assert_eq!(backends(&direct), [(1, 100), (2, 50), (5, 100)]);
    assert!(
        direct.remarks[1]
            .contains("of another family than the VIP, which are left out: 1, such as 2001:db8::1")
    );
}

#[test]
fn more_than_fit_are_left_out_and_said() {
    let mut config = two_files("ipip");
    config.limits.backends = 3;
    let combined = combined(&config, said([at(1), at(2), at(3), at(4)]), said([at(2), at(5)]));
    assert_eq!(backends(&combined), [(1, 100), (2, 50), (3, 50)]);
    let left_out = |source, count, first| {
        format!(
            "service \"web\": {source} has instances beyond limits.backends, which are left out: {count}, such as {first}"
        )
    };
    assert!(combined.remarks.contains(&left_out("file /a", 1, "10.0.0.4")), "{:?}", combined.remarks);
    assert!(combined.remarks.contains(&left_out("file /b", 1, "10.0.0.5")), "{:?}", combined.remarks);
}

/// What one source says.
pub(super) struct Heard(watch::Receiver<Reports>);

impl Heard {
    /// Beside it, where the source says it.
    pub(super) fn channel() -> (watch::Sender<Reports>, Self) {
        let (tx, rx) = watch::channel(Reports::new());
        (tx, Self(rx))
    }

    pub(super) fn now(&self) -> Report {
        self.0.borrow().values().next().cloned().unwrap()
    }

    pub(super) async fn until(&mut self, holds: impl Fn(&Report) -> bool) -> Report {
        let found = timeout(SOON, self.0.wait_for(|reports| reports.values().any(&holds))).await;
        let reports = found.map(|reports| reports.unwrap().clone()).map_err(|_late| self.0.borrow().clone());
        reports.unwrap_or_else(|last| panic!("waited in vain, had {last:?}")).into_values().next().unwrap()
    }

    pub(super) async fn fails(&mut self, with: &str) -> Report {
        self.until(|report| report.error.as_ref().is_some_and(|error| error.contains(with))).await
    }
}

/// Whether this is said, and nothing is wrong.
pub(super) fn says(expected: Snapshot) -> impl Fn(&Report) -> bool {
    move |report| report.snapshot.as_deref() == Some(&expected) && report.error.is_none()
}

/// Sources that follow one file, and where their reports come out.
struct Followed {
    directory: TempDir,
    sources: Sources,
    reports: Heard,
}

impl Followed {
    fn set(directory: TempDir) -> Self {
        let (tx, reports) = Heard::channel();
        let mut sources = Sources::new(tx, &directory.path().join("state"));
        sources.update([Self::source(directory.path())].iter());
        Self { directory, sources, reports }
    }

    fn source(directory: &Path) -> DiscoverySource {
        DiscoverySource::File(FileSource { path: directory.join("web.toml") })
    }

    /// Puts another file in the place of the one before.
    fn replace(&self, text: &str) {
        let new = NamedTempFile::new_in(self.directory.path()).unwrap();
        std::fs::write(new.path(), text).unwrap();
        new.persist(self.directory.path().join("web.toml")).unwrap();
    }
}

fn list(lasts: &[u8]) -> String {
    lasts.iter().map(|last| format!("[[backend]]\naddress = \"10.0.0.{last}\"\n")).collect()
}

fn has(lasts: &[u8]) -> impl Fn(&Report) -> bool {
    let expected: Snapshot = lasts.iter().map(|last| at(*last)).collect();
    move |report| report.snapshot.as_deref() == Some(&expected)
}

#[tokio::test]
async fn a_file_is_followed_and_its_last_good_content_stays() {
    let mut followed = Followed::set(tempdir().unwrap());
    let report = followed.reports.until(|report| report.error.is_some()).await;
    assert_eq!((report.state(), report.is_settled()), ("silent", false));
    followed.replace(&list(&[1, 2]));
    let report = followed.reports.until(has(&[1, 2])).await;
    assert_eq!((report.state(), report.error.as_deref(), report.errors), ("live", None, 1));
    // In its place, not at once, and with an error in between.
    let path = followed.directory.path().join("web.toml");
    std::fs::write(&path, "[[backend]]\naddress = \"10.0.0.300\"\n").unwrap();
    let report = followed.reports.until(|report| report.error.is_some()).await;
    let error = report.error.clone().unwrap();
    assert!(error.contains("web.toml:2:11: invalid"), "{error}");
    assert!(has(&[1, 2])(&report) && report.state() == "stale" && report.is_settled());
    std::fs::write(&path, list(&[3])).unwrap();
    followed.reports.until(|report| has(&[3])(report) && report.error.is_none()).await;
    std::fs::remove_file(&path).unwrap();
    let report = followed.reports.until(|report| report.error.is_some()).await;
    assert!(has(&[3])(&report), "a file that is gone is no empty list");
    followed.replace("");
    followed.reports.until(|report| has(&[])(report) && report.error.is_none()).await;
}

/// What is stored, of each source; files that are still being written are none.
fn stored(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory.join("state/discovery")).into_iter().flatten();
    let files = entries.map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.map(|file| std::fs::read_to_string(file).unwrap()).collect()
}

async fn eventually(holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, held).await.unwrap();
}

#[tokio::test]
async fn what_was_said_last_outlives_the_agent_and_has_an_age() {
    let mut followed = Followed::set(tempdir().unwrap());
    followed.replace(&list(&[1, 2]));
    followed.reports.until(has(&[1, 2])).await;
    // It is stored after it is published.
    eventually(|| !stored(followed.directory.path()).is_empty()).await;
    let Followed { directory, sources, .. } = followed;
    drop(sources);
    std::fs::remove_file(directory.path().join("web.toml")).unwrap();

    let mut followed = Followed::set(directory);
    let report = followed.reports.now();
    assert!(has(&[1, 2])(&report) && report.state() == "stale" && !report.has_spoken);
    assert!(report.age(SystemTime::now()).is_some_and(|age| age < Duration::from_secs(60)));
    let report = followed.reports.until(|report| report.error.is_some()).await;
    assert!(has(&[1, 2])(&report) && report.is_settled());
    followed.replace(&list(&[2]));
    followed.reports.until(|report| has(&[2])(report) && report.has_spoken).await;
    let is_newest = |text: &String| text.contains("10.0.0.2\"") && !text.contains("10.0.0.1\"");
    eventually(|| stored(followed.directory.path()).iter().all(is_newest)).await;
    // Nobody asks it any more: it is forgotten.
    followed.sources.update([].iter());
    assert!(followed.reports.0.borrow().is_empty());
    assert_eq!(stored(followed.directory.path()), [""; 0]);
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_said() {
    let directory = tempdir().unwrap();
    std::fs::write(directory.path().join("state"), "a file").unwrap();
    let mut followed = Followed::set(directory);
    followed.replace(&list(&[1]));
    followed.reports.until(has(&[1])).await;
    eventually(|| followed.reports.now().unstored.is_some_and(|error| error.contains("state"))).await;
}
