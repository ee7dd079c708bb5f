//! Guards: prefixes that cannot be, in lists and in files.

use std::fs;

use mesh_userspace::config::Admittance;
use tempfile::TempDir;

use super::{Case, case, check, read};

/// The valid configuration with a guard of the first service.
fn guarded(lines: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    case(
        "[[service.backend]]",
        &format!("[service.guard]\n{lines}\n[[service.backend]]"),
        at,
        message,
        advice,
    )
}

#[test]
fn prefixes_that_cannot_be_are_refused() {
    check(&[
        guarded("deny = [\"web\"]", "40:9", "\"web\" is neither an address nor a prefix", "198.51.100.0/24"),
        guarded(
            "deny = [\"10.1.0.0/8\"]",
            "40:9",
            "\"10.1.0.0/8\" has bits behind the prefix",
            "\"10.0.0.0/8\"",
        ),
        guarded("deny = [7]", "40:9", "this is a whole number, not text in quotes", ""),
        guarded("allow = \"10.0.0.0/8\"", "40:9", "this is text, not a list in brackets", "198.51.100.0/24"),
        guarded("deny = [\"::ffff:10.0.0.0/104\"]", "40:9", "IPv4 addresses written as IPv6", "as IPv4"),
        guarded("default = \"maybe\"", "40:11", "unknown verdict \"maybe\"", "\"allow\", \"deny\""),
        guarded(
            "deny_file = \"deny.txt\"",
            "40:13",
            "the path \"deny.txt\" is relative",
            "/etc/meshlb/deny.txt",
        ),
        guarded("deny_file = \"/not/there\"", "40:13", "/not/there cannot be read", "one in a line"),
        guarded(
            "allow = [\"10.0.0.0/8\", \"10.0.0.7\"]\ndeny = [\"10.0.0.7/32\"]",
            "41:9",
            "10.0.0.7/32 is allowed and denied",
            "the longest prefix",
        ),
        guarded("limit = 5", "40:1", "unknown key `limit` in [service.guard]", "`deny_file`"),
    ]);
}

#[test]
fn files_are_read_with_the_lists_and_their_lines_are_told() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("deny.txt");
    fs::write(&file, "# many\n\n 10.0.0.0/8 # a network\n2001:db8::7\n").unwrap();
    let lines = format!("default = \"deny\"\nallow = [\"10.0.0.7\"]\ndeny_file = \"{}\"", file.display());
    let config = read(&guarded(&lines, "", "", "").text).unwrap();
    let rules = config.services[0].guard.clone().unwrap();
    assert_eq!(rules.others, Admittance::Deny);
    let prefixes: Vec<_> = rules.prefixes.iter().map(|(net, access)| format!("{net} {access}")).collect();
    assert_eq!(prefixes, ["10.0.0.0/8 deny", "10.0.0.7/32 allow", "2001:db8::7/128 deny"]);
    for (text, message, advice) in [
        ("10.0.0.0/8\n300.0.0.1\n", "\"300.0.0.1\" is neither an address nor a prefix", "for example"),
        ("\n10.1.0.0/8\n", "\"10.1.0.0/8\" has bits behind the prefix", "write \"10.0.0.0/8\""),
    ] {
        fs::write(&file, text).unwrap();
        let error = read(&guarded(&lines, "", "", "").text).unwrap_err();
        let [problem] = error.problems() else { panic!("{error}") };
        assert!(
            problem.message().starts_with("line 2 of ") && problem.message().contains(message),
            "{error}"
        );
        assert!(problem.advice().contains(advice), "{error}");
    }
}
