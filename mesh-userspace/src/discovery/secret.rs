//! Secrets in files: read when they are needed, shown nowhere.

use std::fmt;
use std::io;
use std::path::Path;

use hyper::header::HeaderValue;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

use super::SourceError;

/// Longer than tokens are that have rights inside: bytes.
const LONGEST: u64 = 64 << 10;

/// A secret.
pub(crate) struct Secret(String);

impl Secret {
    /// What a file holds, without the line's end: the file may be replaced at any time.
    ///
    /// # Errors
    /// It cannot be read, or holds none.
    pub(crate) async fn read(file: &Path) -> Result<Self, SourceError> {
        let shown = || file.display().to_string();
        let text = read(file).await.map_err(|error| SourceError::Unreadable { file: shown(), error })?;
        let secret = text.trim_end_matches(['\r', '\n']);
        let reason = match secret.chars().find(|c| c.is_control()) {
            Some(_) => "it has more than one line, or control characters",
            None if secret.is_empty() => "it is empty",
            None => return Ok(Self(secret.to_owned())),
        };
        Err(SourceError::NoSecret { file: shown(), reason })
    }

    /// The secret itself.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// As the value of a header, which is not shown either.
    pub(super) fn header(&self) -> HeaderValue {
        header(&self.0)
    }
}

/// A secret as the value of a header, which is not shown. There are no control characters in it.
pub(crate) fn header(secret: &str) -> HeaderValue {
    let mut value = HeaderValue::from_bytes(secret.as_bytes()).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

async fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(file).await?.take(LONGEST + 1).read_to_string(&mut text).await?;
    if u64::try_from(text.len()).is_ok_and(|bytes| bytes <= LONGEST) {
        Ok(text)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn found(content: &str) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let read = Secret::read(file.path()).await;
        read.map(|secret| secret.reveal().to_owned()).map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_secret_is_one_line() {
        assert_eq!(found("s3cret pass\n").await.unwrap(), "s3cret pass");
        assert_eq!(found("s3cret\r\n").await.unwrap(), "s3cret");
        assert!(found("\n").await.unwrap_err().ends_with("holds no secret: it is empty"));
        assert!(found("a\nb\n").await.unwrap_err().contains("more than one line"));
        assert!(found(&"x".repeat(65 << 10)).await.unwrap_err().contains("cannot be read"));
        let error = Secret::read(Path::new("/no/such")).await.unwrap_err().to_string();
        assert!(error.starts_with("/no/such cannot be read: No such file"), "{error}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret("s3cret".into());
        assert_eq!(format!("{secret:?} {:?}", secret.header()), "Secret Sensitive");
        assert_eq!(secret.header(), "s3cret");
    }
}
