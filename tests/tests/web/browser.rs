//! A real Chromium in the balancer, where the page is served, driven by WebDriver.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_tests::scene::Scene;
use mesh_tests::wait::until;
use mesh_tests::{HostRuntime, LoggedChild, preflight};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use thirtyfour::common::capabilities::desiredcapabilities::CapabilitiesHelper as _;
use thirtyfour::error::WebDriverResult;
use thirtyfour::{By, ChromiumLikeCapabilities as _, DesiredCapabilities, Key, WebDriver};

/// Where the driver listens; the balancer's loopback is its own.
const DRIVER: &str = "127.0.0.1:9515";

/// For the driver and for what the page shall show. The first start of a Chromium takes most of it.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// What the checks of a page are made of.
const CHECKS: &str = include_str!("checks.js");

/// A browser with one page.
pub(super) struct Browser {
    web: Option<WebDriver>,
    runtime: HostRuntime,
    _driver: LoggedChild,
}

impl Browser {
    /// Starts one in the balancer of a scene.
    pub(super) fn start(scene: &Scene) -> Self {
        preflight::present("chromium", "chromium").unwrap();
        preflight::present("chromedriver", "chromium-driver").unwrap();
        let directory = scene.topology.directory().join("browser");
        std::fs::create_dir_all(&directory).unwrap();
        let mut command = scene.topology.balancer().command("chromedriver");
        command.arg(format!("--port={}", DRIVER.rsplit(':').next().unwrap())).env("HOME", &directory);
        let driver = LoggedChild::spawn("chromedriver", command, directory.join("log")).unwrap();
        let mut capabilities = DesiredCapabilities::chrome();
        let profile = format!("--user-data-dir={}", directory.join("profile").display());
        // Root has no sandbox; nothing is fetched but the page.
        let arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
        ];
        let quiet =
            ["--disable-background-networking", "--no-first-run", "--disable-component-update", &profile];
        for argument in arguments.into_iter().chain(quiet) {
            capabilities.add_arg(argument).unwrap();
        }
        capabilities.set("goog:loggingPrefs", json!({ "browser": "ALL", "performance": "ALL" })).unwrap();
        let runtime = scene.topology.balancer().runtime(1).unwrap();
        let connect = || {
            let wanted = WebDriver::new(format!("http://{DRIVER}"), capabilities.clone());
            Ok(runtime.block_on(wanted)??)
        };
        let web = until("a browser starts", PATIENCE, connect).unwrap();
        Self { web: Some(web), runtime, _driver: driver }
    }

    fn run<T: Send + 'static, F>(&self, work: impl FnOnce(WebDriver) -> F) -> T
    where
        F: Future<Output = WebDriverResult<T>> + Send + 'static,
    {
        self.runtime.block_on(work(self.web.clone().unwrap())).unwrap().unwrap()
    }

    /// Opens a page.
    pub(super) fn open(&self, url: &str) {
        let url = url.to_owned();
        self.run(async move |web| web.goto(url).await);
    }

    /// What a function of [`CHECKS`] says.
    pub(super) fn check<T: DeserializeOwned>(&self, call: &str) -> T {
        let script = format!("{CHECKS}\nreturn {call};");
        let value = self.run(async move |web| Ok(web.execute(script, Vec::new()).await?.json().clone()));
        serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{call}: {error}: {value}"))
    }

    /// The text of what a selector finds first; empty where there is nothing.
    pub(super) fn text(&self, selector: &str) -> String {
        self.check(&format!("textOf({})", json!(selector)))
    }

    /// Waits until what a selector finds has such a text.
    pub(super) fn shows(&self, selector: &str, words: &str) {
        let seen = until(&format!("{selector} shows {words:?}"), PATIENCE, || {
            let text = self.text(selector);
            anyhow::ensure!(text.contains(words), "it shows {text:?}");
            Ok(())
        });
        seen.unwrap_or_else(|error| panic!("{error:#}; the console: {:?}", self.console()));
    }

    /// Whether something is found.
    pub(super) fn has(&self, selector: &str) -> bool {
        self.check(&format!("document.querySelector({}) !== null", json!(selector)))
    }

    /// Presses keys, wherever the focus is.
    pub(super) fn press(&self, keys: &[Key]) {
        let keys = keys.to_vec();
        self.run(async move |web| {
            let pressed = keys.into_iter().fold(web.action_chain(), |chain, key| chain.send_keys(key));
            pressed.perform().await
        });
    }

    /// Types a text, wherever the focus is.
    pub(super) fn type_text(&self, text: &str) {
        let text = text.to_owned();
        self.run(async move |web| web.action_chain().send_keys(text).perform().await);
    }

    /// Clicks on something.
    pub(super) fn click(&self, selector: &str) {
        let selector = selector.to_owned();
        self.run(async move |web| web.find(By::Css(selector)).await?.click().await);
    }

    /// What the `DevTools` say.
    pub(super) fn tools(&self, method: &'static str, parameters: Value) -> Value {
        self.run(async move |web| web.cdp().send_raw(method, parameters).await)
    }

    /// Makes the window so large, in the colours of a scheme.
    pub(super) fn look(&self, (width, height): (u32, u32), scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.tools("Emulation.setDeviceMetricsOverride", size);
        let feature = |name: &str, value: &str| json!({ "name": name, "value": value });
        // What scrolls smoothly is not where the driver clicks.
        let features = [feature("prefers-color-scheme", scheme), feature("prefers-reduced-motion", "reduce")];
        self.tools("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// What the window shows, as a PNG.
    pub(super) fn picture(&self) -> Vec<u8> {
        let answer = self.tools("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }

    /// What went wrong in the page since the last look.
    pub(super) fn console(&self) -> Vec<String> {
        let entries = self.run(async move |web| web.get_log("browser").await);
        // What is of lower levels is advice about passwords.
        let wrong = entries.into_iter().filter(|entry| entry.level != "DEBUG");
        wrong.map(|entry| format!("{}: {}", entry.level, entry.message)).collect()
    }

    /// Whom the page has sent requests to since the last look: origins.
    pub(super) fn asked(&self) -> BTreeSet<String> {
        let entries = self.run(async move |web| web.get_log("performance").await);
        let messages = entries.iter().map(|entry| serde_json::from_str::<Value>(&entry.message).unwrap());
        let requests = messages.map(|all| all["message"].clone());
        let urls = requests.filter(|message| message["method"] == "Network.requestWillBeSent");
        let origin = |message: Value| {
            let url = message["params"]["request"]["url"].as_str().unwrap().to_owned();
            url.splitn(4, '/').take(3).collect::<Vec<_>>().join("/")
        };
        urls.map(origin).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if let Some(web) = self.web.take() {
            // A browser that has crashed is gone, too.
            drop(self.runtime.block_on(web.quit()));
        }
    }
}
