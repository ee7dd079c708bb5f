//! What somebody probably meant.

/// Longer names are not compared: that takes memory by the product of the lengths. Bytes.
const LONGEST_MISSPELLING: usize = 64;

/// The name that `given` probably is a misspelling of: at most a third of its letters are wrong.
#[must_use]
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if given.len() > LONGEST_MISSPELLING {
        return None;
    }
    let edits = |name: &'a str| (strsim::damerau_levenshtein(name, given), name);
    let comparable = known.into_iter().filter(|name| name.len() <= LONGEST_MISSPELLING);
    let (edits, name) = comparable.map(edits).min()?;
    (edits <= (name.len() / 3).max(1)).then_some(name)
}

/// What to do about a name that nobody has: what was meant perhaps, and the command that lists them.
pub(crate) fn advice<'a>(given: &str, known: impl IntoIterator<Item = &'a str>, list: &str) -> String {
    nearest(given, known)
        .map_or_else(|| format!("see: {list}"), |nearest| format!("did you mean {nearest}? See: {list}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_few_letters_off_is_meant() {
        let known = ["web", "api-frontend", "10.0.1.11"];
        for (given, meant) in [
            ("wbe", Some("web")),
            ("webs", Some("web")),
            ("api-frontent", Some("api-frontend")),
            ("10.0.1.12", Some("10.0.1.11")),
            ("mail", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, known), meant, "{given}");
        }
        assert_eq!(nearest("web", []), None);
        let long = "w".repeat(65);
        assert_eq!(nearest(&long, [long.as_str()]), None);
    }
}
