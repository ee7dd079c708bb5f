//! What nobody else may see, found in the configuration, and kept out of every text.
//!
//! A configuration is shown as it is read, without comments, and without what may be a secret by the name of its key.
//! What was taken away there is taken out of all other files, too: errors of probes, say, name what they asked for.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;

use toml::{Table, Value};

use crate::config::hidden;

/// What stands in the place of a secret.
const MARK: &str = "***";

/// Shorter ones are taken out of the configuration only: elsewhere, they are parts of words.
const LEAST_BYTES: usize = 4;

/// Bytes of a file with a token, password or key that are read at most.
const MOST_BYTES: u64 = 64 << 10;

/// Keys whose values are secrets, or may be: the seed lets attackers choose slots, datagrams may begin with a password.
const NAMES: [&str; 5] = ["key", "seed", "send", "send_hex", "authorization"];

/// Parts of such names.
const PARTS: [&str; 4] = ["password", "passwd", "secret", "token"];

/// Keys that name a file with nothing but a secret.
const FILES: [&str; 3] = ["token_file", "password_file", "key_file"];

/// What nobody else may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Longest first, so that none is left in part because it holds another.
    values: Vec<String>,
}

impl Secrets {
    /// The secrets in texts of a configuration, and in the files that it names. One that is no TOML says nothing.
    #[must_use]
    pub fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut found = BTreeSet::new();
        for text in texts {
            if let Ok(mut table) = text.parse::<Table>() {
                clean_table(&mut table, &mut found);
            }
        }
        let mut values: Vec<String> = found.into_iter().filter(|value| value.len() >= LEAST_BYTES).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self { values }
    }

    /// The text without them, without credentials and queries of addresses, and without what is as long as a key.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let text = self.values.iter().fold(text.to_owned(), |text, value| text.replace(value, MARK));
        without_queries(&text)
    }
}

/// The text of a configuration without secrets and comments; `None`: it is no TOML, and nobody can tell where they are.
#[must_use]
pub fn redacted(text: &str) -> Option<String> {
    let mut table: Table = text.parse().ok()?;
    clean_table(&mut table, &mut BTreeSet::new());
    Some(hidden(&table.to_string()))
}

fn clean_table(table: &mut Table, found: &mut BTreeSet<String>) {
    for (name, value) in table.iter_mut() {
        clean(name, value, found);
    }
}

fn clean(name: &str, value: &mut Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Table(headers) if name == "headers" => {
            headers.iter_mut().for_each(|(_, value)| take(value, found))
        }
        Value::Table(table) => clean_table(table, found),
        // The program stays, its arguments may say anything.
        Value::Array(command) if name == "command" => {
            command.iter_mut().skip(1).for_each(|value| take(value, found))
        }
        Value::Array(values) => values.iter_mut().for_each(|value| clean(name, value, found)),
        value if is_secret(name) => take(value, found),
        Value::String(text) => clean_text(name, text, found),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    NAMES.contains(&name.as_str())
        || (!name.ends_with("_file") && PARTS.iter().any(|part| name.contains(part)))
}

/// Takes a value away, and remembers it, and its last word: credentials follow their kind (`Bearer …`).
fn take(value: &mut Value, found: &mut BTreeSet<String>) {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    found.extend(
        text.split_whitespace().last().filter(|word| word.len() >= 2 * LEAST_BYTES).map(str::to_owned),
    );
    found.insert(text);
    *value = Value::String(MARK.to_owned());
}

fn clean_text(name: &str, text: &mut String, found: &mut BTreeSet<String>) {
    if FILES.contains(&name) {
        found.extend(content(text));
    }
    if let Some((path, query)) = text.split_once('?').filter(|(path, _)| path.contains('/')) {
        found.insert(query.to_owned());
        *text = format!("{path}?{MARK}");
    }
    *text = without_queries(text);
}

/// What a file says; nothing if it cannot be read, for then nobody has put it anywhere.
fn content(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

/// Addresses with `://` lose what stands before an `@` and behind a `?`.
fn without_queries(text: &str) -> String {
    let is_end = |c: char| c.is_whitespace() || "\"'<>)(,".contains(c);
    let (mut shown, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("://") {
        let (address, others) = after.split_at(after.find(is_end).unwrap_or(after.len()));
        shown.extend([before, "://"]);
        shown += &bare(address);
        rest = others;
    }
    shown + rest
}

fn bare(address: &str) -> String {
    let (host, path) = address.split_at(address.find(['/', '?']).unwrap_or(address.len()));
    let host = host.rsplit_once('@').map_or_else(|| host.to_owned(), |(_, host)| format!("{MARK}@{host}"));
    let path = path.split_once('?').map_or_else(|| path.to_owned(), |(path, _)| format!("{path}?{MARK}"));
    host + &path
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
        [agent]
        seed = "0123456789abcdef"          # a comment with hunter2
        [[service]]
        name = "web"
        [service.health]
        kind = "http"
        path = "/healthz?auth=swordfish"
        headers = { authorization = "Bearer open-sesame", x-key = "abc" }
        [[service.quic]]
        key = "8f95f09245765f80256934e50c66207f"
        [[service.health2]]
        command = ["/bin/check", "--password", "mellon99"]
        [[service.discovery]]
        endpoints = ["https://user:letmein@etcd:2379/a?b=c"]
        pasword_of_db = "tiger"
        db_password = "lion5"
    "#;

    #[test]
    fn a_configuration_is_shown_without_secrets() {
        let shown = redacted(CONFIG).unwrap();
        for secret in [
            "0123456789abcdef",
            "hunter2",
            "swordfish",
            "sesame",
            "abc",
            "8f95",
            "mellon",
            "letmein",
            "b=c",
            "lion5",
        ] {
            assert!(!shown.contains(secret), "{secret} is in {shown}");
        }
        for kept in ["name = \"web\"", "/healthz?***", "/bin/check", "https://***@etcd:2379/a?***"] {
            assert!(shown.contains(kept), "{kept} is not in {shown}");
        }
        assert_eq!(redacted("key = "), None);
    }

    #[test]
    fn what_is_secret_there_is_secret_everywhere() {
        let secrets = Secrets::of([CONFIG].into_iter());
        let said = "GET /healthz?auth=swordfish with Bearer open-sesame, then open-sesame: abc, lion5";
        assert_eq!(secrets.scrub(said), "GET /healthz?*** with ***, then ***: abc, ***");
        let error = "GET http://10.0.0.1/a?key=new failed (see https://me:pw@host/b, c)";
        assert_eq!(secrets.scrub(error), "GET http://10.0.0.1/a?*** failed (see https://***@host/b, c)");
    }

    #[test]
    fn files_with_secrets_are_read_to_be_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("consul.token");
        std::fs::write(&file, "e95b599e-166e\n").unwrap();
        let text = format!("[[service]]\ntoken_file = {file:?}\npassword_file = \"/nonexistent\"\n");
        let secrets = Secrets::of([text.as_str()].into_iter());
        assert_eq!(secrets.scrub("token e95b599e-166e was refused"), "token *** was refused");
        assert!(redacted(&text).unwrap().contains("consul.token"), "paths are no secrets");
    }
}
