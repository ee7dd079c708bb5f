//! Single values that nothing could work with.

use super::{case, check, raw};

#[test]
fn interfaces_that_cannot_exist_are_refused() {
    check(&[
        case("[\"eth0\", \"eth1\"]", "[]", "2:14", "no interface is named", "[\"eth0\"]"),
        case("eth1", "", "2:23", "is empty", "1 to 15 bytes"),
        case("eth1", "sixteen-bytes-xx", "2:23", "has 16 bytes", "1 to 15 bytes"),
        case("eth1", "eth/1", "2:23", "contains '/'", "ip link"),
        case("eth1", "eth 1", "2:23", "contains ' '", "ip link"),
        case("eth1", "..", "2:23", "directory", "ip link"),
        case("eth1", "eth0", "2:23", "\"eth0\" is listed twice", "once"),
    ]);
}

#[test]
fn paths_and_listeners_that_cannot_work_are_refused() {
    let long = format!("/{}", "s".repeat(107));
    check(&[
        case("/sys/fs/bpf/meshlb", "meshlb", "5:12", "relative", "/sys/fs/bpf/meshlb"),
        case("/run/meshlb/meshlb.sock", "meshlb.sock", "8:10", "relative", "/run/meshlb/meshlb.sock"),
        case("/run/meshlb/meshlb.sock", "/run/\\u0000", "8:10", "NUL", "/run/meshlb"),
        case("/run/meshlb/meshlb.sock", &long, "8:10", "108 bytes", "107 bytes"),
        case("127.0.0.1:9440", "localhost:9440", "10:10", "not an address to listen on", "\"off\""),
        case("127.0.0.1:9440", "127.0.0.1:0", "10:10", "not an address to listen on", "127.0.0.1:9440"),
        case("0123456789abcdef", "123", "6:8", "not 16 hexadecimal digits", "openssl rand -hex 8"),
        case("0123456789abcdef", "+123456789abcdef", "6:8", "not 16 hexadecimal digits", "0-9a-f"),
        case("\"0123456789abcdef\"", "0x0123456789abcdef", "6:8", "whole number, not text", "seed = \""),
    ]);
}

#[test]
fn a_web_page_that_everybody_could_see_is_refused() {
    let web = |lines: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n[web]\n{lines}\n");
    let reached = "other hosts reach";
    check(&[
        raw(web("listen = \"0.0.0.0:9148\""), "4:10", reached, "token_file = \"/etc/meshlb/web.token\""),
        raw(web("listen = \"[2001:db8::1]:9148\""), "4:10", reached, "listen on \"127.0.0.1:9148\""),
        raw(web("listen = \"localhost:9148\""), "4:10", "not an address to listen on", "\"[::1]:9148\""),
        raw(web("token_file = \"web.token\""), "4:14", "relative", "/etc/meshlb/web.token"),
        raw(
            web("listen = \"[::1]:9148\"\ntoken = \"s3cret\""),
            "5:1",
            "unknown key `token`",
            "`listen`, `token_file`",
        ),
    ]);
}

#[test]
fn choices_of_the_agent_that_mean_nothing_are_refused() {
    let agent = |line: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n{line}\n");
    check(&[
        raw(agent("answer_echo = \"yes\""), "3:15", "text, not true or false", "answer_echo = true"),
        raw(agent("answer_echo = 1"), "3:15", "a whole number, not true or false", "answer_echo = true"),
        raw(agent("next_program = \"other\""), "3:16", "relative", "/sys/fs/bpf/other"),
        raw(agent("next_program = false"), "3:16", "not text in quotes", "/sys/fs/bpf/other"),
    ]);
}

#[test]
fn collectors_that_cannot_be_are_refused() {
    let otlp = |lines: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n[otlp]\n{lines}\n");
    let at = |endpoint: &str| otlp(&format!("endpoint = \"{endpoint}\""));
    let plain = |line: &str| otlp(&format!("endpoint = \"http://a:4318\"\n{line}"));
    check(&[
        raw(otlp(""), "3:1", "`endpoint`", "endpoint = \"http://127.0.0.1:4318\""),
        raw(at("127.0.0.1:4318"), "4:12", "\"127.0.0.1:4318\" is not an endpoint", "http://127.0.0.1:4318"),
        raw(at("grpc://a:4317"), "4:12", "\"grpc://a:4317\" is not an endpoint", "http://127.0.0.1:4318"),
        raw(at("http://a:0"), "4:12", "\"http://a:0\" is not an endpoint", "scheme, host and port"),
        raw(at("http://me:secret@a"), "4:12", "no name and password", "write secrets to a file"),
        raw(at("http://a:4318/v1/traces"), "4:12", "the agent adds itself", "leave `/v1/traces`"),
        raw(plain("token_file = \"otlp.token\""), "5:14", "\"otlp.token\"", "/"),
        raw(plain("ca_file = \"/a\""), "5:11", "`ca_file` has no meaning without TLS", "https://"),
        raw(plain("timeout = \"1ms\""), "5:11", "1ms", "100ms"),
        raw(plain("logs = 1"), "5:8", "a whole number, not true or false", "logs = false"),
        raw(plain("token = \"s\""), "5:1", "unknown key `token`", "`token_file`"),
    ]);
}

#[test]
fn flow_logs_that_cannot_be_are_refused() {
    let log = |lines: &str| format!("[agent]\ninterfaces = [\"eth0\"]\n[flow_log]\n{lines}\n");
    let file = |lines: &str| log(&format!("to = \"/var/log/flows.jsonl\"\n{lines}"));
    check(&[
        raw(log(""), "3:1", "`to`", "to = \"/var/log/meshlb/flows.jsonl\""),
        raw(
            log("to = \"stderr\""),
            "4:6",
            "\"stderr\" is no place for the flow log",
            "\"stdout\", or a path",
        ),
        raw(log("to = \"flows.jsonl\""), "4:6", "\"flows.jsonl\" is no place", "/var/log/meshlb/flows.jsonl"),
        raw(log("to = \"/var/log/\""), "4:6", "\"/var/log/\" is a directory", "name a file in it"),
        raw(log("to = true"), "4:6", "true or false, not text", "to = \"/var/log/meshlb/flows.jsonl\""),
        raw(log("to = \"stdout\"\nkeep = 3"), "5:8", "`keep` is for files", "leave it away"),
        raw(
            log("to = \"stdout\"\nrotate_at = 70000"),
            "5:13",
            "`rotate_at` is for files",
            "give `to` a path",
        ),
        raw(file("rotate_at = 4096"), "5:13", "the length of a file", "65536"),
        raw(file("rotate_at = \"64MiB\""), "5:13", "text, not a whole number", "rotate_at = 67108864"),
        raw(file("keep = 1001"), "5:8", "the number of old files", "1000"),
        raw(file("rotate = 70000"), "5:1", "unknown key `rotate`", "`rotate_at`"),
    ]);
}

#[test]
fn addresses_that_no_host_has_are_refused() {
    let vip = |to, message, advice| case("203.0.113.10", to, "20:7", message, advice);
    check(&[
        vip("web.example", "not an IP address", "names are not resolved"),
        vip(
            "203.0.113.1/24",
            "bits set behind its prefix",
            "\"203.0.113.0/24\", or the one address \"203.0.113.1\"",
        ),
        vip("2001:db8::1/64", "bits set behind its prefix", "\"2001:db8::/64\""),
        vip("203.0.113.0/33", "\"203.0.113.0/33\" is not a prefix", "at most 32 or 128"),
        vip("203.0.113.0/", "is not a prefix", "\"203.0.113.0/24\""),
        vip("0.0.0.0/0", "0.0.0.0/0 contains the unspecified address", "single hosts have"),
        vip("::/0", "::/0 contains the unspecified address", "single hosts have"),
        vip("224.0.0.0/4", "contains a multicast address", "single hosts have"),
        vip("126.0.0.0/7", "contains a loopback address", "single hosts have"),
        vip("::ffff:192.0.2.0/120", "written as IPv6", "single hosts have"),
        case("10.0.1.1", "10.0.1.0/24", "40:11", "not an IP address", "without the length of a prefix"),
        vip("203.0.113.10:80", "not an IP address", "\"203.0.113.10\""),
        vip("[2001:db8::1]", "not an IP address", "without brackets"),
        vip("0.0.0.0", "the unspecified address", "one host"),
        vip("::", "the unspecified address", "one host"),
        vip("224.0.0.1", "a multicast address", "one host"),
        vip("ff02::1", "a multicast address", "one host"),
        vip("127.0.0.1", "a loopback address", "one host"),
        vip("255.255.255.255", "the broadcast address", "one host"),
        vip("fe80::1", "link-local", "routable"),
        vip("::ffff:192.0.2.1", "written as IPv6", "\"192.0.2.1\""),
        case("10.0.1.1", "0.0.0.0", "40:11", "the unspecified address", "one host"),
        case("10.0.1.1", "10.0.1", "40:11", "not an IP address", "203.0.113.10"),
    ]);
}

#[test]
fn numbers_out_of_range_are_refused() {
    let ports =
        |to: &str, message, advice| case("port = 80\n", &format!("port = {to}\n"), "21:8", message, advice);
    check(&[
        case("port = 80", "port = 0", "21:8", "the port 0 is out of range", "1 to 65535"),
        case("port = 80", "port = 65536", "21:8", "the port 65536", "1 to 65535"),
        case(
            "port = 80",
            "port = 99999999999999999999999999999999999999999",
            "21:8",
            "port 9999",
            "1 to 65535",
        ),
        ports("\"80\"", "is text, not a number", "without quotes"),
        ports("\"8100-8000\"", "\"8100-8000\" does not rise", "`port = \"8000-8100\"`"),
        ports("\"8000-8000\"", "\"8000-8000\" does not rise", "`port = 8000`"),
        ports("\"0-100\"", "neither a port nor a range", "1 to 65535"),
        ports("\"100-65536\"", "neither a port nor a range", "\"8000-8100\""),
        ports("\"100-\"", "neither a port nor a range", "\"any\""),
        ports("\"all\"", "neither a port nor a range", "\"any\""),
        ports("\"http\"", "neither a port nor a range", "1 to 65535"),
        ports("\"80,443\"", "neither a port nor a range", "1 to 65535"),
        case("\"ipip\"", "\"gue\"\ntunnel_port = 0", "25:15", "the port 0 is out of range", "1 to 65535"),
        case("weight = 100", "weight = -1", "41:10", "the weight -1", "0 to 65535"),
        case("weight = 100", "weight = 65536", "41:10", "the weight 65536", "0 to 65535"),
        case("rise = 2", "rise = 0", "36:8", "rise 0", "from 1"),
        case("fall = 3", "fall = 0", "37:8", "fall 0", "from 1"),
        case("panic_threshold = 50", "panic_threshold = 101", "38:19", "percentage 101", "0 to 100"),
        case("port = 8080", "port = 0", "30:8", "the port 0", "1 to 65535"),
        case("204", "99", "33:16", "the status 99", "100 to 599"),
        case("204", "600", "33:16", "the status 600", "100 to 599"),
        case("[200, 204]", "[]", "33:10", "no status", "200-299,304"),
        case("services = 2\n", "flows = 0\n", "15:9", "the limit 0", "from 1"),
    ]);
}

#[test]
fn durations_need_a_unit_and_a_sensible_length() {
    check(&[
        case("\"500ms\"", "\"500\"", "35:11", "not a duration", "\"500ms\" or \"500s\""),
        case("\"500ms\"", "500", "35:11", "500 has no unit", "\"500ms\" or \"500s\""),
        case("\"500ms\"", "\"soon\"", "35:11", "not a duration", "a number and a unit"),
        case("\"500ms\"", "\"\"", "35:11", "not a duration", "a number and a unit"),
        case("\"500ms\"", "\"2s\"", "35:11", "longer than the interval, 1s", "at most \"1s\""),
        case("\"1s\"", "\"0s\"", "34:12", "out of range", "from \"10ms\""),
        case("\"1s\"", "\"999999999999years\"", "34:12", "duration", "unit"),
        case("\"30min\"", "\"0s\"", "26:10", "out of range", "from \"1s\""),
        case("\"30min\"", "true", "26:10", "true or false, not text", "window = \"30min\""),
    ]);
}

#[test]
fn probes_that_make_no_sense_are_refused() {
    let tcp_with_path = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"a\"\nvip = \"192.0.2.1\"\n\
                         port = 1\nprotocol = \"tcp\"\nforward = \"l2\"\nhealth = { kind = \"tcp\", path = \"/\" }\n";
    check(&[
        case("\"/healthz\"", "\"healthz\"", "31:8", "does not begin with '/'", "path = \"/healthz\""),
        case("\"/healthz\"", "\"/a b\"", "31:8", "contains ' '", "%20"),
        case("\"www.example.com\"", "\"a\\r\\nb\"", "32:8", "not a host name", "www.example.com"),
        raw(
            tcp_with_path,
            "9:33",
            "`path` has no meaning for `kind = \"tcp\"`",
            "or write `kind = \"http\"` or `kind = \"https\"`",
        ),
    ]);
}
