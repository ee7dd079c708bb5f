//! Values that are right alone and wrong together.

use super::{case, check, read};

#[test]
fn identities_that_appear_twice_are_refused_at_the_second() {
    let second = "vip = \"2001:db8::53\"\nport = 53\nprotocol = \"udp\"\nforward = \"l2\"";
    let same_key = "vip = \"203.0.113.10\"\nport = 80\nprotocol = \"tcp\"\nforward = \"ipip\"";
    check(&[
        case(
            "\"dns\"",
            "\"web\"",
            "46:8",
            "\"web\" is already the service's in line 19",
            "a name of its own",
        ),
        case(
            second,
            same_key,
            "47:7",
            "203.0.113.10:80/tcp is already the service \"web\" in line 20",
            "change",
        ),
        case("2001:db8::2", "10.0.1.1", "43:11", "backend 10.0.1.1 is already in line 40", "once"),
        case("\"web\"", "\"w b\"", "19:8", "not a service's name", "letters, digits"),
        case("\"web\"", "\"\"", "19:8", "not a service's name", "letters, digits"),
    ]);
}

#[test]
fn backends_that_the_service_cannot_reach_are_refused() {
    check(&[
        case("10.0.1.1", "203.0.113.10", "40:11", "is the service's VIP", "own interface"),
        case("2001:db8::3", "10.0.0.3", "52:11", "10.0.0.3 is IPv4, the VIP 2001:db8::53 is IPv6", "ipip"),
    ]);
}

#[test]
fn a_tunnel_port_without_udp_is_refused() {
    let message = "`tunnel_port` has no meaning for `forward = ";
    check(&[
        case("\"ipip\"", "\"ipip\"\ntunnel_port = 6080", "25:15", message, "\"gue\""),
        case("\"l2\"", "\"l2\"\ntunnel_port = 6081", "51:15", message, "leave `tunnel_port` away"),
    ]);
}

#[test]
fn a_vip_or_a_protocol_without_ports_of_its_own_is_told_from_one_that_has() {
    let vips = |to, message| case("203.0.113.10", to, "40:11", message, "own interface");
    check(&[
        vips("10.0.0.0/8", "the backend 10.0.1.1 lies within the service's VIPs"),
        case("2001:db8::53", "2001:db8::/64", "52:11", "lies within the service's VIPs", "own interface"),
        case("\"tcp\"", "\"any\"", "21:8", "not every protocol has the port 80", "`port = \"any\"`"),
        case("\"tcp\"", "\"any\"", "21:8", "has the port 8000-8100", "the protocol \"tcp\" or \"udp\"")
            .with("port = 80\n", "port = \"8000-8100\"\n"),
        case("port = 8080\n", "", "28:1", "`port` is missing in [service.health]", "`port = 8080`")
            .with("port = 80\n", "port = \"8000-8100\"\n"),
        case("port = 8080\n", "", "28:1", "`port` is missing in [service.health]", "probed on")
            .with("port = 80\n", "port = \"any\"\n"),
    ]);
}

#[test]
fn outer_sources_that_nobody_can_have_are_refused() {
    let seed = "\"0123456789abcdef\"";
    let source = |sources: &str, at, message, advice| {
        case(seed, &format!("{seed}\nouter_source = {sources}"), at, message, advice)
    };
    check(&[
        source("\"10.0.0.0/8\"", "7:16", "text, not a list", "outer_source = [\"10.255.0.0/16\""),
        source("[\"10.0.0.1\"]", "7:17", "\"10.0.0.1\" is not a prefix", "\"10.0.0.1/32\""),
        source("[\"ten/8\"]", "7:17", "is not a prefix", "\"10.255.0.0/16\""),
        source("[\"10.0.0.0/33\"]", "7:17", "is not a prefix", "an address and a length"),
        source("[\"10.1.2.3/16\"]", "7:17", "bits behind the prefix", "\"10.1.0.0/16\", or \"10.1.2.3/32\""),
        source("[\"10.0.0.0/7\"]", "7:17", "10.0.0.0/7 is too short", "at least 8 bits"),
        source("[\"fc00::/7\"]", "7:17", "fc00::/7 is too short", "at least 16 bits"),
        source("[\"224.0.0.0/8\"]", "7:17", "a multicast address", "your own network"),
        source("[\"127.0.0.0/8\"]", "7:17", "a loopback address", "your own network"),
        source("[\"fe80::/64\"]", "7:17", "link-local", "your own network"),
        source("[\"10.0.0.0/8\", \"172.16.0.0/12\"]", "7:31", "a second prefix of IPv4", "at most one"),
        source("[\"fd00::/64\", \"fd01::/64\"]", "7:30", "a second prefix of IPv6", "at most one"),
    ]);
}

#[test]
fn ranges_of_ports_that_overlap_in_part_are_refused() {
    let dns = "vip = \"2001:db8::53\"\nport = 53\nprotocol = \"udp\"\nforward = \"l2\"";
    let beside = |vip: &str, ports: &str, protocol: &str| {
        format!("vip = \"{vip}\"\nport = {ports}\nprotocol = \"{protocol}\"\nforward = \"ipip\"")
    };
    let ranges = |first: &str, second: &str, place, message| {
        case(dns, &beside("203.0.113.10", second, "tcp"), place, message, "contain the other")
            .with("port = 80\n", &format!("port = {first}\n"))
    };
    check(&[
        ranges(
            "\"8000-8100\"",
            "\"8050-8150\"",
            "48:8",
            "203.0.113.10:8050-8150/tcp overlaps 203.0.113.10:8000-8100/tcp, the service \"web\" in line 21",
        ),
        ranges("\"8050-8150\"", "\"8100-8100\"", "48:8", "does not rise").advising("`port = 8100`"),
        ranges("\"8050-8150\"", "\"8000-8050\"", "48:8", "8000-8050/tcp overlaps"),
        ranges("\"80-90\"", "\"85-65535\"", "48:8", "85-65535/tcp overlaps"),
    ]);
    let fine = |first: &str, other: &str| {
        let text = case(dns, other, "", "", "").with("port = 80\n", &format!("port = {first}\n")).text;
        read(&text).unwrap_or_else(|error| panic!("{error}"));
    };
    fine("\"8000-8100\"", &beside("203.0.113.10", "\"8050-8100\"", "tcp"));
    fine("\"8000-8100\"", &beside("203.0.113.10", "8050", "tcp"));
    fine("\"8000-8100\"", &beside("203.0.113.10", "\"any\"", "tcp"));
    fine("\"8000-8100\"", &beside("203.0.113.10", "\"8101-8200\"", "tcp"));
    fine("\"8000-8100\"", &beside("203.0.113.10", "\"8050-8150\"", "udp"));
    fine("\"8000-8100\"", &beside("203.0.113.0/24", "\"8050-8150\"", "tcp"));
    fine("\"any\"", &beside("203.0.113.10", "\"any\"", "any"));
}

#[test]
fn expectations_that_contradict_are_refused() {
    let expected = |backends: &str| format!("expected_backends = {backends}\n");
    check(&[
        case(
            "table_size = 1021\n",
            &expected("1"),
            "27:21",
            "`expected_backends` is 1, and there are 2",
            "may be",
        ),
        case("table_size = 1021\n", &expected("0"), "27:21", "the number of backends 0", "from 1"),
        case(
            "table_size = 1021\n",
            &("table_size = 1021\n".to_owned() + &expected("5")),
            "28:21",
            "`expected_backends` has no meaning beside `table_size`",
            "leave one",
        ),
    ]);
}

#[test]
fn tables_that_cannot_work_are_refused() {
    let one_more = "2001:db8::2\"\n[[service.backend]]\naddress = \"10.0.0.3";
    check(&[
        case("1021", "1024", "27:14", "1024 is not a prime", "1031"),
        case("1021", "1", "27:14", "the table size 1 is out of range", "from 2"),
        case("2001:db8::2", one_more, "27:14", "number of backends, 3", "leave `table_size` away")
            .with("1021", "2")
            .with("backends = 3", "backends = 4"),
    ]);
}

#[test]
fn what_does_not_fit_the_limits_is_refused() {
    check(&[
        case("services = 2", "services = 1", "45:1", "2 services, at most 1", "raise `services` in [limits]"),
        case("backends = 3", "backends = 2", "52:11", "3 backends, at most 2", "raise `backends`"),
        case("slots = 20000", "slots = 2000", "45:1", "2042 slots, at most 2000", "raise `slots`"),
        case(
            "slots = 20000\n",
            "slots = 20000\nrules = 3\n",
            "22:8",
            "ranges of ports and prefixes make more than 3 rules",
            "raise `rules` in [limits]",
        )
        .with("port = 80\n", "port = \"8000-8100\"\n"),
        case("slots = 20000", "slots = 1000", "27:14", "1021 slots, at most 1000", "raise `slots`"),
    ]);
}

#[test]
fn what_needs_every_flow_recorded_says_so() {
    let advice = "write `tracking = \"always\"`";
    let picks = |scheduler: &'static str, message| case("\"maglev\"", scheduler, "25:12", message, advice);
    check(&[
        picks("\"random\"", "`scheduler = \"random\"` needs every flow recorded, not `adaptive`"),
        picks("\"round-robin\"", "`scheduler = \"round-robin\"` needs every flow recorded"),
        picks("\"least-connections\"", "recorded, not `never`").with("\"adaptive\"", "\"never\""),
        case(
            "\"adaptive\"",
            "\"adaptive\"\nmax_flows = 7",
            "25:12",
            "`max_flows` needs every flow recorded",
            advice,
        ),
    ]);
}

#[test]
fn limits_to_flows_and_their_silence_are_within_what_can_be_told() {
    let tcp = |value: &str, advice| {
        let text = format!("\"adaptive\"\nidle_timeout = \"{value}\"");
        case("\"adaptive\"", &text, "26:16", "out of range", advice)
    };
    check(&[
        tcp("9s", "from \"10s\" to \"18h\""),
        tcp("19h", "from \"10s\" to \"18h\""),
        case(
            "\"l2\"",
            "\"l2\"\nidle_timeout = \"1min\"",
            "51:16",
            "over udp begins anew after 59 s",
            "\"59s\"",
        ),
        case(
            "\"adaptive\"",
            "\"always\"\nmax_flows = 0",
            "26:13",
            "number of flows 0 is out of range",
            "from 1",
        ),
    ]);
}
