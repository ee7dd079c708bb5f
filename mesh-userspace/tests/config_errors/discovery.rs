//! Sources of backends that cannot be asked.

use super::{Case, case, check, read};

const LAST: &str = "address = \"2001:db8::3\"\n";

/// The valid configuration with a source in the place of its last service's backend. Its table is in line 51.
fn source(keys: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    let table = format!("[[service.discovery]]\n{keys}");
    case(&format!("[[service.backend]]\n{LAST}"), &table, at, message, advice)
}

const FILE: &str = "kind = \"file\"\npath = \"/a\"\n";

#[test]
fn keys_of_sources_that_are_wrong_are_refused() {
    let with = |key: &str, at, message, advice| source(&format!("{FILE}{key}\n"), at, message, advice);
    check(&[
        source("path = \"/a\"\n", "51:1", "`kind` is missing in [[service.discovery]]", "kind = \"file\""),
        source("kind = \"file\"\n", "51:1", "`path` is missing in [[service.discovery]]", "path = "),
        source(
            "kind = \"consul\"\n",
            "52:8",
            "unknown kind of source \"consul\"",
            "the only one is \"file\"",
        ),
        source("kind = \"file\"\npath = \"a\"\n", "53:8", "is relative", "/"),
        source("kind = \"file\"\npath = 7\n", "53:8", "a whole number, not text", "path = "),
        with("wieght = 5", "54:1", "unknown key `wieght`", "did you mean `weight`?"),
        with("weight = 65536", "54:10", "65536", "65535"),
        with("port = \"90-80\"", "54:8", "90-80", "80-90"),
        with("port = 0", "54:8", "0", "65535"),
    ]);
}

#[test]
fn a_source_is_named_once() {
    let again = format!("{FILE}[[service.discovery]]\n{FILE}port = 80\n");
    check(&[source(&again, "54:1", "the service has file /a already", "name a source once")]);
}

#[test]
fn backends_with_server_ids_are_not_discovered() {
    let quic = "[[service]]\nname = \"quic\"\nvip = \"203.0.113.11\"\nport = 443\nprotocol = \"quic\"\nforward = \"l2\"\n\
                [[service.quic]]\nrotation = 0\nserver_id_length = 3\nnonce_length = 4\n[[service.discovery]]\n";
    let text = format!("[agent]\ninterfaces = [\"eth0\"]\n{quic}{FILE}");
    check(&[super::raw(
        text,
        "13:1",
        "backends of a QUIC service cannot be discovered",
        "[[service.backend]]",
    )]);
}

#[test]
fn services_may_share_a_source() {
    let service = |name, vip| {
        format!(
            "[[service]]\nname = {name:?}\nvip = {vip:?}\nport = 80\nprotocol = \"tcp\"\nforward = \"ipip\"\n\
             [[service.discovery]]\n{FILE}"
        )
    };
    let (one, two) = (service("one", "203.0.113.10"), service("two", "203.0.113.11"));
    let config = read(format!("[agent]\ninterfaces = [\"eth0\"]\n{one}{two}").as_bytes()).unwrap();
    assert_eq!(config.services[0].discovery, config.services[1].discovery);
    assert_eq!(config.services[0].discovery[0].source.to_string(), "file /a");
}
