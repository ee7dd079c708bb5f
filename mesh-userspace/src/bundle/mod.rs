//! `meshlb bundle`: what helps to find a fault, in one archive, for whoever helps.
//!
//! Invariants: no secret of the configuration is in any file of it, however it came there ([`Secrets`] looks through
//! every one); its size is bounded; whatever could not be had is in the manifest, with the reason.

mod archive;
mod host;
mod secrets;

use serde::{Deserialize, Serialize};

pub use archive::{ArchiveError, write};
pub use host::{kernel, network, system};
pub use secrets::{Secrets, redacted};

/// Bytes of one file at most; what is longer is cut.
const MOST_BYTES: usize = 4 << 20;

/// Files at most; those beyond are left out. A configuration has 32 MiB at most, and the other files are few: all together
/// are less than 128 MiB before they are compressed.
const MOST_FILES: usize = 128;

/// What is in an archive, and what is not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of the command that made it.
    pub version: String,
    /// When, in seconds since 1970.
    pub time: u64,
    /// Its files.
    pub files: Vec<Included>,
    /// What could not be had.
    pub missing: Vec<Missing>,
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Included {
    /// Its path in the archive.
    pub name: String,
    /// Its length.
    pub bytes: usize,
    /// Whether there was more.
    pub cut: bool,
}

/// Something that is not in an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The path that it would have.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Files on their way into an archive.
#[derive(Debug)]
pub struct Bundle {
    secrets: Secrets,
    files: Vec<(Included, String)>,
    missing: Vec<Missing>,
}

impl Bundle {
    /// Nothing yet; these are kept out of everything.
    #[must_use]
    pub const fn new(secrets: Secrets) -> Self {
        Self { secrets, files: Vec::new(), missing: Vec::new() }
    }

    /// Adds a file without its secrets, or says why it is not there.
    pub fn add<E: ToString>(&mut self, name: &str, text: Result<String, E>) {
        let text = text.map_err(|reason| reason.to_string());
        let room = self.files.len() < MOST_FILES;
        match text.and_then(|text| if room { Ok(text) } else { Err("there are too many files".to_owned()) }) {
            Ok(text) => {
                // First without secrets, then cut: half a secret would not be found.
                let (text, cut) = shortened(self.secrets.scrub(&text));
                self.files.push((Included { name: name.to_owned(), bytes: text.len(), cut }, text));
            }
            Err(reason) => {
                let reason = self.secrets.scrub(&reason);
                self.missing.push(Missing { name: name.to_owned(), reason });
            }
        }
    }

    /// The same of something that is shown as JSON.
    pub fn add_json<T: Serialize, E: ToString>(&mut self, name: &str, value: Result<T, E>) {
        let text = value.map_err(|reason| reason.to_string());
        let json = |value| serde_json::to_string_pretty(&value).map_err(|error| error.to_string());
        self.add(name, text.and_then(json));
    }

    /// What is in it, and the files: names and contents.
    #[must_use]
    pub fn finish(self, version: &str, time: u64) -> (Manifest, Vec<(String, String)>) {
        let (files, texts): (Vec<Included>, Vec<String>) = self.files.into_iter().unzip();
        let names: Vec<String> = files.iter().map(|file| file.name.clone()).collect();
        let manifest = Manifest { version: version.to_owned(), time, files, missing: self.missing };
        (manifest, names.into_iter().zip(texts).collect())
    }
}

fn shortened(mut text: String) -> (String, bool) {
    if text.len() <= MOST_BYTES {
        return (text, false);
    }
    text.truncate(text.floor_char_boundary(MOST_BYTES));
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_or_too_much_is_cut_and_said_so() {
        let mut bundle = Bundle::new(Secrets::default());
        bundle.add("long", Ok::<_, String>("é".repeat(MOST_BYTES)));
        for number in 1..=MOST_FILES {
            bundle.add(&number.to_string(), Ok::<_, String>("x".into()));
        }
        let (manifest, files) = bundle.finish("1", 0);
        assert_eq!((files.len(), manifest.files.len()), (MOST_FILES, MOST_FILES));
        assert!(manifest.files[0].cut && manifest.files[0].bytes == MOST_BYTES && !manifest.files[1].cut);
        let left = Missing { name: MOST_FILES.to_string(), reason: "there are too many files".into() };
        assert_eq!(manifest.missing, [left]);
    }

    #[test]
    fn reasons_have_no_secrets_either() {
        let mut bundle = Bundle::new(Secrets::of(["token = \"hunter22\""].into_iter()));
        bundle.add("a", Err("hunter22 was refused"));
        assert_eq!(bundle.finish("1", 0).0.missing[0].reason, "*** was refused");
    }
}
