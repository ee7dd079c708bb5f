//! QUIC services: what their configurations and server ids must be to each other, and that keys are not shown.

use std::fs;
use std::net::IpAddr;

use mesh_userspace::config::{self, Protocol};

use super::{Case, check, raw};

const KEY: &str = "8f95f09245765f80256934e50c66207f";

/// A valid configuration: its first service has two configurations, one of them with a key.
const QUIC: &str = r#"[agent]
interfaces = ["eth0"]
[[service]]
name = "web"
vip = "203.0.113.10"
port = 443
protocol = "quic"
forward = "ipip"
[[service.quic]]
rotation = 0
server_id_length = 3
nonce_length = 8
[[service.quic]]
rotation = 5
server_id_length = 4
nonce_length = 12
key = "8f95f09245765f80256934e50c66207f"
[[service.backend]]
address = "10.0.1.1"
server_id = { 0 = "0a1b2c", 5 = "00000001" }
[[service.backend]]
address = "10.0.1.2"
server_id = { 0 = "0a1b2d", 5 = "00000002" }
[[service]]
name = "dns"
vip = "203.0.113.10"
port = 53
protocol = "udp"
forward = "ipip"
[[service.backend]]
address = "10.0.1.1"
"#;

fn case(from: &str, to: &str, at: &'static str, message: &'static str, advice: &'static str) -> Case {
    assert!(QUIC.contains(from), "{from:?} is not in the valid configuration");
    raw(QUIC.replacen(from, to, 1), at, message, advice)
}

#[test]
fn a_quic_service_arrives_with_its_server_ids() {
    let config = config::parse("meshlb.toml", QUIC).unwrap();
    let web = &config.services[0];
    assert_eq!((web.protocol, web.key().to_string().as_str()), (Protocol::Quic, "203.0.113.10:443/quic"));
    let [plain, secret] = web.quic.as_slice() else { panic!("{web:?}") };
    assert_eq!((plain.rotation, secret.rotation), (0, 5));
    assert_eq!((plain.parameters.key, secret.parameters.key.is_some()), (None, true));
    let owners: Vec<_> = secret.server_ids.iter().map(|(id, owner)| (id.to_string(), *owner)).collect();
    let address = |last| IpAddr::from([10, 0, 1, last]);
    assert_eq!(owners, [("00000001".to_owned(), address(1)), ("00000002".to_owned(), address(2))]);
    assert!(config.services[1].quic.is_empty());
}

#[test]
fn one_server_id_stands_for_all_configurations_of_its_length() {
    let second = "[[service.quic]]\nrotation = 5\nserver_id_length = 4\nnonce_length = 12\n";
    let text = QUIC
        .replace(second, "[[service.quic]]\nrotation = 5\nserver_id_length = 3\nnonce_length = 13\n")
        .replace("nonce_length = 8\n", "nonce_length = 13\nkey = \"00112233445566778899aabbccddeeff\"\n")
        .replace("{ 0 = \"0a1b2c\", 5 = \"00000001\" }", "\"0a1b2c\"")
        .replace("{ 0 = \"0a1b2d\", 5 = \"00000002\" }", "\"0A1B2D\"");
    let config = config::parse("meshlb.toml", &text).unwrap();
    let [first, second] = config.services[0].quic.as_slice() else { panic!("{config:?}") };
    assert_eq!(first.server_ids, second.server_ids);
    assert_eq!(first.server_ids.len(), 2);
}

#[test]
fn numbers_that_no_connection_id_fits_are_refused() {
    check(&[
        case("rotation = 5", "rotation = 7", "14:12", "the rotation 7 is out of range", "from 0 to 6"),
        case("server_id_length = 4", "server_id_length = 0", "15:20", "the length 0", "from 1 to 15"),
        case("server_id_length = 4", "server_id_length = 16", "15:20", "the length 16", "from 1 to 15"),
        case("nonce_length = 12", "nonce_length = 3", "16:16", "the length 3", "from 4 to 18"),
        case("nonce_length = 12", "nonce_length = 16", "16:16", "have 20 bytes", "smaller sum"),
        case("rotation = 5\n", "", "13:1", "`rotation` is missing in [[service.quic]]", "rotation = 0"),
    ]);
}

#[test]
fn configurations_and_server_ids_fit_together() {
    let first = "{ 0 = \"0a1b2c\", 5 = \"00000001\" }";
    let whole = "server_id = { 0 = \"0a1b2d\", 5 = \"00000002\" }\n";
    check(&[
        case("rotation = 5", "rotation = 0", "14:12", "rotation 0 is already in line 10", "of its own")
            .with(first, "{ 0 = \"0a1b2c\" }")
            .with("5 = \"00000002\"", "")
            .with("server_id_length = 4", "server_id_length = 3"),
        case(whole, "", "22:11", "10.0.1.2 of a QUIC service has no `server_id`", "server_id = \"0a1b2c\""),
        case(first, "\"0a1b2c\"", "20:13", "0a1b2c has 3 bytes, those of rotation 5 have 4", "change it"),
        case(", 5 = \"00000001\"", "", "20:13", "10.0.1.1 has no server id for rotation 5", "5 = \"0a1b2c\""),
        case(
            "0a1b2d",
            "0a1b2c",
            "23:13",
            "0a1b2c of rotation 0 is already that of backend 10.0.1.1",
            "its own",
        ),
        case("5 = \"00000001\"", "6 = \"01\"", "20:13", "no [[service.quic]] with rotation 6", "leave"),
        case("5 = \"00000001\"", "7 = \"01\"", "20:29", "\"7\" is not a rotation", "up to 6"),
        case("5 = \"00000001\"", "05 = \"01\"", "20:29", "\"05\" is not a rotation", "by rotation"),
        case(first, "\"0a1b2\"", "20:13", "\"0a1b2\" is not a server id", "two hexadecimal digits"),
        case(first, "\"+a+b\"", "20:13", "\"+a+b\" is not a server id", "two hexadecimal digits"),
        case(first, "\"\"", "20:13", "\"\" is not a server id", "1 to 15 bytes"),
        case("\"0a1b2c\"", "12", "20:19", "a whole number, not text", "two hexadecimal digits"),
    ]);
}

#[test]
fn a_server_id_is_not_sent_in_plain_and_encrypted() {
    check(&[case(
        "server_id_length = 4",
        "server_id_length = 3",
        "14:12",
        "0a1b2c is sent in plain",
        "0 = ",
    )
    .with("\"00000001\"", "\"0a1b2c\"")
    .with("\"00000002\"", "\"0a1b2d\"")]);
}

#[test]
fn quic_and_its_configurations_go_together() {
    let [head, tail] = ["[[service.quic]]", "[[service.backend]]"].map(|name| QUIC.find(name).unwrap());
    let one = &QUIC[head..QUIC.rfind("[[service.quic]]").unwrap()];
    let bare = QUIC.replace(&QUIC[head..tail], "").replace("server_id = ", "# ");
    let none = "the QUIC service has no [[service.quic]]";
    let not_quic = "`[[service.quic]]` has no meaning";
    check(&[
        raw(bare.replace("# ", "server_id = "), "3:1", none, "protocol = \"udp\"")
            .with("{ 0 = \"0a1b2c\", 5 = \"00000001\" }", "\"0a\"")
            .with("{ 0 = \"0a1b2d\", 5 = \"00000002\" }", "\"0b\""),
        raw(
            bare.replace("\"quic\"", "\"udp\"") + "server_id = \"0a\"\n",
            "23:13",
            "`server_id` has no",
            "quic",
        ),
        raw(QUIC.to_owned() + one, "33:12", not_quic, "leave it away"),
    ]);
}

#[test]
fn quic_and_udp_on_one_port_are_one_identity() {
    check(&[case(
        "port = 53",
        "port = 443",
        "26:7",
        "203.0.113.10:443/udp is already the service \"web\" in line 5, for QUIC is UDP",
        "change the VIP, port or protocol",
    )]);
}

#[test]
fn keys_are_read_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quic.key");
    let text = QUIC.replace(&format!("key = \"{KEY}\""), &format!("key_file = {path:?}"));
    let unreadable = config::parse("meshlb.toml", &text).unwrap_err();
    assert!(
        unreadable.problems()[0].message().contains("quic.key cannot be read: No such file"),
        "{unreadable}"
    );
    fs::write(&path, format!("{KEY}\n")).unwrap();
    assert_eq!(config::parse("meshlb.toml", &text), config::parse("meshlb.toml", QUIC));
    fs::write(&path, &KEY[1..]).unwrap();
    let short = config::parse("meshlb.toml", &text).unwrap_err();
    assert!(short.problems()[0].message().contains("does not hold 32 hexadecimal digits"), "{short}");
    assert!(!short.to_string().contains(&KEY[1..]), "{short}");
    let endless = QUIC.replace(&format!("key = \"{KEY}\""), "key_file = \"/dev/zero\"");
    config::parse("meshlb.toml", &endless).unwrap_err();
}

#[test]
fn no_error_shows_a_key() {
    let key = format!("key = \"{KEY}\"");
    let short = &KEY[..30];
    let cases = [
        case(
            &key,
            &format!("key = \"{short}\""),
            "17:7",
            "the key is not 32 hexadecimal digits",
            "openssl rand",
        ),
        case(&key, &format!("key = \"{short}zz\""), "17:7", "the key is not", "openssl rand"),
        case(&key, &format!("kye = \"{KEY}\""), "17:1", "unknown key `kye`", "did you mean `key`"),
        case(&key, &format!("key = \"{KEY}"), "17:40", "", ""),
        case(&key, &format!("{key}\nkey_file = \"/dev/null\""), "18:12", "does not hold", "openssl rand"),
    ];
    check(&cases[..3]);
    for case in cases {
        let error = super::read(&case.text).unwrap_err();
        for shown in [error.to_string(), error.render(true)] {
            assert!(!shown.contains(short), "{shown}");
        }
    }
    let valid = format!("{:?}", config::parse("meshlb.toml", QUIC).unwrap());
    assert!(!valid.contains(short) && !valid.contains("143"), "{valid}");
}

#[test]
fn a_key_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quic.key");
    fs::write(&path, KEY).unwrap();
    let both = format!("key_file = {path:?}\nkey = \"{KEY}\"");
    check(&[case(&format!("key = \"{KEY}\""), &both, "17:12", "both `key` and `key_file`", "leave one")]);
}
