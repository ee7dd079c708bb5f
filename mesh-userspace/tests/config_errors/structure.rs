//! Text that is not TOML, keys that are wrong or missing, values of the wrong kind.

use super::{case, check, raw};

#[test]
fn what_is_not_toml_is_refused() {
    check(&[
        raw(&b"[agent]\ninterfaces = [\"\xff\xfe\"]\n"[..], "2:16", "byte 23", "UTF-8"),
        raw(&b"\x7fELF\x02\x01\x01\x00\xf0\x28\x8c"[..], "1:9", "not UTF-8", "right file"),
        case("port = 80", "port = ", "21:8", "quoted", "quotes"),
        case("name = \"web\"", "name = web", "19:8", "quoted", "name = \"web\""),
        case("[api]", "[agent]", "7:2", "duplicate key", "keep one"),
        case("port = 80", "port = 80\nport = 81", "22:1", "duplicate key", "keep one"),
        case("[api]", "[api", "7:5", "unclosed", "close"),
        raw("[agent]\ninterfaces = [\"eth0\",\n\n", "2:22", "unclosed array", "close"),
        case("seed = ", "seed ", "6:6", "expected `=`", "key = value"),
    ]);
}

#[test]
fn keys_that_do_not_exist_are_refused() {
    check(&[
        case("xdp_mode", "xdp-mode", "3:1", "unknown key `xdp-mode` in [agent]", "did you mean `xdp_mode`?"),
        case("interval", "intervall", "34:1", "in [service.health]", "did you mean `interval`?"),
        case("table_size", "tablesize", "27:1", "in [[service]]", "did you mean `table_size`?"),
        case(
            "services",
            "colour",
            "15:1",
            "in [limits]",
            "`services`, `backends`, `slots`, `rules`, `flows`",
        ),
        case("[log]", "[logs]", "11:2", "`logs` at the top level", "did you mean `log`?"),
        case("weight = 100", "port = 80", "40:11", "a backend's `port` has no meaning", "leave `port` away"),
        case("weight = 100", "\"\\u001b[31m\" = 1", "41:1", "`\\u{1b}[31m`", "`address`, `weight`"),
    ]);
}

#[test]
fn missing_keys_are_named() {
    check(&[
        raw("", "1:1", "`interfaces` is missing in [agent]", "[agent]\ninterfaces = [\"eth0\"]"),
        raw("# nothing\n[log]\n", "1:1", "`interfaces` is missing in [agent]", "smallest configuration"),
        raw("\n[agent]\n", "2:1", "`interfaces` is missing", "`interfaces = [\"eth0\"]`"),
        case("name = \"web\"\n", "", "18:1", "`name` is missing in [[service]]", "name = \"web\""),
        case("vip = \"203.0.113.10\"\n", "", "18:1", "`vip` is missing", "vip = "),
        case("port = 80\n", "", "18:1", "`port` is missing", "port = 80"),
        case("protocol = \"udp\"\n", "", "45:1", "`protocol` is missing", "protocol = \"tcp\""),
        case("forward = \"l2\"\n", "", "45:1", "`forward` is missing", "forward = \"ipip\""),
        case("kind = \"http\"\n", "", "28:1", "`kind` is missing in [service.health]", "kind = \"tcp\""),
        case(
            "address = \"10.0.1.1\"\n",
            "",
            "39:1",
            "`address` is missing in [[service.backend]]",
            "address = ",
        ),
    ]);
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    check(&[
        case("[\"eth0\", \"eth1\"]", "\"eth0\"", "2:14", "text, not a list", "interfaces = [\"eth0\"]"),
        case("\"eth1\"", "1", "2:23", "a whole number, not text", "[\"eth0\"]"),
        case("\"auto\"", "true", "3:12", "true or false, not text", "xdp_mode = \"auto\""),
        case("weight = 100", "weight = 1.5", "41:10", "a fraction, not a whole number", "weight = 100"),
        case("weight = 100", "weight = 2026-01-01", "41:10", "a date", "weight = 100"),
        case("port = 80", "port = \"80\"", "21:8", "text, not a number", "without quotes"),
        case("[200, 204]", "200", "33:10", "a whole number, not a list", "200-299,304"),
        raw("agent = 3\n", "1:9", "`agent` is a whole number, not a table", "[agent]"),
        raw("service = 3\n[agent]\ninterfaces = [\"eth0\"]\n", "1:11", "not a list of tables", "[[service]]"),
        raw("[agent]\ninterfaces = [\"eth0\"]\n[service]\n", "3:1", "not a list of tables", "[[service]]"),
        raw("service = [1]\n[agent]\ninterfaces = [\"eth0\"]\n", "1:12", "not a table", "[service]"),
    ]);
}

#[test]
fn words_outside_the_list_are_refused_with_the_list() {
    check(&[
        case(
            "\"auto\"",
            "\"fast\"",
            "3:12",
            "unknown XDP mode \"fast\"",
            "\"auto\", \"native\", \"generic\"",
        ),
        case("\"keep\"", "\"stay\"", "4:11", "unknown way to exit", "\"keep\", \"detach\""),
        case("\"text\"", "\"xml\"", "12:10", "unknown log format", "\"text\", \"json\""),
        case("\"tcp\"", "\"TCP\"", "22:12", "unknown protocol \"TCP\"", "\"tcp\", \"udp\""),
        case("\"maglev\"", "\"rr\"", "23:13", "unknown scheduler", "\"least-connections\""),
        case("\"ipip\"", "\"tun\"", "24:11", "unknown way to forward", "\"l2\", \"ipip\""),
        case("\"adaptive\"", "\"some\"", "25:12", "unknown tracking", "\"adaptive\", \"always\", \"never\""),
        case("\"http\"", "\"htpp\"", "29:8", "unknown kind of probe", "\"tcp\", \"http\""),
        case("\"info\"", "\"inf\"", "13:9", "no such level", "\"info\""),
        case("\"info\"", "\"a=b=c\"", "13:9", "log level", "\"info\""),
    ]);
}
