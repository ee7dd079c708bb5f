//! Translation: what `[service.nat]` cannot be, and what a service that is translated cannot have. And what is learned of
//! its backends' answers.

use mesh_userspace::config;

use super::{Case, check, raw};

/// A service that is translated, with these lines of its own from line 9 on.
fn text(lines: &str) -> String {
    service("tcp", "nat", lines)
}

fn service(protocol: &str, forward: &str, lines: &str) -> String {
    format!(
        "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 1\n\
         protocol = \"{protocol}\"\nforward = \"{forward}\"\n{lines}\n"
    )
}

/// What stands in the braces begins at column 9 of line 9.
fn nat(keys: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    lines(&format!("nat = {{ {keys} }}"), at, message, advice)
}

fn lines(lines: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    raw(text(lines), at, message, advice)
}

#[test]
fn every_translation_that_makes_sense_is_read() {
    for right in [
        "",
        "nat = {}",
        "nat = { source = \"auto\", ports = \"2000-3000\" }",
        "nat = { source = \"keep\", port = 8080 }",
        "nat = { source = [\"10.0.0.1\", \"2001:db8::1\"], ports = 2000 }",
        "backend = [{ address = \"10.0.0.1\", port = 81 }, { address = \"2001:db8::1\" }]",
        "health = { passive = {} }",
        "health = { kind = \"tcp\", passive = { failed = 100, least = 1, window = \"5s\", hold = \"1h\", share = 1 } }",
    ] {
        config::parse("meshlb.toml", &text(right)).unwrap();
    }
}

#[test]
fn sources_and_ports_that_cannot_be_are_refused() {
    let many = |address: fn(usize) -> String| (1..=9).map(address).collect::<Vec<_>>().join(", ");
    let v4 = format!("source = [{}]", many(|nth| format!("\"10.0.0.{nth}\"")));
    let v6 = format!("source = [\"10.0.0.1\", {}]", many(|nth| format!("\"2001:db8::{nth}\"")));
    check(&[
        nat("source = \"atuo\"", "9:18", "unknown source \"atuo\"", "\"auto\", \"keep\", or a list"),
        nat("source = \"10.0.0.1\"", "9:18", "unknown source \"10.0.0.1\"", "a list of addresses"),
        nat("source = 7", "9:18", "this is a whole number, not a list in brackets", "`source = \"auto\"`"),
        nat("source = []", "9:18", "there is no address", "write \"auto\", \"keep\", or an address"),
        nat("source = [\"web\"]", "9:19", "\"web\" is not an IP address", ""),
        nat("source = [\"127.0.0.1\"]", "9:19", "127.0.0.1", ""),
        nat("source = [7]", "9:19", "this is a whole number, not text in quotes", ""),
        nat("source = [\"10.0.0.1\", \"10.0.0.1\"]", "9:31", "10.0.0.1 stands twice", "write it once"),
        nat(&v4, "9:115", "there are more than 8 IPv4 addresses", "64,512 ports towards each backend"),
        nat(&v6, "9:151", "there are more than 8 IPv6 addresses", "64,512 ports towards each backend"),
        nat("ports = \"9-1\"", "9:17", "\"9-1\" does not rise", "`port = \"1-9\"`"),
        nat("ports = \"many\"", "9:17", "\"many\" is neither a port nor a range of ports", ""),
        nat("ports = 0", "9:17", "the port", "1 to 65535"),
        nat("port = 0", "9:16", "the port", "1 to 65535"),
        nat("port = \"http\"", "9:16", "this is text, not a whole number", "`port = 8080`"),
        nat("sources = \"auto\"", "9:9", "unknown key `sources` in [service.nat]", "did you mean `source`?"),
        lines("nat = 7", "9:7", "`service.nat` is a whole number, not a table", "[service.nat]"),
        nat(
            "source = \"keep\", ports = \"2000-3000\"",
            "9:34",
            "`ports` has no meaning for `source = \"keep\"`",
            "the client's own port",
        ),
    ]);
}

#[test]
fn what_is_translated_has_no_use_for_some_keys() {
    check(&[
        raw(
            service("any", "nat", "").replace("port = 1\n", "port = \"any\"\n"),
            "7:12",
            "packets without ports cannot be translated",
            "\"tcp\", \"udp\" or \"quic\"",
        ),
        lines("tracking = \"always\"", "9:12", "`tracking` has no meaning", "every connection is known"),
        lines("window = \"5min\"", "9:10", "`window` has no meaning", "connections keep their backend"),
        lines(
            "tunnel_port = 6080",
            "9:15",
            "`tunnel_port` has no meaning for `forward = \"nat\"`",
            "\"gue\"",
        ),
        lines(
            "health = { kind = \"tcp\", to = \"vip\" }",
            "9:10",
            "backends behind a translation do not know the VIP",
            "they are probed at their own addresses",
        ),
        raw(
            text("nat = { port = 8080 }").replace("port = 1\n", "port = \"80-90\"\n"),
            "9:7",
            "one port at the backends stands for several of the service",
            "a service for each port",
        ),
        lines(
            "nat = { source = \"keep\" }\nbackend = [{ address = \"2001:db8::1\" }]",
            "10:24",
            "the backend 2001:db8::1 is IPv6, and clients have IPv4 addresses that cannot be kept",
            "`source = \"auto\"`",
        ),
        raw(
            text("nat = { source = \"keep\" }\nbackend = [{ address = \"10.0.0.1\" }]")
                .replace("192.0.2.1", "2001:db8::1"),
            "10:24",
            "the backend 10.0.0.1 is IPv4, and clients have IPv6 addresses that cannot be kept",
            "`source = \"auto\"`",
        ),
    ]);
}

#[test]
fn only_what_is_translated_has_keys_of_translation() {
    check(&[
        raw(
            service("tcp", "ipip", "nat = {}"),
            "9:7",
            "[service.nat] has no meaning for `forward = \"ipip\"`",
            "`forward = \"nat\"`",
        ),
        raw(
            service("tcp", "l2", "backend = [{ address = \"10.0.0.1\", port = 81 }]"),
            "9:24",
            "a backend's `port` has no meaning for `forward = \"l2\"`",
            "`forward = \"nat\"`",
        ),
        raw(
            service("tcp", "gue", "health = { passive = {} }"),
            "9:22",
            "what backends answer is seen only where it is translated",
            "`forward = \"nat\"`",
        ),
        raw(
            service("udp", "nat", "health = { passive = {} }"),
            "9:22",
            "packets over udp need no answer",
            "probe the backends",
        ),
    ]);
}

#[test]
fn backends_are_not_ejected_by_what_makes_no_sense() {
    let passive = |keys: &str, at, message, advice| {
        lines(&format!("health = {{ passive = {{ {keys} }} }}"), at, message, advice)
    };
    check(&[
        passive("failed = 0", "9:33", "the percentage", "1 to 100"),
        passive("failed = 101", "9:33", "the percentage", "1 to 100"),
        passive("least = 0", "9:32", "the number of connections", "1 to"),
        passive("window = \"4s\"", "9:33", "4s", "5s"),
        passive("window = \"2h\"", "9:33", "2h", "1h"),
        passive("hold = \"100ms\"", "9:31", "100ms", "1s"),
        passive("share = 0", "9:32", "the percentage", "1 to 100"),
        passive("hold = \"1min\", longest = \"59s\"", "9:49", "`longest` is shorter than `hold`", "doubles"),
        passive("longest = \"29s\"", "9:34", "`longest` is shorter than `hold`", "doubles"),
        passive("holds = \"1min\"", "9:24", "unknown key `holds` in [service.health.passive]", "`hold`"),
        lines(
            "health = { passive = true }",
            "9:22",
            "`service.health.passive` is true or false, not a table",
            "",
        ),
        // Who says more of probes means to probe.
        lines(
            "health = { passive = {}, interval = \"1s\" }",
            "9:10",
            "`kind` is missing in [service.health]",
            "`kind = ",
        ),
    ]);
}

#[test]
fn a_long_hold_is_its_own_longest() {
    let passive = |keys: &str| {
        let text = text(&format!("health = {{ passive = {{ {keys} }} }}"));
        config::parse("meshlb.toml", &text).unwrap().services[0].passive.unwrap()
    };
    assert_eq!(passive("hold = \"1h\"").longest.as_secs(), 3600);
    assert_eq!(passive(""), config::Passive::default());
    let text = text("health = { passive = {} }");
    assert_eq!(config::parse("meshlb.toml", &text).unwrap().services[0].health, None);
}
