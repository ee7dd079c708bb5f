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
