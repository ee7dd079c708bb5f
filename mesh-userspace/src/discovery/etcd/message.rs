//! Messages of etcd's JSON gateway: bytes are base64 (RFC 4648 § 4), numbers of 64 bits are text, and what is 0, false
//! or empty is left away (the JSON mapping of proto3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes64(pub(super) Vec<u8>);

/// The answer to `/v3/kv/range`.
#[derive(Debug, Deserialize)]
pub(super) struct Range {
    pub(super) header: Header,
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Header {
    #[serde(deserialize_with = "number")]
    pub(super) revision: i64,
}

/// What is stored.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct KeyValue {
    pub(super) key: Bytes64,
    pub(super) value: Bytes64,
}

/// The answer to `/v3/auth/authenticate`.
#[derive(Deserialize)]
pub(super) struct Token {
    pub(super) token: String,
}

/// A line of the answer to `/v3/watch`.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Watched {
    Result {
        #[serde(default)]
        events: Vec<Event>,
        #[serde(default)]
        canceled: bool,
        #[serde(default)]
        cancel_reason: String,
        #[serde(default, deserialize_with = "number")]
        compact_revision: i64,
    },
    Error {
        message: String,
    },
}

/// A change.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Change")]
pub(super) enum Event {
    Put(KeyValue),
    Delete(Bytes64),
}

/// A change as it is written.
#[derive(Debug, Deserialize)]
struct Change {
    /// `PUT` is the one that is left away.
    #[serde(default, rename = "type")]
    kind: Option<String>,
    kv: KeyValue,
}

impl TryFrom<Change> for Event {
    type Error = String;

    fn try_from(Change { kind, kv }: Change) -> Result<Self, String> {
        match kind.as_deref() {
            None | Some("PUT") => Ok(Self::Put(kv)),
            Some("DELETE") => Ok(Self::Delete(kv.key)),
            Some(other) => Err(format!("unknown kind of event {other:?}")),
        }
    }
}

impl Serialize for Bytes64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map(Self).map_err(de::Error::custom)
    }
}

/// A number of 64 bits, which is text.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Watched, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    fn events(text: &str) -> Vec<Event> {
        match read(text).unwrap() {
            Watched::Result { events, canceled: false, compact_revision: 0, .. } => events,
            other @ (Watched::Result { .. } | Watched::Error { .. }) => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_of_a_watch_are_read() {
        let created = "{\"result\":{\"header\":{\"revision\":\"5\",\"raft_term\":\"2\"},\"created\":true}}";
        assert_eq!(events(created), []);
        let changed = "{\"result\":{\"header\":{\"revision\":\"7\"},\"events\":[{\"kv\":{\"key\":\"L2E=\",\
                       \"create_revision\":\"6\",\"mod_revision\":\"6\",\"version\":\"1\",\"value\":\"e30=\"}},\
                       {\"type\":\"DELETE\",\"kv\":{\"key\":\"L2E=\",\"mod_revision\":\"7\"}}]}}";
        let key = || Bytes64(b"/a".to_vec());
        let put = Event::Put(KeyValue { key: key(), value: Bytes64(b"{}".to_vec()) });
        assert_eq!(events(changed), [put, Event::Delete(key())]);
        let compacted = "{\"result\":{\"header\":{},\"canceled\":true,\"compact_revision\":\"9\"}}";
        assert!(matches!(read(compacted), Ok(Watched::Result { canceled: true, compact_revision: 9, .. })));
        let error = "{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"gone\"}}";
        assert_eq!(read(error), Ok(Watched::Error { message: "gone".into() }));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for (text, expected) in [
            ("{}", "expected value"),
            ("{\"result\":{\"events\":[{\"kv\":{\"key\":\"?\"}}]}}", "Invalid symbol"),
            ("{\"result\":{\"events\":[{\"type\":\"MOVE\",\"kv\":{}}]}}", "unknown kind of event \"MOVE\""),
            ("{\"result\":{\"compact_revision\":\"x\"}}", "invalid digit"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
