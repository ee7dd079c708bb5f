//! Text of a configuration as it may be shown: without keys.
//!
//! Errors show lines of the file, and a file with an error cannot be trusted to say where its keys are. So what looks
//! like a key is hidden: what is written for `key`, unless it is a path, and whatever is as long as a key; and for `token` and `password`,
//! which are no keys of a configuration, but may be taken for some.

/// Hexadecimal digits of an AES-128 key; nothing else in a configuration has as many in a row.
const KEY_DIGITS: usize = 32;

/// The text with every byte of a key replaced, so that places stay what they are.
pub(crate) fn hidden(text: &str) -> String {
    text.split_inclusive('\n').map(hide_in_line).collect()
}

fn hide_in_line(line: &str) -> String {
    let line = hide_long(line);
    let (mut shown, mut rest) = (String::with_capacity(line.len()), line.as_str());
    while let Some(value) = value_of_key(rest) {
        let (before, after) = rest.split_at(value);
        let (key, others) = after.split_at(after.find([',', '}', '\r', '\n']).unwrap_or(after.len()));
        shown += before;
        shown += &hide(key);
        rest = others;
    }
    shown + rest
}

/// What secrets are called.
const NAMES: [&str; 3] = ["key", "token", "password"];

/// Where the first value begins that a line gives to one of the names; paths do not count.
fn value_of_key(line: &str) -> Option<usize> {
    NAMES.iter().filter_map(|name| value_of(name, line)).min()
}

fn value_of(name: &str, line: &str) -> Option<usize> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    line.match_indices(name).find_map(|(at, name)| {
        let (before, after) = (line.get(..at)?, line.get(at + name.len()..)?);
        let value =
            after.trim_start_matches(['"', '\'']).trim_start_matches([' ', '\t']).strip_prefix('=')?;
        let is_path = value.trim_start().trim_start_matches(['"', '\'']).starts_with('/');
        (!before.ends_with(is_name) && !is_path).then_some(line.len() - value.len())
    })
}

/// Hides runs of digits that are as long as a key.
fn hide_long(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find(|c: char| c.is_ascii_hexdigit()) {
        let (before, from) = rest.split_at(start);
        let length = from.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(from.len());
        let (digits, after) = from.split_at(length);
        shown += before;
        shown += &if length >= KEY_DIGITS { hide(digits) } else { digits.to_owned() };
        rest = after;
    }
    shown + rest
}

/// As many bytes; what is not a letter or digit says nothing and stays, so that quotes can be seen.
fn hide(secret: &str) -> String {
    let star =
        |c: char| if c.is_ascii_punctuation() || c == ' ' { c.into() } else { "*".repeat(c.len_utf8()) };
    secret.chars().map(star).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_hidden_however_they_are_written() {
        let cases = [
            ("key = \"8f95f0\"\n", "key = \"******\"\n"),
            ("  key=\"8f95\r\n", "  key=\"****\r\n"),
            ("'key' = '8f95' # old", "'key' = '****' # ***"),
            ("quic = [{ key = \"8f95\", rotation = 9 }]", "quic = [{ key = \"****\", rotation = 9 }]"),
            ("[{ key = \"8f\" }, { key = \"95\" }]", "[{ key = \"**\" }, { key = \"**\" }]"),
            ("kye = \"8f95f09245765f80256934e50c66207f\"", "kye = \"********************************\""),
            ("key = \"é\"", "key = \"**\""),
            ("token = \"5e\", password = 'pa ss'", "token = \"**\", password = '** **'"),
        ];
        for (text, expected) in cases {
            assert_eq!(hidden(text), expected);
        }
    }

    #[test]
    fn what_is_no_key_is_shown() {
        for text in [
            "key_file = \"/etc/a\"",
            "token_file = \"/etc/a\"",
            "key = \"/etc/tls.key\"",
            "seed = \"0123456789abcdef\"",
            "monkey = 1",
            "key",
        ] {
            assert_eq!(hidden(text), text);
        }
    }

    proptest! {
        #[test]
        fn places_stay_what_they_are(text in "[ke y=\"'0-9a-f,}é/\r\n]{0,80}") {
            let shown = hidden(&text);
            prop_assert_eq!(shown.len(), text.len());
            prop_assert!(text.char_indices().all(|(at, _)| shown.is_char_boundary(at)));
        }
    }
}
