//! The archive itself: a compressed tar file that is there as a whole or not at all.

use std::io;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, Header};
use tempfile::NamedTempFile;

use super::Manifest;

/// For its owner only, as the archive itself, whose mode `tempfile` gives it.
const MODE: u32 = 0o600;

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Nobody has said that it may be replaced.
    #[error("{} is there already", .path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Writes an archive whose files lie in a directory of this name, and answers how long it is.
///
/// # Errors
/// The path is taken, and may not be replaced; or it cannot be written.
pub fn write(
    path: &Path,
    directory: &str,
    (manifest, files): &(Manifest, Vec<(String, String)>),
    may_replace: bool,
) -> Result<u64, ArchiveError> {
    let failed = |source: io::Error| ArchiveError::Io { path: path.to_owned(), source };
    let exists = || ArchiveError::Exists { path: path.to_owned() };
    if !may_replace && path.symlink_metadata().is_ok() {
        return Err(exists());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = NamedTempFile::new_in(parent).map_err(failed)?;
    let manifest_text = serde_json::to_string_pretty(manifest).map_err(|error| failed(error.into()))?;
    let named = [("manifest.json", manifest_text.as_str())].into_iter();
    let all = named.chain(files.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let file = fill(file, directory, all, manifest.time).map_err(failed)?;
    let bytes = file.as_file().metadata().map_err(failed)?.len();
    file.as_file().sync_all().map_err(failed)?;
    let persisted = if may_replace { file.persist(path) } else { file.persist_noclobber(path) };
    match persisted {
        Ok(_) => Ok(bytes),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists()),
        Err(error) => Err(failed(error.error)),
    }
}

fn fill<'a>(
    file: NamedTempFile,
    directory: &str,
    files: impl Iterator<Item = (&'a str, &'a str)>,
    time: u64,
) -> io::Result<NamedTempFile> {
    let mut builder = Builder::new(GzEncoder::new(file, Compression::default()));
    for (name, text) in files {
        let mut header = Header::new_gnu();
        header.set_size(u64::try_from(text.len()).map_err(io::Error::other)?);
        header.set_mode(MODE);
        header.set_mtime(time);
        builder.append_data(&mut header, format!("{directory}/{name}"), text.as_bytes())?;
    }
    builder.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn empty() -> (Manifest, Vec<(String, String)>) {
        let manifest = Manifest { version: "1".into(), time: 7, files: Vec::new(), missing: Vec::new() };
        (manifest, vec![("a/b.txt".into(), "text".into())])
    }

    #[test]
    fn an_archive_replaces_nothing_unless_it_may() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.tar.gz");
        fs::write(&path, "mine").unwrap();
        assert!(matches!(write(&path, "d", &empty(), false), Err(ArchiveError::Exists { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let bytes = write(&path, "d", &empty(), true).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.len(), metadata.permissions().mode() & 0o777), (bytes, MODE));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left behind");
    }

    #[test]
    fn a_place_that_is_not_there_is_told() {
        let error = write(Path::new("/nonexistent/a.tar.gz"), "d", &empty(), false).unwrap_err();
        assert!(error.to_string().starts_with("cannot write /nonexistent/a.tar.gz: "), "{error}");
    }
}
