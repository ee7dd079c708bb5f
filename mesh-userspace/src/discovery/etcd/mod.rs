//! What is stored in etcd under a prefix, an instance or the definition of a service to a key: read whole, then watched
//! from that revision on, by the JSON gateway of its third API (<https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/>).
//!
//! What is watched is read whole again after every cut, when history was compacted away, and on silence: no change is
//! missed, whatever happened meanwhile.

mod message;

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::header::{AUTHORIZATION, HeaderValue};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::Followed;
use super::heard::Heard;
use super::http::{Answer, Client, HttpError, Question};
use super::list;
use super::secret::{self, Secret};
use super::voice::Voice;
use super::{Snapshot, SourceError, Word};
use crate::config::{Definitions, EtcdSource, Login};
use message::{Bytes64, Event, KeyValue, Range, Token, Watched};

/// Everything is read again at least so often.
const SILENCE: Duration = Duration::from_secs(30);

/// From a change until it is said: others may follow at once.
const SETTLE: Duration = Duration::from_millis(50);

/// Changes are said at least so often, however many follow.
const MOST_SETTLING: Duration = Duration::from_millis(500);

/// What is stored, by key.
pub(super) type Known = BTreeMap<Vec<u8>, Vec<u8>>;

/// Says what is stored under the prefix, and again when it changes: as it is to be read, and what is left out.
pub(super) async fn follow<W: Word>(
    source: &EtcdSource,
    voice: &mut Voice<W>,
    read: impl Fn(&Known) -> (W, Option<String>) + Send + Sync,
) -> Followed {
    let mut etcd = Etcd { source, client: Client::new(&source.access), token: None };
    loop {
        let (mut known, revision) = etcd.range().await?;
        let mut reader = Reader { voice, read: &read };
        reader.say(&known).await;
        etcd.watch(&mut known, revision + 1, &mut reader).await?;
    }
}

/// The instances that are stored.
pub(super) fn instances(known: &Known) -> (Snapshot, Option<String>) {
    let mut heard = Heard::default();
    for (key, value) in known {
        heard.add(&String::from_utf8_lossy(key), list::entry(value));
    }
    heard.said()
}

/// The definitions that are stored, by what stands behind the prefix. What is no text is marked by characters that no
/// definition has.
pub(super) fn definitions(known: &Known, prefix: &str) -> Definitions {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let name = |key: &[u8]| text(key.strip_prefix(prefix.as_bytes()).unwrap_or(key));
    known.iter().map(|(key, value)| (name(key), text(value))).collect()
}

fn apply(known: &mut Known, event: Event) {
    match event {
        Event::Put(KeyValue { key, value }) => drop(known.insert(key.0, value.0)),
        Event::Delete(key) => drop(known.remove(&key.0)),
    }
}

/// Says what is stored.
struct Reader<'a, W, R> {
    voice: &'a mut Voice<W>,
    read: &'a R,
}

impl<W: Word, R: Fn(&Known) -> (W, Option<String>) + Send + Sync> Reader<'_, W, R> {
    async fn say(&mut self, known: &Known) {
        let (word, left_out) = (self.read)(known);
        self.voice.say_but(word, left_out).await;
    }
}

/// What a line of a watch is.
enum Line {
    /// Something changed, or nothing.
    Events(Vec<Event>),
    /// What happened since the revision was forgotten.
    Compacted,
}

/// A conversation with etcd.
struct Etcd<'a> {
    source: &'a EtcdSource,
    client: Client<'a>,
    /// As the header has it, while it is not refused.
    token: Option<HeaderValue>,
}

impl Etcd<'_> {
    /// Everything under the prefix, and its revision.
    async fn range(&mut self) -> Result<(Known, i64), SourceError> {
        let [key, range_end] = span(self.source.prefix.as_bytes());
        let answer = self.ask("/v3/kv/range", &json!({ "key": key, "range_end": range_end })).await?;
        let Range { header, kvs } = answer.json().await?;
        let known = kvs.into_iter().map(|KeyValue { key, value }| (key.0, value.0)).collect();
        Ok((known, header.revision))
    }

    /// Says what changes from a revision on, until everything is to be read again.
    async fn watch<W: Word, R: Fn(&Known) -> (W, Option<String>) + Send + Sync>(
        &mut self,
        known: &mut Known,
        from: i64,
        reader: &mut Reader<'_, W, R>,
    ) -> Result<(), SourceError> {
        let [key, range_end] = span(self.source.prefix.as_bytes());
        let wanted = json!({ "key": key, "range_end": range_end, "start_revision": from.to_string() });
        let mut stream = self.ask("/v3/watch", &json!({ "create_request": wanted })).await?;
        loop {
            let Ok(line) = timeout(SILENCE, stream.line()).await else { return Ok(()) };
            let Line::Events(mut events) = read(&stream, &line?)? else { return Ok(()) };
            let begin = Instant::now();
            let until = || (Instant::now() + SETTLE).min(begin + MOST_SETTLING);
            while !events.is_empty() {
                events.drain(..).for_each(|event| apply(known, event));
                if begin.elapsed() >= MOST_SETTLING {
                    break;
                }
                let Ok(line) = timeout_at(until(), stream.line()).await else { break };
                let Line::Events(more) = read(&stream, &line?)? else { return Ok(()) };
                events = more;
            }
            reader.say(known).await;
        }
    }

    /// Asks as the user, if there is one. A token lives for minutes only, and no longer than the member that gave it.
    async fn ask(&mut self, path: &str, body: &Value) -> Result<Answer, SourceError> {
        let question = Question::post(path, body);
        let Some(login) = &self.source.login else { return Ok(self.client.ask(&question).await?) };
        if let Some(token) = self.token.clone() {
            match self.client.ask(&question.clone().header(AUTHORIZATION, token)).await {
                Err(error) if refuses_token(&error) => {}
                asked => return Ok(asked?),
            }
        }
        let token = self.authenticate(login).await?;
        self.token = Some(token.clone());
        Ok(self.client.ask(&question.header(AUTHORIZATION, token)).await?)
    }

    async fn authenticate(&self, login: &Login) -> Result<HeaderValue, SourceError> {
        let password = Secret::read(&login.password_file).await?;
        let body = json!({ "name": login.user, "password": password.reveal() });
        let answer = self.client.ask(&Question::post("/v3/auth/authenticate", &body)).await?;
        let Token { token } = answer.json().await?;
        Ok(secret::header(&token))
    }
}

/// A line of a watch.
fn read(stream: &Answer, line: &[u8]) -> Result<Line, SourceError> {
    let ended = |reason: String| SourceError::Ended { request: stream.request().to_owned(), reason };
    match serde_json::from_slice(line).map_err(|error| stream.nonsense(&error))? {
        Watched::Error { message } => Err(ended(message)),
        Watched::Result { compact_revision, .. } if compact_revision > 0 => Ok(Line::Compacted),
        Watched::Result { canceled: true, cancel_reason, .. } if cancel_reason.is_empty() => {
            Err(ended("no reason is given".to_owned()))
        }
        Watched::Result { canceled: true, cancel_reason, .. } => Err(ended(cancel_reason)),
        Watched::Result { events, .. } => Ok(Line::Events(events)),
    }
}

/// Whether another token might help (`ErrInvalidAuthToken`, `ErrAuthOldRevision` of etcd's rpctypes).
fn refuses_token(error: &HttpError) -> bool {
    match error {
        HttpError::Refused { status, said, .. } => {
            status.as_u16() == 401 || said.contains("auth token") || said.contains("auth store is old")
        }
        HttpError::Unreachable { .. }
        | HttpError::Tls { .. }
        | HttpError::Late { .. }
        | HttpError::Broken { .. }
        | HttpError::Nonsense { .. } => false,
    }
}

/// The first key that begins with a prefix, and the first one behind those. etcd takes 0 for the end of all keys.
fn span(prefix: &[u8]) -> [Bytes64; 2] {
    let mut end = prefix.to_vec();
    while end.pop_if(|last| *last == u8::MAX).is_some() {}
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    [Bytes64(prefix.to_vec()), Bytes64(end)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_its_last_byte_rises() {
        let end = |prefix: &[u8]| {
            let [begin, end] = span(prefix);
            assert_eq!(begin.0, prefix);
            end.0
        };
        assert_eq!(end(b"/web/"), b"/web0");
        assert_eq!(end(b"a\xff\xff"), b"b");
        assert_eq!(end(b"\xff"), b"\0");
    }

    #[test]
    fn only_refused_tokens_are_renewed() {
        let refused = |status: u16, said: &str| HttpError::Refused {
            request: String::new(),
            status: hyper::StatusCode::from_u16(status).unwrap(),
            said: said.to_owned(),
        };
        assert!(refuses_token(&refused(401, "")));
        assert!(refuses_token(&refused(400, "etcdserver: revision of auth store is old")));
        assert!(!refuses_token(&refused(403, "etcdserver: permission denied")));
        assert!(!refuses_token(&refused(
            400,
            "etcdserver: authentication failed, invalid user ID or password"
        )));
    }
}
