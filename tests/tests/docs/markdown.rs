//! As much of Markdown as the documents use.

use std::fs;
use std::path::{Path, PathBuf};

/// The top of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A document, or any other text of the repository.
pub(crate) struct Document {
    /// Below the top of the repository.
    pub(crate) name: String,
    pub(crate) text: String,
}

/// A fenced block.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Document {
    pub(crate) fn read(name: &str) -> Self {
        let path = root().join(name);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name: name.into(), text }
    }

    /// Every Markdown file at the top of the repository and below `docs`.
    pub(crate) fn all() -> Vec<Self> {
        let files = ["", "docs", "docs/adr"].into_iter().flat_map(names_in);
        let documents: Vec<_> =
            files.filter(|name| name.ends_with(".md")).map(|name| Self::read(&name)).collect();
        assert!(documents.len() > 10, "only {} documents found", documents.len());
        documents
    }

    /// Fenced blocks in their order.
    pub(crate) fn blocks(&self) -> Vec<Block> {
        let parts: Vec<_> = self.text.split("```").collect();
        assert_eq!(parts.len() % 2, 1, "{}: a fence is not closed", self.name);
        let block = |part: &&str| {
            let (language, text) = part.split_once('\n').unwrap();
            Block { language: language.into(), text: text.into() }
        };
        parts.iter().skip(1).step_by(2).map(block).collect()
    }

    /// The text of all blocks in a language.
    pub(crate) fn blocks_in(&self, language: &str) -> Vec<String> {
        self.blocks().into_iter().filter(|block| block.language == language).map(|block| block.text).collect()
    }

    /// Commands of shell blocks, one per line, without comments.
    pub(crate) fn commands(&self) -> Vec<String> {
        let blocks = self.blocks_in("sh");
        let lines = blocks.iter().flat_map(|block| block.lines());
        let command = |line: &str| line.split(" #").next().unwrap_or_default().trim().to_owned();
        lines.map(command).filter(|line| !line.is_empty()).collect()
    }

    /// The text without fenced blocks.
    pub(crate) fn prose(&self) -> String {
        self.text.split("```").step_by(2).collect()
    }

    /// Rows of the n-th table below a heading, cells trimmed, without header.
    pub(crate) fn table(&self, heading: &str, number: usize) -> Vec<Vec<String>> {
        let (_, below) = self.text.split_once(&format!("\n{heading}\n")).unwrap();
        let section = below.split("\n## ").next().unwrap();
        let mut tables = section.split("\n\n").filter(|part| part.trim_start().starts_with('|'));
        let table = tables.nth(number).unwrap();
        table.trim().lines().skip(2).map(cells).collect()
    }

    /// Anchors of the headings, as they are made on the usual hosts of repositories.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings.map(|heading| anchor(heading.trim_start_matches('#'))).collect()
    }
}

fn names_in(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(directory)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
    names.map(|name| format!("{prefix}{name}")).collect()
}

fn cells(row: &str) -> Vec<String> {
    let inside = row.trim().trim_start_matches('|').trim_end_matches('|');
    inside.split('|').map(|cell| cell.trim().to_owned()).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

/// The first thing in backquotes.
pub(crate) fn code(text: &str) -> &str {
    text.split('`').nth(1).unwrap_or_else(|| panic!("no code in {text:?}"))
}
