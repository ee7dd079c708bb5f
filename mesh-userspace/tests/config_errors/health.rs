//! Probes of every kind that nothing could come of.

use super::{Case, check, config, raw};

/// A service whose health is what stands in the braces, from column 13 of line 8 on.
fn text(health: &str) -> String {
    format!(
        "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 1\n\
         protocol = \"tcp\"\nforward = \"l2\"\nhealth = {{ {health} }}\n"
    )
}

fn health(health: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    raw(text(health), at, message, advice)
}

#[test]
fn probes_of_every_kind_are_read() {
    for right in [
        "kind = \"tcp\"",
        "kind = \"http\", method = \"HEAD\", expect = \"200-299,304\", headers = { a = \"b\" }",
        "kind = \"http\", answer_regex = \"^ok$\"",
        "kind = \"http\", load_header = \"X-Load\"",
        "kind = \"grpc\", grpc_service = \"shop.Cart\", host = \"api:50051\"",
        "kind = \"udp\", send = \"PING\", answer = \"PONG\"",
        "kind = \"udp\", send_hex = \"00fF\"",
        "kind = \"udp\", send = \"\"",
        "kind = \"dns\", query = \"www.example.com.\", record = \"AAAA\", answer = \"2001:db8::1\"",
        "kind = \"icmp\"",
        "kind = \"command\", command = [\"/bin/check\", \"-x\"]",
        "kind = \"heartbeat\", ttl = \"10s\"",
        "kind = \"tcp\", to = \"vip\"",
        "kind = \"icmp\", to = \"vip\", padded = true",
        "kind = \"http\", to = \"address\"",
        "kind = \"tcp\", damping = { falls = 2 }, slow_start = \"1min\"",
    ] {
        config::parse("meshlb.toml", &text(right)).unwrap();
    }
}

#[test]
fn shares_cannot_follow_what_nobody_measures() {
    let service = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\nport = 1\n\
                   protocol = \"tcp\"\nforward = \"l2\"\n";
    let with = |rest: &str| format!("{service}{rest}");
    let beats = "health = { kind = \"heartbeat\", ttl = \"9s\" }\n";
    check(&[
        raw(
            with("performance = { by = \"load\" }\n"),
            "9:15",
            "without [service.health] nothing",
            "probe the",
        ),
        raw(
            with(&format!("{beats}performance = {{ by = \"both\" }}\n")),
            "10:15",
            "have no latency",
            "probe the",
        ),
        raw(
            with("health = { kind = \"http\" }\nperformance = { by = \"load\" }\n"),
            "10:15",
            "do not learn the load",
            "`load_header = \"x-load\"`",
        ),
        raw(
            with("health = { kind = \"tcp\" }\nperformance = { by = \"both\" }\n"),
            "10:15",
            "do not learn the load",
            "`by = \"latency\"`",
        ),
        raw(with("performance = { by = \"cost\" }\n"), "9:22", "unknown measure", "latency"),
        raw(
            with(&format!("{beats}performance = {{ by = \"load\", floor = 0 }}\n")),
            "10:38",
            "the percentage",
            "1 to 100",
        ),
    ]);
    for right in [
        format!("{beats}performance = {{ by = \"load\" }}\n"),
        "health = { kind = \"http\", load_header = \"x-load\" }\nperformance = { by = \"both\" }\n"
            .to_owned(),
        "health = { kind = \"tcp\" }\nperformance = { by = \"latency\" }\n".to_owned(),
    ] {
        config::parse("meshlb.toml", &with(&right)).unwrap();
    }
}

#[test]
fn keys_of_another_kind_are_refused_with_the_kinds_that_know_them() {
    check(&[
        health(
            "kind = \"icmp\", port = 80",
            "9:34",
            "`port` has no meaning for `kind = \"icmp\"`",
            "leave it away",
        ),
        health(
            "kind = \"heartbeat\", ttl = \"9s\", rise = 2",
            "9:51",
            "`rise` has no meaning",
            "leave it away",
        ),
        health("kind = \"http\", ttl = \"9s\"", "9:33", "`ttl` has no meaning", "`kind = \"heartbeat\"`"),
        health("kind = \"dns\", query = \"a\", send = \"b\"", "9:46", "`send` has no", "`kind = \"udp\"`"),
        health("kind = \"tcp\", load_header = \"a\"", "9:40", "`load_header` has no", "`kind = \"http\"`"),
        health("kind = \"tcp\", query = \"a\"", "9:34", "`query` has no meaning", "`kind = \"dns\"`"),
        health("kind = \"tcp\", tls = true", "9:32", "`tls` has no meaning", "`kind = \"grpc\"`"),
        health(
            "kind = \"grpc\", ca_file = \"/x\"",
            "9:37",
            "`ca_file` has no meaning without TLS",
            "`tls = true`",
        ),
        health(
            "kind = \"http\", ca_file = \"/x\"",
            "9:37",
            "`ca_file` has no meaning for `kind = \"http\"`",
            "or write `kind = \"https\"` or `kind = \"grpc\"`",
        ),
    ]);
}

#[test]
fn aims_that_a_probe_cannot_have_are_refused() {
    check(&[
        health("kind = \"tcp\", to = \"tunnel\"", "9:31", "unknown aim of a probe \"tunnel\"", "\"vip\""),
        health("kind = \"http\", padded = true", "9:36", "only probes to the VIP", "add `to = \"vip\"`"),
        health(
            "kind = \"tcp\", to = \"vip\", padded = true",
            "9:47",
            "`padded` has no meaning for `kind = \"tcp\"`",
            "`kind = \"icmp\"`",
        ),
        health(
            "kind = \"heartbeat\", ttl = \"9s\", to = \"vip\"",
            "9:49",
            "`to` has no meaning for `kind = \"heartbeat\"`",
            "leave it away",
        ),
        health(
            "kind = \"command\", command = [\"/x\"], to = \"vip\"",
            "9:53",
            "`to` has no meaning for `kind = \"command\"`",
            "leave it away",
        ),
    ]);
}

#[test]
fn correlations_that_say_nothing_are_refused() {
    let text = |keys: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n[health.correlated]\n{keys}\n");
    check(&[
        raw(text("action = \"keep\""), "4:10", "unknown action \"keep\"", "\"hold\""),
        raw(text("share = 0"), "4:9", "the percentage 0 is out of range", "from 1 to 100"),
        raw(text("least = 1"), "4:9", "the number of backends 1 is out of range", "from 2 to"),
        raw(text("hold_for = \"0s\""), "4:12", "\"0s\" is out of range", "from \"1s\""),
        raw(text("hold = \"1s\""), "4:1", "unknown key `hold`", "hold_for"),
    ]);
}

#[test]
fn an_end_that_packets_cannot_have_is_refused() {
    let text = text("kind = \"tcp\"").replace("forward", "on_no_backends = \"refuse\"\nforward");
    check(&[raw(text, "8:18", "unknown treatment \"refuse\"", "\"drop\", \"reject\"")]);
}

#[test]
fn requests_that_cannot_be_made_are_refused() {
    check(&[
        health("kind = \"http\", method = \"get\"", "9:36", "unknown method \"get\"", "\"GET\""),
        health("kind = \"http\", host = \"a b\"", "9:34", "not a host name", "www.example.com"),
        health("kind = \"http\", host = \"a@b\"", "9:34", "not a host name", "www.example.com"),
        health("kind = \"http\", path = \"/<a>\"", "9:34", "is not a path", "/healthz"),
        health("kind = \"http\", expect = \"2xx\"", "9:36", "\"2xx\" are not statuses", "200-299,304"),
        health("kind = \"http\", expect = \"299-200\"", "9:36", "are not statuses", "200-299,304"),
        health("kind = \"http\", headers = []", "9:37", "this is a list, not a table", "headers = {"),
        health(
            "kind = \"http\", headers = { \"a b\" = \"c\" }",
            "9:39",
            "\"a b\" is not the name",
            "headers = {",
        ),
        health(
            "kind = \"http\", load_header = \"x load\"",
            "9:41",
            "is not the name of a header",
            "load_header =",
        ),
        health("kind = \"http\", headers = { a = \"\\n\" }", "9:39", "is not the value", "headers = {"),
        health("kind = \"http\", headers = { a = 1 }", "9:43", "a whole number, not text", "headers = {"),
        health("kind = \"http\", headers = { Host = \"c\" }", "9:39", "set by the probe itself", "`host`"),
        health("kind = \"udp\"", "9:10", "`send` is missing", "send_hex"),
        health("kind = \"udp\", send_hex = \"0\"", "9:37", "not bytes in hexadecimal", "send_hex = "),
        health("kind = \"udp\", send_hex = \"+1\"", "9:37", "not bytes in hexadecimal", "send_hex = "),
        health(
            "kind = \"udp\", send_hex = \"00\", send = \"a\"",
            "9:37",
            "both `send` and `send_hex`",
            "one of",
        ),
        health("kind = \"dns\"", "9:10", "`query` is missing in [service.health]", "query = "),
        health("kind = \"dns\", query = \"a..b\"", "9:34", "not a name that name servers know", "query = "),
        health("kind = \"dns\", query = \"\"", "9:34", "not a name that name servers know", "query = "),
        health(
            "kind = \"dns\", query = \"a\", record = \"ANY\"",
            "9:48",
            "unknown record \"ANY\"",
            "\"AAAA\"",
        ),
        health("kind = \"command\"", "9:10", "`command` is missing", "command = ["),
        health("kind = \"command\", command = []", "9:40", "there is no command to run", "command = ["),
        health("kind = \"command\", command = [\"check\"]", "9:41", "\"check\" is relative", "command = ["),
        health("kind = \"command\", command = \"/bin/check\"", "9:40", "text, not a list", "command = ["),
        health("kind = \"heartbeat\"", "9:10", "`ttl` is missing", "ttl = "),
        health("kind = \"heartbeat\", ttl = \"10ms\"", "9:38", "out of range", "1s"),
    ]);
    let long = format!("kind = \"udp\", send = \"{}\"", "a".repeat(1201));
    check(&[health(&long, "9:33", "the datagram has 1201 bytes", "at most 1200")]);
}

#[test]
fn answers_that_cannot_be_looked_for_are_refused() {
    check(&[
        health("kind = \"http\", answer = \"\"", "9:36", "contains the empty text", "leave `answer` away"),
        health("kind = \"http\", answer_regex = \"(\"", "9:42", "not a regular expression", "'…'"),
        health(
            "kind = \"http\", answer = \"a\", answer_regex = \"b\"",
            "9:56",
            "both `answer` and",
            "one of the two",
        ),
        health(
            "kind = \"http\", method = \"HEAD\", answer = \"a\"",
            "9:53",
            "HEAD request has no body",
            "GET",
        ),
    ]);
}

#[test]
fn times_of_damping_are_whole() {
    check(&[
        health(
            "kind = \"tcp\", damping = {}",
            "9:36",
            "`falls` is missing in [service.health.damping]",
            "falls = 3",
        ),
        health("kind = \"tcp\", damping = { falls = 1 }", "9:46", "1 is out of range", "from 2 to 1000"),
        health("kind = \"tcp\", damping = { falls = 2, hold = \"0s\" }", "9:56", "out of range", "1s"),
        health("kind = \"tcp\", slow_start = \"2days\"", "9:39", "out of range", "1day"),
    ]);
}

#[test]
fn how_the_host_probes_is_bounded() {
    let with = |at_once: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n[health]\nat_once = {at_once}\n");
    config::parse("meshlb.toml", &with("100000")).unwrap();
    check(&[
        raw(with("0"), "4:11", "0 is out of range", "from 1 to 100000"),
        raw(with("\"many\""), "4:11", "text, not a whole number", "at_once = 512"),
    ]);
}

/// PEM files of an authority and of a client that it vouches for, and what is none.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        let [(ca, _), (client, key), (_, other)] = [(); 3].map(|()| {
            let rcgen::CertifiedKey { cert, signing_key } =
                rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
            (cert.pem(), signing_key.serialize_pem())
        });
        for (name, text) in
            [("ca", &ca), ("client", &client), ("key", &key), ("other", &other), ("none", &String::new())]
        {
            write(name, text);
        }
        Self(directory)
    }

    /// Health over TLS, in which `@` stands for the directory.
    fn health(&self, keys: &str) -> String {
        let directory = self.0.path().display().to_string();
        text(&format!("kind = \"https\", {}", keys.replace('@', &directory)))
    }
}

#[test]
fn files_of_tls_are_tried() {
    let files = Files::new();
    let whole = "ca_file = \"@/ca\", certificate_file = \"@/client\", private_key_file = \"@/key\"";
    config::parse("meshlb.toml", &files.health(whole)).unwrap();
    for (keys, message, advice) in [
        ("ca_file = \"@/missing\"", "missing cannot be read: No such file", "the agent may read"),
        ("ca_file = \"ca.pem\"", "is relative", "/etc/meshlb/ca.pem"),
        ("ca_file = \"@/none\"", "none is of no use: it holds no certificate in PEM form", "ca_file"),
        ("ca_file = \"@/key\"", "it holds no certificate", "ca_file"),
        (
            "ca_file = \"@/ca\", certificate_file = \"@/client\"",
            "`certificate_file` is written without `private_key_file`",
            "write both",
        ),
        (
            "ca_file = \"@/ca\", private_key_file = \"@/key\"",
            "`private_key_file` is written without `certificate_file`",
            "write both",
        ),
        (
            "ca_file = \"@/ca\", certificate_file = \"@/client\", private_key_file = \"@/client\"",
            "it holds no private key",
            "private_key_file",
        ),
        (
            "ca_file = \"@/ca\", certificate_file = \"@/client\", private_key_file = \"@/other\"",
            "cannot be used with its key",
            "the certificate's own key",
        ),
        ("ca_file = \"@/ca\", server_name = \"a b\"", "not a name that a certificate has", "server_name"),
    ] {
        let error = config::parse("meshlb.toml", &files.health(keys)).unwrap_err();
        let [problem] = error.problems() else { panic!("expected one problem\n{error}") };
        assert!(problem.message().contains(message), "no {message:?} in\n{error}");
        assert!(problem.advice().contains(advice), "no {advice:?} in\n{error}");
        assert_eq!(problem.location().unwrap().line, 9, "{error}");
    }
}
