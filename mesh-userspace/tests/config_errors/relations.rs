//! Values that are right alone and wrong together.

use super::{case, check};

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
        case("slots = 20000", "slots = 5000", "45:1", "5114 slots, at most 5000", "raise `slots`"),
        case("slots = 20000", "slots = 1000", "27:14", "1021 slots, at most 1000", "raise `slots`"),
    ]);
}
