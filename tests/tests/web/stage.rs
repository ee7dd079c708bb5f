//! A balanced service with a web page, and a browser that looks at it.

use mesh_tests::scene::{Plot, Scene, Way};
use mesh_userspace::api::types::BackendView;
use tempfile::NamedTempFile;

use super::browser::Browser;

/// Where the page is.
pub(super) const PAGE: &str = "http://127.0.0.1:9148";

/// What orders need.
pub(super) const TOKEN: &str = "5f2c1e0b9a8d7c6b5a4f3e2d1c0b9a8d";

/// All of it; the browser ends before the hosts do.
pub(super) struct Stage {
    pub(super) browser: Browser,
    pub(super) scene: Scene,
    _token: NamedTempFile,
}

impl Stage {
    /// Three backends, and the page in a wide window.
    pub(super) fn set() -> Self {
        Self::with("")
    }

    /// The same with further services.
    pub(super) fn with(services: &str) -> Self {
        let token = NamedTempFile::new().unwrap();
        std::fs::write(token.path(), TOKEN).unwrap();
        let file = format!(
            "[web]\nlisten = \"{}\"\ntoken_file = {:?}\n{services}",
            PAGE.trim_start_matches("http://"),
            token.path()
        );
        let scene = Plot { file, ..Plot::new("192.0.2.10", Way::L2).unwrap() }.set().unwrap();
        let browser = Browser::start(&scene);
        browser.look((1280, 1600), "light");
        browser.open("about:blank");
        // What a browser asks for when it starts is its own.
        browser.asked();
        browser.open(PAGE);
        browser.shows("#connection-text", "Live");
        Self { browser, scene, _token: token }
    }

    pub(super) fn backends(&self) -> Vec<BackendView> {
        self.scene.agent.cli_json(&["backends"]).unwrap()
    }

    /// The address of a backend, which counts from 0.
    pub(super) fn address(&self, number: usize) -> String {
        self.scene.backend(number).unwrap().to_string()
    }

    /// The cells of the row of a backend of `web`; none if it is not shown.
    pub(super) fn row(&self, address: &str) -> Vec<String> {
        let rows: Vec<Vec<String>> = self.browser.check("rowsOf('#backend-table')");
        rows.into_iter().find(|row| row[0] == format!("{address}\nweb")).unwrap_or_default()
    }
}
