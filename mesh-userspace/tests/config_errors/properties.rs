//! No input makes the reader panic, and no problem is without a place, a message and advice.

use mesh_userspace::config::{self, ConfigError};
use proptest::prelude::*;

use super::{VALID, read};

#[test]
fn depth_does_not_exhaust_the_stack() {
    let deep = [
        format!("a = {}", "[".repeat(100_000)),
        format!("a = {}", "{a=".repeat(100_000)),
        format!("{}a = 1", "a.".repeat(100_000)),
        format!("[{}a]", "a.".repeat(100_000)),
    ];
    for text in deep {
        config::parse("meshlb.toml", &text).unwrap_err();
    }
}

/// Whatever is wrong, every problem has a place, a message and advice, and can be shown.
fn assert_well_formed(error: &ConfigError) {
    assert!(!error.problems().is_empty());
    for problem in error.problems() {
        let location = problem.location().expect("a problem of a text has a place");
        assert!(location.line >= 1 && location.column >= 1);
        assert!(!problem.message().is_empty() && !problem.advice().is_empty(), "{error}");
    }
    let first = error.problems()[0].location().unwrap();
    let rendered = error.to_string();
    assert!(rendered.contains(&format!("meshlb.toml:{first}")), "{first} in\n{rendered}");
    assert!(error.render(true).contains("\u{1b}["));
}

/// What a slip of the hand, or malice, puts into a file.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "[",
        "]",
        "[[service]]\n",
        "[service.health]\n",
        "\"",
        "=",
        "\n",
        "\r",
        "\r\n",
        "-1",
        "0",
        "1e9",
        "nan",
        "true",
        "'''",
        "99999999999",
        "1979-05-27",
        "{ a = 1 }",
        "[1, [2]]",
        "port",
        "\u{feff}",
        "\u{2028}",
        "é",
        "\u{301}",
        "\0",
        "\t",
        "#",
    ];
    prop_oneof![
        prop::sample::select(words.map(|word| word.as_bytes().to_vec()).to_vec()),
        prop::collection::vec(any::<u8>(), 0..4),
    ]
}

/// Replaces up to `length` bytes by `by`, at a place that any number names.
fn spliced(mut text: Vec<u8>, (place, length, by): (prop::sample::Index, usize, Vec<u8>)) -> Vec<u8> {
    let from = place.index(text.len() + 1);
    let to = from.saturating_add(length).min(text.len());
    text.splice(from..to, by);
    text
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = read(&bytes) {
            assert_well_formed(&error);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "[ -~\n\r\té\u{2028}]{0,200}") {
        if let Err(error) = config::parse("meshlb.toml", &text) {
            assert_well_formed(&error);
        }
    }

    #[test]
    fn a_damaged_configuration_never_panics(
        slips in prop::collection::vec((any::<prop::sample::Index>(), 0..20_usize, scrap()), 1..6),
    ) {
        let bytes = slips.into_iter().fold(VALID.as_bytes().to_vec(), spliced);
        if let Err(error) = read(&bytes) {
            assert_well_formed(&error);
        }
    }
}
