//! A service whose backends are discovered, under traffic.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use mesh_tests::scene::{PORT, Plot, Scene, Way};
use mesh_tests::wait::eventually;
use mesh_tests::{Client, Download, Downloads, Requests};
use mesh_userspace::api::types::{BackendView, SourceView, Status};

const VIP: &str = "192.0.2.10";

/// Until a source has noticed and its backend has been probed.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Requests without an end, of which none may fail.
pub(crate) struct Steady(Requests);

impl Steady {
    /// Ends them.
    pub(crate) fn finish(self) {
        let (done, failures) = self.0.finish().unwrap();
        assert_eq!(failures, [""; 0], "of {done} requests");
        assert!(done > 50, "{done} requests are no traffic");
    }
}

/// Backends with servers, none of them configured.
pub(crate) struct Stage {
    pub(crate) scene: Scene,
    client: Client,
}

impl Stage {
    /// Sets the stage with so many hosts. The agent knows of none until it is told.
    pub(crate) fn set(hosts: usize) -> Self {
        let mut plot = Plot::new(VIP, Way::L2).unwrap();
        (plot.weights, plot.spare) = (Vec::new(), hosts);
        let scene = plot.set().unwrap();
        let client = scene.client().unwrap();
        Self { scene, client }
    }

    /// Gives the service these sources, and reloads.
    pub(crate) fn discover(&self, sources: &str) {
        self.write(sources);
        self.scene.must(&["reload"]).unwrap();
    }

    /// Writes the configuration with these sources.
    pub(crate) fn write(&self, sources: &str) {
        let config = format!(
            "[metrics]\nlisten = \"127.0.0.1:9440\"\n[[service]]\nname = \"web\"\nvip = \"{VIP}\"\nport = {PORT}\n\
             protocol = \"tcp\"\nforward = \"l2\"\n\
             health = {{ kind = \"http\", path = \"/healthz\", interval = \"100ms\", timeout = \"100ms\" }}\n{sources}"
        );
        self.scene.agent.write_config(&config).unwrap();
    }

    /// The address of a host, counted from 0.
    pub(crate) fn address(&self, number: usize) -> IpAddr {
        self.scene.backend(number).unwrap()
    }

    fn names(&self, numbers: &[usize]) -> BTreeSet<String> {
        numbers.iter().map(|number| self.address(*number).to_string()).collect()
    }

    /// Waits until exactly these hosts answer new connections.
    pub(crate) fn serves(&self, numbers: &[usize]) {
        let (expected, service) = (self.names(numbers), self.scene.service());
        let answering =
            || (0..30).filter_map(|_| self.client.get(service).ok()?.backend).collect::<BTreeSet<_>>();
        let mut last = BTreeSet::new();
        let served = eventually("these hosts answer", SOON, || {
            last = answering();
            last == expected
        });
        assert!(served.is_ok(), "expected {expected:?}, got {last:?}; {:?}", self.status());
    }

    /// Waits until the agent says of each host what is expected of it, by number.
    pub(crate) fn says(&self, expected: &[(usize, &str, u16)]) {
        let shown = |view: &BackendView| (view.address.clone(), view.state.clone(), view.weight);
        let expected: BTreeSet<_> = expected
            .iter()
            .map(|(number, state, weight)| (self.address(*number).to_string(), (*state).to_owned(), *weight))
            .collect();
        let mut last = BTreeSet::new();
        let said = eventually("the agent says so", SOON, || {
            last = self.backends().iter().filter(|view| view.state != "removed").map(shown).collect();
            last == expected
        });
        assert!(said.is_ok(), "expected {expected:?}, got {last:?}; {:?}", self.status());
    }

    pub(crate) fn backends(&self) -> Vec<BackendView> {
        self.scene.agent.cli_json(&["backends", "web"]).unwrap()
    }

    pub(crate) fn status(&self) -> Status {
        self.scene.agent.cli_json(&["status"]).unwrap()
    }

    /// The only source.
    pub(crate) fn source(&self) -> SourceView {
        let [source] = <[SourceView; 1]>::try_from(self.status().discovery).unwrap();
        source
    }

    /// Waits until the source of one backend fails for this reason; what it said last stays.
    pub(crate) fn fails(&self, of: &str) {
        let is_said = || self.source().last_error.is_some_and(|error| error.contains(of));
        let outcome = eventually(of, SOON, is_said);
        assert!(outcome.is_ok(), "{outcome:?}: {:?}", self.source());
        assert_eq!(self.source_becomes("stale").instances, 1);
        self.serves(&[0]);
    }

    /// Waits until the only source is in this state, and says why if it is not live.
    pub(crate) fn source_becomes(&self, state: &str) -> SourceView {
        eventually(&format!("the source is {state}"), SOON, || self.source().state == state).unwrap();
        self.source()
    }

    /// Requests without an end.
    pub(crate) fn traffic(&self) -> Steady {
        Steady(Requests::start(self.scene.client().unwrap(), self.scene.service()))
    }

    /// Connections that stay where they are for so many seconds.
    pub(crate) fn downloads(&self, seconds: u64) -> Downloads {
        let download = Download::lasting(self.scene.service(), Duration::from_secs(seconds));
        let downloads = Downloads::start(&self.client, 30, download);
        downloads.flowing(SOON).unwrap();
        downloads
    }
}

/// Waits for connections that must have lost nothing.
pub(crate) fn finish(downloads: Downloads) {
    let summary = downloads.finish(Duration::from_secs(60)).unwrap();
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}
