//! Lists of backends as files have them: TOML or JSON, one shape.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, de};

use super::{Instance, Snapshot};
use crate::config::{Standing, is_host};

/// A list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    #[serde(default)]
    backend: Vec<Entry>,
}

/// An entry of a list.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(deserialize_with = "host")]
    address: IpAddr,
    port: Option<u16>,
    weight: Option<u16>,
    #[serde(default)]
    priority: u16,
    #[serde(default)]
    state: Standing,
}

/// What is wrong with a list, and where: line and column from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) message: String,
}

/// Reads a list in TOML.
pub(super) fn toml(text: &str) -> Result<Snapshot, Wrong> {
    let list: List = toml::from_str(text).map_err(|error| {
        let before = text.get(..error.span().unwrap_or_default().start).unwrap_or_default();
        let line = before.rsplit('\n').next().unwrap_or_default();
        Wrong {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            message: error.message().to_owned(),
        }
    })?;
    Ok(snapshot(list))
}

/// Reads a list in JSON.
pub(super) fn json(text: &str) -> Result<Snapshot, Wrong> {
    let list: List = serde_json::from_str(text).map_err(|error| {
        let shown = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = shown.strip_suffix(&place).unwrap_or(&shown).to_owned();
        Wrong { line: error.line(), column: error.column(), message }
    })?;
    Ok(snapshot(list))
}

/// Reads an entry alone, in JSON.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn entry(text: &[u8]) -> Result<Instance, String> {
    serde_json::from_slice(text).map(instance).map_err(|error| error.to_string())
}

fn snapshot(list: List) -> Snapshot {
    list.backend.into_iter().map(instance).collect()
}

fn instance(entry: Entry) -> Instance {
    let Entry { address, port, weight, priority, state } = entry;
    Instance { address, port, weight, priority, standing: state }
}

fn host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    let address = IpAddr::deserialize(deserializer)?;
    if is_host(address) {
        Ok(address)
    } else {
        Err(de::Error::custom(format!(
            "{address} is not the address of one host that packets can be sent to"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOML: &str = "[[backend]]\naddress = \"10.0.0.2\"\n\n[[backend]]\naddress = \"2001:db8::1\"\nport = 80\n\
                        weight = 5\npriority = 1\nstate = \"draining\"\n";
    const JSON: &str = "{\"backend\": [\n{\"address\": \"2001:db8::1\", \"port\": 80, \"weight\": 5, \
                        \"priority\": 1, \"state\": \"draining\"},\n{\"address\": \"10.0.0.2\"}]}";

    #[test]
    fn both_languages_say_the_same() {
        let second = Instance {
            address: "2001:db8::1".parse().unwrap(),
            port: Some(80),
            weight: Some(5),
            priority: 1,
            standing: Standing::Draining,
        };
        let expected = Snapshot::from_iter([Instance::new([10, 0, 0, 2].into(), None), second]);
        assert_eq!(toml(TOML).unwrap(), expected);
        assert_eq!(json(JSON).unwrap(), expected);
        assert_eq!((toml("").unwrap(), json("{}").unwrap()), (Snapshot::default(), Snapshot::default()));
    }

    fn place(wrong: Result<Snapshot, Wrong>) -> (usize, usize, String) {
        let Wrong { line, column, message } = wrong.unwrap_err();
        (line, column, message)
    }

    #[test]
    fn what_is_wrong_has_its_place() {
        let cases = [
            ("address = \"10.0.0.2\"", "address = \"10.0.0\"", 2, 11, "invalid"),
            ("weight = 5", "weight = 65536", 7, 10, "65536"),
            ("weight = 5", "wieght = 5", 7, 1, "unknown field `wieght`"),
            ("\"draining\"", "\"gone\"", 9, 9, "unknown variant `gone`"),
            ("\"10.0.0.2\"", "\"224.0.0.1\"", 2, 11, "not the address of one host"),
            ("port = 80", "port = ", 6, 8, "value"),
        ];
        for (from, to, line, column, message) in cases {
            let (at, character, said) = place(toml(&TOML.replacen(from, to, 1)));
            assert_eq!((at, character), (line, column), "{to}: {said}");
            assert!(said.contains(message), "{to}: {said}");
        }
        assert_eq!(place(toml("[[backend]]\n")).2, "missing field `address`");
    }

    #[test]
    fn what_is_wrong_in_json_has_its_place() {
        let (line, column, message) = place(json(&JSON.replacen("\"10.0.0.2\"", "\"10.0.0.256\"", 1)));
        assert_eq!((line, column), (3, 24), "{message}");
        assert!(message.starts_with("invalid") && !message.contains("column"), "{message}");
        assert_eq!(place(json("{\"backend\": [")).0, 1);
        assert!(place(json(&JSON.replacen("weight", "wieght", 1))).2.contains("unknown field"));
    }
}
