//! Tables match the lists in the code that they explain.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mesh_common::abi::ABI_VERSION;
use mesh_common::outcome::{DecapOutcome, Outcome, Verdict};
use mesh_common::quic::Routed;
use mesh_tests::metrics;
use mesh_userspace::decap;
use mesh_userspace::preflight::CHECKS;

use crate::markdown::{Document, code, root};

const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Drop => "drop",
        Verdict::Transmit => "transmit",
        Verdict::Redirect => "redirect",
    }
}

/// Name and verdict of each row, in order.
fn documented(heading: &str) -> Vec<(String, String)> {
    let rows = Document::read("docs/packet-walk.md").table(heading, 0);
    for row in &rows {
        assert_eq!(row.len(), 4, "{row:?}");
        assert!(["yes", "a few", "no"].contains(&row[2].as_str()), "{row:?}: normal or not?");
        assert!(!row[3].is_empty(), "{row:?} explains nothing");
    }
    rows.into_iter().map(|row| (code(&row[0]).to_owned(), row[1].clone())).collect()
}

#[test]
fn every_outcome_is_documented_in_order_with_its_verdict() {
    let coded = Outcome::ALL.iter().map(|outcome| (outcome.label(), word(outcome.verdict())));
    let coded: Vec<_> = coded.map(|(label, verdict)| (label.to_owned(), verdict.to_owned())).collect();
    assert_eq!(documented("## Outcomes"), coded);
}

#[test]
fn every_outcome_of_the_decapsulator_is_documented_in_order_with_its_verdict() {
    let coded = DecapOutcome::ALL.iter().map(|outcome| (outcome.label(), word(outcome.verdict())));
    let coded: Vec<_> = coded.map(|(label, verdict)| (label.to_owned(), verdict.to_owned())).collect();
    assert_eq!(documented("## The decapsulator"), coded);
}

#[test]
fn every_way_of_quic_packets_is_documented_in_order() {
    let rows = Document::read("docs/packet-walk.md").table("## A QUIC packet", 0);
    let documented: Vec<_> = rows.iter().map(|row| code(&row[0])).collect();
    assert_eq!(documented, Routed::ALL.map(Routed::label));
}

#[test]
fn the_readme_counts_the_outcomes() {
    let count = format!("one of {} [named, counted outcomes]", Outcome::COUNT);
    assert!(Document::read("README.md").text.contains(&count), "{count}");
}

#[test]
fn the_newest_changes_name_the_abi() {
    let changes = Document::read("CHANGELOG.md").text;
    let newest = changes.lines().find_map(|line| line.strip_prefix("ABI ")).unwrap();
    assert_eq!(newest.trim_end_matches('.').parse(), Ok(ABI_VERSION));
}

#[test]
fn every_metric_is_documented_and_no_other() {
    let rows = Document::read("docs/operations.md").table("## Metrics", 0);
    assert_eq!(rows.iter().map(|row| code(&row[0]).to_owned()).collect::<BTreeSet<_>>(), metrics::names());
}

#[test]
fn every_check_of_the_host_is_documented_in_order() {
    let rows = Document::read("docs/operations.md").table("## Before the first run", 0);
    let documented: Vec<_> = rows.iter().map(|row| code(&row[0])).collect();
    assert_eq!(documented, CHECKS);
}

#[test]
fn the_metric_of_the_decapsulator_is_documented() {
    let text = decap::render(DecapOutcome::ALL.iter().map(|outcome| (*outcome, 7)).collect());
    let [row] = &Document::read("docs/operations.md").table("### `meshlb decap`", 0)[..] else {
        panic!("one metric, one row")
    };
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let named = |outcome: &DecapOutcome| format!("{}{{outcome=\"{}\"}} 7", code(&row[0]), outcome.label());
    assert_eq!(samples, DecapOutcome::ALL.iter().map(named).collect::<Vec<_>>());
}

/// The text of every source file of the agent.
fn sources(directory: &Path) -> String {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let text = |path: std::path::PathBuf| {
        if path.is_dir() { sources(&path) } else { fs::read_to_string(path).unwrap() }
    };
    entries.map(text).collect()
}

/// The parts of a documented line that are no placeholders, if they are long enough to be told apart.
fn fixed_parts(line: &str) -> Vec<String> {
    let is_placeholder = |word: &str| {
        let word = word.trim_end_matches([':', ';', ',']);
        !word.is_empty() && word.chars().all(|c| c.is_ascii_uppercase())
    };
    let mut parts = vec![Vec::new()];
    for word in line.split(' ') {
        match parts.last_mut() {
            Some(part) if !is_placeholder(word) => part.push(word),
            _ => parts.push(Vec::new()),
        }
    }
    parts.into_iter().map(|part| part.join(" ")).filter(|part| part.len() >= 8).collect()
}

#[test]
fn every_documented_problem_is_one_that_the_agent_reports() {
    let sources = sources(&root().join("mesh-userspace/src"));
    let document = Document::read("docs/operations.md");
    let [lines, reasons] = [0, 1].map(|number| document.table("## What `problems` says", number));
    for row in lines.iter().chain(&reasons) {
        let parts = fixed_parts(code(&row[0]));
        assert!(!parts.is_empty(), "{row:?} is nothing but placeholders");
        for part in parts {
            assert!(sources.contains(&part), "the agent never says {part:?}");
        }
    }
}

#[test]
fn every_documented_fault_is_named_in_words_of_the_commands() {
    let sources = sources(&root().join("mesh-userspace/src"));
    let rows = Document::read("docs/operations.md").table("## What is wrong?", 0);
    assert!(rows.len() >= 5, "{rows:?}");
    for row in rows {
        assert!(code(&row[1]).starts_with("meshlb "), "{row:?} names no command");
        let said = row[2].split('`').skip(1).step_by(2).filter(|words| words.contains(' '));
        let parts: Vec<String> =
            said.filter(|words| !words.starts_with("meshlb ")).flat_map(fixed_parts).collect();
        assert!(!parts.is_empty(), "{row:?} says nothing");
        for part in parts {
            assert!(sources.contains(&part), "no command says {part:?}");
        }
    }
}

#[test]
fn every_reason_why_a_backend_cannot_be_reached_is_documented() {
    let source = Document::read("mesh-userspace/src/nexthop/obstacle.rs").text;
    let messages: Vec<_> =
        source.split("#[error(\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(messages.len() > 10, "{messages:?}");
    let rows = Document::read("docs/operations.md").table("## What `problems` says", 1);
    assert_eq!(rows.len(), messages.len(), "one row for each of {messages:?}");
    for message in messages {
        let parts = message.split(['{', '}']).step_by(2).map(str::trim);
        let longest = parts.max_by_key(|part| part.len()).unwrap();
        assert!(rows.iter().any(|row| row[0].contains(longest)), "{message:?} is not documented");
    }
}
