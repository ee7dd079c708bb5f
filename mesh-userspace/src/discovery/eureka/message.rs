//! Eureka's JSON, which was XML once: lists of one may be the one, numbers and truths may be text.

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::config::Standing;
use crate::discovery::Instance;
use crate::discovery::heard::address;

/// An answer.
#[derive(Debug, Deserialize)]
pub(super) struct Root {
    pub(super) applications: Applications,
}

#[derive(Debug, Deserialize)]
pub(super) struct Applications {
    /// How many instances there are of each status in the whole registry.
    #[serde(default, rename = "apps__hashcode")]
    pub(super) counts: String,
    #[serde(default)]
    pub(super) application: Several<Application>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Application {
    pub(super) name: String,
    #[serde(default)]
    pub(super) instance: Several<Info>,
}

/// An instance.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Info {
    instance_id: Option<String>,
    #[serde(default)]
    host_name: String,
    #[serde(default)]
    ip_addr: String,
    #[serde(default)]
    pub(super) status: String,
    /// Ports are looked at where they are wanted: what is wrong with one is a matter of its instance alone.
    #[serde(default)]
    port: Value,
    #[serde(default)]
    secure_port: Value,
    #[serde(default)]
    metadata: serde_json::Map<String, Value>,
    #[serde(default, rename = "actionType")]
    pub(super) action: Action,
}

/// What happened to an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Action {
    #[default]
    Added,
    Modified,
    Deleted,
}

#[derive(Debug, Deserialize)]
struct Port {
    #[serde(rename = "$", deserialize_with = "number")]
    number: u16,
    #[serde(rename = "@enabled", deserialize_with = "truth")]
    is_enabled: bool,
}

/// None, one, or a list.
#[derive(Debug)]
pub(super) struct Several<T>(pub(super) Vec<T>);

impl<T> Default for Several<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for Several<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = match Value::deserialize(deserializer)? {
            Value::Null => Ok(Vec::new()),
            Value::Array(many) => many.into_iter().map(serde_json::from_value).collect(),
            one @ (Value::Object(_) | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                serde_json::from_value(one).map(|one| vec![one])
            }
        };
        read.map(Self).map_err(de::Error::custom)
    }
}

impl Info {
    /// Its id within its application; old clients have none but their host's name.
    pub(super) fn id(&self) -> &str {
        self.instance_id.as_deref().unwrap_or(&self.host_name)
    }

    /// What it is here: one instance for each port that is enabled.
    pub(super) fn instances(&self) -> Vec<Result<Instance, String>> {
        match self.ports() {
            Err(error) => vec![Err(error.to_string())],
            Ok(ports) if ports.is_empty() => vec![Err("none of its ports is enabled".to_owned())],
            Ok(ports) => ports.into_iter().map(|port| self.instance(port)).collect(),
        }
    }

    fn ports(&self) -> serde_json::Result<Vec<u16>> {
        let ports = [&self.port, &self.secure_port].into_iter().map(Option::<Port>::deserialize);
        let ports = ports.collect::<serde_json::Result<Vec<_>>>()?;
        let enabled = ports.into_iter().flatten().filter(|it| it.is_enabled && it.number != 0);
        Ok(enabled.map(|it| it.number).collect())
    }

    fn instance(&self, port: u16) -> Result<Instance, String> {
        Ok(Instance {
            address: address(&self.ip_addr)?,
            port: Some(port),
            weight: self.weight(),
            priority: 0,
            standing: self.standing(),
        })
    }

    /// What is no weight says nothing.
    fn weight(&self) -> Option<u16> {
        match self.metadata.get("weight")? {
            Value::Number(number) => u16::try_from(number.as_u64()?).ok(),
            Value::String(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// Who is starting or was taken out of service gets no new flows; who is down, or nobody knows how, fails.
    fn standing(&self) -> Standing {
        match self.status.as_str() {
            "UP" => Standing::Ready,
            "OUT_OF_SERVICE" | "STARTING" => Standing::Draining,
            _ => Standing::Failing,
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let text = value.as_str().and_then(|text| text.parse().ok());
    let number = text.or_else(|| u16::try_from(value.as_u64()?).ok());
    number.ok_or_else(|| de::Error::custom(format!("{value} is not a port")))
}

fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let value = Value::deserialize(deserializer)?;
    match value.as_str().unwrap_or_default() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => value.as_bool().ok_or_else(|| de::Error::custom(format!("{value} is neither true nor false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> Result<Info, serde_json::Error> {
        serde_json::from_str(&format!(
            "{{\"hostName\":\"h\",\"ipAddr\":\"10.0.0.1\",\"status\":\"UP\"{text}}}"
        ))
    }

    /// Port and weight of the instances.
    type Found = Result<(Option<u16>, Option<u16>), String>;

    fn found(text: &str) -> Vec<Found> {
        let instances = info(text).unwrap().instances().into_iter();
        instances.map(|it| it.map(|it| (it.port, it.weight))).collect()
    }

    const PORT: &str = ",\"port\":{\"$\":80,\"@enabled\":\"true\"}";

    #[test]
    fn ports_count_if_they_are_enabled() {
        let on = |port| Ok((Some(port), None));
        assert_eq!(found(PORT), [on(80)]);
        let secure = |enabled: &str| format!(",\"securePort\":{{\"$\":\"443\",\"@enabled\":{enabled}}}");
        assert_eq!(found(&format!("{PORT}{}", secure("true"))), [on(80), on(443)]);
        assert_eq!(found(&format!("{PORT}{}", secure("\"false\""))), [on(80)]);
        let none = [Err("none of its ports is enabled".to_owned())];
        assert_eq!((found(&secure("false")), found("")), (none.to_vec(), none.to_vec()));
        for wrong in
            [",\"port\":{\"$\":65536,\"@enabled\":true}", ",\"port\":{\"$\":80,\"@enabled\":\"yes\"}"]
        {
            let [error] = &found(wrong)[..] else { panic!("{wrong}") };
            let reason = error.clone().unwrap_err();
            assert!(
                reason == "65536 is not a port" || reason == "\"yes\" is neither true nor false",
                "{reason}"
            );
        }
    }

    #[test]
    fn metadata_may_have_a_weight() {
        let weight = |value: &str| {
            let found = found(&format!("{PORT},\"metadata\":{{\"weight\":{value}}}"));
            found[0].clone().unwrap().1
        };
        assert_eq!((weight("\"50\""), weight("7"), weight("\"0\"")), (Some(50), Some(7), Some(0)));
        assert_eq!((weight("\"heavy\""), weight("65536"), weight("null")), (None, None, None));
    }

    #[test]
    fn each_status_has_its_meaning() {
        for (status, standing) in [
            ("UP", Standing::Ready),
            ("STARTING", Standing::Draining),
            ("OUT_OF_SERVICE", Standing::Draining),
            ("DOWN", Standing::Failing),
            ("UNKNOWN", Standing::Failing),
        ] {
            let mut info = info(PORT).unwrap();
            info.status = status.into();
            assert_eq!(info.standing(), standing, "{status}");
        }
    }

    #[test]
    fn a_list_may_be_its_only_entry_and_an_id_the_host() {
        let one = "{\"applications\":{\"application\":{\"name\":\"A\",\"instance\":{\"hostName\":\"h\",\
                   \"ipAddr\":\"x\",\"status\":\"UP\"}}}}";
        let root: Root = serde_json::from_str(one).unwrap();
        let [Application { instance, .. }] = &root.applications.application.0[..] else { panic!("{root:?}") };
        assert_eq!((instance.0[0].id(), root.applications.counts.as_str()), ("h", ""));
        let nobody: Root = serde_json::from_str("{\"applications\":{\"apps__hashcode\":\"\"}}").unwrap();
        assert!(nobody.applications.application.0.is_empty());
    }
}
