//! Groups and tiers.

use super::{Case, case, check, read};

/// The valid configuration with a split of the first service and groups of its two backends.
fn composed(
    split: &str,
    groups: [&str; 2],
    at: &'static str,
    message: &'static str,
    advice: &'static str,
) -> Case {
    let [first, second] =
        groups.map(|lines| if lines.is_empty() { String::new() } else { format!("\n{lines}") });
    case(
        "[[service.backend]]",
        &format!("[service.split]\n{split}\n[[service.backend]]"),
        at,
        message,
        advice,
    )
    .with("weight = 100", &format!("weight = 100{first}"))
    .with("weight = 0", &format!("weight = 0{second}"))
}

#[test]
fn splits_that_cannot_be_meant_are_refused() {
    let both = ["group = \"stable\"", "group = \"canary\""];
    let split = |split, at, message, advice| composed(split, both, at, message, advice);
    check(&[
        split("stable = 95\ncanary = 65536", "41:10", "the share 65536 is out of range", "from 0 to 65535"),
        split("stable = 95\ncanary = \"5\"", "41:10", "this is text, not a whole number", "such as 5"),
        split("stable = 0\ncanary = 0", "39:1", "leaves nobody a share", "above 0"),
        split("stable = 1\n\"a b\" = 1", "41:1", "\"a b\" is not a group's name", "letters, digits"),
        split(
            "stable = 1\ncanary = 1\nbeta = 1",
            "42:8",
            "no backend and no source is of the group \"beta\"",
            "leave it out",
        ),
        case(
            "weight = 100",
            "weight = 100\nsplit = 5",
            "42:1",
            "unknown key `split` in [[service.backend]]",
            "",
        ),
        case(
            "table_size = 1021",
            "table_size = 1021\nsplit = 5",
            "28:9",
            "the split is a whole number, not a table",
            "[service.split]",
        ),
    ]);
}

#[test]
fn groups_without_a_share_are_refused_where_they_are_written_or_missing() {
    let split = "stable = 95\ncanary = 5";
    let message = "the split gives the group \"canry\" no share";
    check(&[
        composed(
            "stable = 1",
            ["group = \"stable\"", "group = \"canry\""],
            "48:9",
            message,
            "add `canry = 5`",
        ),
        composed(
            "stable = 1",
            ["group = \"stable\"", "group = \"canry\""],
            "48:9",
            message,
            "is meant here: \"stable\"",
        ),
        composed(
            split,
            ["group = \"stable\"\npriority = 1", ""],
            "46:1",
            "the group \"default\" no share",
            "add `default = 5`",
        )
        .with("canary = 5\n", ""),
        composed(
            split,
            ["group = 5", "group = \"canary\""],
            "44:9",
            "this is a whole number, not text",
            "group = \"canary\"",
        )
        .with("stable = 95\n", ""),
    ]);
    let fine = composed(split, ["group = \"canary\"", "group = \"stable\""], "", "", "").text;
    read(&fine).unwrap();
    let usual = composed("default = 95\ncanary = 5", ["group = \"canary\"", ""], "", "", "").text;
    read(&usual).unwrap();
}

#[test]
fn a_source_is_of_a_group_of_the_split() {
    let source = |group: &str| {
        format!(
            "weight = 0\ngroup = \"stable\"\n[[service.discovery]]\nkind = \"file\"\npath = \"/a\"\n{group}"
        )
    };
    let with = |group: &str, at, message, advice| {
        composed("stable = 95\ncanary = 5", ["group = \"stable\"", ""], at, message, advice)
            .with("weight = 0", &source(group))
    };
    check(&[
        with("group = \"canay\"", "52:9", "the group \"canay\" no share", "meant here: \"stable\"")
            .with("canary = 5\n", ""),
        with("group = \"stable\"", "41:10", "no source is of the group \"canary\"", "group = \"canary\""),
        with(
            "group = \"canary\"\npriority = -1",
            "54:12",
            "the priority -1 is out of range",
            "from 0 to 65535",
        ),
    ]);
    read(&with("group = \"canary\"\npriority = 3", "", "", "").text).unwrap();
}

#[test]
fn thresholds_of_tiers_are_percentages() {
    let below = |value, at, message, advice| {
        case(
            "table_size = 1021",
            &format!("table_size = 1021\nspill_over_below = {value}"),
            at,
            message,
            advice,
        )
    };
    check(&[
        below("101", "28:20", "the percentage 101 is out of range", "from 0 to 100"),
        below("0.7", "28:20", "this is a fraction, not a whole number", "spill_over_below = 70"),
        case(
            "weight = 100",
            "weight = 100\npriority = 65536",
            "42:12",
            "the priority 65536 is out of range",
            "65535",
        ),
    ]);
}
