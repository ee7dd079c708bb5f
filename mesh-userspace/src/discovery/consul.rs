//! A service of Consul, followed by blocking queries of its health
//! (<https://developer.hashicorp.com/consul/api-docs/features/blocking>).

use std::time::Duration;

use hyper::header::HeaderName;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::error::Followed;
use super::heard::{Heard, address};
use super::http::{Client, Question, encoded};
use super::secret::Secret;
use super::voice::Voice;
use super::{Instance, SourceError};
use crate::config::{ConsulSource, Standing};

/// From one question to the next, however often something changes.
const PAUSE: Duration = Duration::from_millis(200);

/// An agent adds chance to a wait, a sixteenth at most, and what it takes is no matter of the registry.
const CHANCE: u32 = 16;

/// Weights of Consul are 1 where nobody says otherwise, ours [`Backend::WEIGHT`](crate::config::Backend::WEIGHT): the
/// same share, and one that can begin small.
const WEIGHT_UNIT: u16 = crate::config::Backend::WEIGHT;

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: &str = "x-consul-index";

/// Says, from Consul 1.11 on, that the token may not see everything: nobody is not told from somebody who is hidden
/// (<https://developer.hashicorp.com/consul/api-docs/api-structure#results-filtered-by-acls>).
const FILTERED: &str = "x-consul-results-filtered-by-acls";

/// Says what Consul knows of the service, and again when it changes or the wait is over.
pub(super) async fn follow(source: &ConsulSource, voice: &mut Voice) -> Followed {
    let client = Client::new(&source.access);
    let mut index = None;
    loop {
        let next = Instant::now() + PAUSE;
        let (entries, found) = ask(source, &client, index).await?;
        index = following(index, found);
        let (snapshot, left_out) = heard(&entries).said();
        voice.say_but(snapshot, left_out).await;
        sleep_until(next).await;
    }
}

/// The entries that differ from those of an index, or all, and their index.
async fn ask(
    source: &ConsulSource,
    client: &Client<'_>,
    index: Option<u64>,
) -> Result<(Vec<Entry>, u64), SourceError> {
    let answer = client.ask(&question(source, index).await?).await?;
    if answer.header(FILTERED) == Some("true") {
        return Err(SourceError::Filtered { request: answer.request().to_owned() });
    }
    let found = answer.header(INDEX).and_then(|index| index.parse().ok());
    let found = found.ok_or_else(|| answer.nonsense(&"it has no index, so that it is not from Consul"))?;
    Ok((answer.json().await?, found))
}

async fn question(source: &ConsulSource, index: Option<u64>) -> Result<Question, SourceError> {
    let mut question = Question::get(format!("/v1/health/service/{}", encoded(&source.service)));
    if let Some(datacenter) = &source.datacenter {
        question = question.query("dc", datacenter);
    }
    for tag in &source.tags {
        question = question.query("tag", tag);
    }
    if let Some(index) = index {
        let wait = format!("{}ms", source.wait.as_millis());
        question = question.query("index", &index.to_string()).query("wait", &wait);
        question = question.patiently(source.wait + source.wait / CHANCE);
    }
    if let Some(file) = &source.token_file {
        question = question.header(TOKEN, Secret::read(file).await?.header());
    }
    Ok(question)
}

/// What to wait for a change from. An index that falls is of another life of Consul: everything is asked for at once. None
/// is 0, by which nothing would be waited for.
const fn following(before: Option<u64>, found: u64) -> Option<u64> {
    match before {
        Some(before) if found < before => None,
        Some(_) | None if found == 0 => Some(1),
        Some(_) | None => Some(found),
    }
}

/// An instance as `/v1/health/service` has it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    /// Empty: the node's.
    #[serde(default)]
    address: String,
    /// 0: none.
    #[serde(default)]
    port: i64,
    #[serde(default)]
    weights: Weights,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u16,
    warning: u16,
}

impl Default for Weights {
    fn default() -> Self {
        Self { passing: 1, warning: 1 }
    }
}

#[derive(Debug, Deserialize)]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    #[serde(rename = "Status")]
    status: String,
}

/// What all checks together say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

impl Check {
    /// Maintenance is a check of a certain name. What is neither passing nor a warning is as bad as can be.
    fn state(&self) -> State {
        let is_maintenance = self.id == "_node_maintenance" || self.id.starts_with("_service_maintenance:");
        match self.status.as_str() {
            _ if is_maintenance => State::Maintenance,
            "passing" => State::Passing,
            "warning" => State::Warning,
            _ => State::Critical,
        }
    }
}

impl Entry {
    fn state(&self) -> State {
        self.checks.iter().flatten().map(Check::state).max().unwrap_or(State::Passing)
    }

    /// Its weight as Consul has it, which goes by its state.
    fn weight(&self) -> u16 {
        let Weights { passing, warning } = self.service.weights;
        if self.state() == State::Warning { warning } else { passing }
    }

    fn instance(&self, unit: u16) -> Result<Instance, String> {
        let Service { address: own, port, .. } = &self.service;
        let written = if own.is_empty() { &self.node.address } else { own };
        let port = u16::try_from(*port).map_err(|_too_large| format!("{port} is not a port"))?;
        Ok(Instance {
            address: address(written)?,
            port: Some(port).filter(|port| *port != 0),
            weight: Some(self.weight().saturating_mul(unit)),
            priority: 0,
            standing: match self.state() {
                State::Passing | State::Warning => Standing::Ready,
                State::Critical => Standing::Failing,
                State::Maintenance => Standing::Draining,
            },
        })
    }
}

fn heard(entries: &[Entry]) -> Heard {
    let mut heard = Heard::default();
    let unit = unit(entries);
    entries.iter().for_each(|entry| heard.add(&entry.service.id, entry.instance(unit)));
    heard
}

/// What a weight of 1 is: less than usual only if the heaviest could not be told from others.
fn unit(entries: &[Entry]) -> u16 {
    let weights = entries.iter().map(|entry| entry.service.weights);
    let heaviest = weights.map(|weights| weights.passing.max(weights.warning)).max().unwrap_or(1);
    WEIGHT_UNIT.min(u16::MAX / heaviest.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(text: &str) -> Entry {
        serde_json::from_str(text).unwrap()
    }

    /// An instance with these checks and weights.
    fn checked(checks: &[(&str, &str)], weights: (u16, u16)) -> Entry {
        let check = |(id, status): &(&str, &str)| format!("{{\"CheckID\":\"{id}\",\"Status\":\"{status}\"}}");
        let checks: Vec<_> = checks.iter().map(check).collect();
        entry(&format!(
            "{{\"Node\":{{\"Address\":\"10.0.0.9\"}},\"Service\":{{\"ID\":\"w\",\"Address\":\"\",\"Port\":0,\
             \"Weights\":{{\"Passing\":{},\"Warning\":{}}}}},\"Checks\":[{}]}}",
            weights.0,
            weights.1,
            checks.join(",")
        ))
    }

    #[test]
    fn the_worst_check_decides() {
        let cases = [
            (vec![], Standing::Ready, 300),
            (vec![("serfHealth", "passing"), ("a", "passing")], Standing::Ready, 300),
            (vec![("a", "passing"), ("b", "warning")], Standing::Ready, 200),
            (vec![("a", "warning"), ("b", "critical")], Standing::Failing, 300),
            (vec![("a", "what is this")], Standing::Failing, 300),
            (vec![("_service_maintenance:w", "critical"), ("a", "critical")], Standing::Draining, 300),
            (vec![("_node_maintenance", "critical")], Standing::Draining, 300),
        ];
        for (checks, standing, weight) in cases {
            let instance = checked(&checks, (3, 2)).instance(WEIGHT_UNIT).unwrap();
            assert_eq!((instance.standing, instance.weight), (standing, Some(weight)), "{checks:?}");
            assert_eq!((instance.address, instance.port), ([10, 0, 0, 9].into(), None));
        }
    }

    #[test]
    fn shares_stay_what_they_are_when_one_is_heavy() {
        let light = [checked(&[], (1, 1)), checked(&[], (655, 1))];
        assert_eq!(unit(&light), 100);
        let heavy = [checked(&[], (2, 1)), checked(&[], (1, 32_000))];
        assert_eq!(unit(&heavy), 2);
        assert_eq!(heavy[0].instance(unit(&heavy)).unwrap().weight, Some(4));
        assert_eq!(unit(&[checked(&[], (u16::MAX, 0))]), 1);
        assert_eq!(unit(&[]), 100);
    }

    #[test]
    fn an_address_of_the_service_comes_before_the_node_s() {
        let with = |address: &str| {
            let text = "{\"Node\":{\"Address\":\"10.0.0.9\"},\"Service\":{\"ID\":\"w\",\"Address\":\"@\",\"Port\":80}}";
            entry(&text.replace('@', address)).instance(100)
        };
        let instance = with("2001:db8::1").unwrap();
        assert_eq!((instance.address, instance.port), ("2001:db8::1".parse().unwrap(), Some(80)));
        assert_eq!(with("web.example").unwrap_err(), "\"web.example\" is not an IP address");
        let large =
            "{\"Node\":{\"Address\":\"10.0.0.9\"},\"Service\":{\"ID\":\"w\",\"Port\":65536},\"Checks\":null}";
        assert_eq!(entry(large).instance(100).unwrap_err(), "65536 is not a port");
        assert!(with("0.0.0.0").unwrap_err().contains("not the address of one host"));
    }

    #[test]
    fn an_index_is_at_least_one_and_does_not_fall() {
        assert_eq!(following(None, 7), Some(7));
        assert_eq!(following(Some(7), 7), Some(7));
        assert_eq!(following(Some(7), 9), Some(9));
        assert_eq!(following(Some(7), 6), None);
        assert_eq!(following(None, 0), Some(1));
        assert_eq!(following(Some(7), 0), None);
    }
}
