//! Services that are defined beside the file.

use mesh_userspace::config::{Defined, Definitions, Source};
use proptest::prelude::*;

const FILE: &str = "[agent]\ninterfaces = [\"eth0\"]\n[services_from]\nkind = \"etcd\"\nprefix = \"/fleet\"\n[limits]\nservices = 3\n\
                    [[service]]\nname = \"own\"\nvip = \"203.0.113.1\"\nport = 1\nprotocol = \"tcp\"\nforward = \"ipip\"\n";

/// The keys of a service on a VIP of its own.
fn keys(name: &str, vip: u8) -> String {
    format!(
        "name = \"{name}\"\nvip = \"203.0.113.{vip}\"\nport = 80\nprotocol = \"tcp\"\nforward = \"ipip\"\n"
    )
}

fn definitions(all: &[(&str, &str)]) -> Definitions {
    all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn define(said: &[(&str, &str)], good: &Definitions) -> Defined {
    Source::new("meshlb.toml", FILE).define("/fleet/services/", &definitions(said), good).unwrap()
}

fn names(defined: &Defined) -> Vec<&str> {
    defined.services.iter().map(|service| service.name.as_str()).collect()
}

#[test]
fn a_service_is_defined_in_toml_or_json_with_its_header_or_without() {
    let health = "kind = \"http\"\npath = \"/é\"\ninterval = \"2s\"\n".replace('é', "%C3%A9");
    let bare =
        format!("{}[health]\n{health}[[backend]]\naddress = \"10.0.0.1\"\nweight = 7\n", keys("web", 2));
    let whole = format!(
        "[[service]]\n{}[service.health]\n{health}[[service.backend]]\naddress = \"10.0.0.1\"\nweight = 7\n",
        keys("web", 2)
    );
    let json = "{\"name\": \"web\", \"vip\": \"203.0.113.2\", \"port\": 80, \"protocol\": \"tcp\", \"forward\": \"ipip\", \
                \"health\": {\"kind\": \"http\", \"path\": \"\\u002f%C3%A9\", \"interval\": \"2s\"}, \
                \"backend\": [{\"address\": \"10.0.0.1\", \"weight\": 7}]}";
    let wrapped = format!(" {{\"service\": [{json}]}}");
    let [one, two, three, four] =
        [&bare, &whole, json, &wrapped].map(|text| define(&[("web", text)], &Definitions::new()));
    assert_eq!((names(&one), one.services[0].backends[0].weight), (vec!["web"], 7), "{one:?}");
    assert!([two, three, four].iter().all(|other| other.services == one.services));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let (web, json) = (keys("web", 2), "{\"name\": \"web\",\n \"vip\": ");
    let cases = [
        ("".to_owned(), "/fleet/services/web:1:1: `name` is missing in [[service]], and 4 more"),
        ("a b".to_owned(), "/fleet/services/web:1:3: "),
        (web.replace("80", "0"), "/fleet/services/web:3:8: the port 0 is out of range"),
        (format!("{web}x = 1"), "/fleet/services/web:6:1: unknown key `x` in [[service]]"),
        (keys("api", 2), "/fleet/services/web:1:8: the name is \"api\", and the key's is \"web\""),
        (format!("{web}\u{fffd}"), "/fleet/services/web:6:1: this is not UTF-8 text"),
        (
            format!("[[service]]\n{web}[agent]"),
            "/fleet/services/web:7:2: `agent` in the definition of a service",
        ),
        (
            format!("[[service]]\n{web}[[service]]\n{}", keys("api", 3)),
            "/fleet/services/web:1:1: there are 2 services, where one is defined",
        ),
        (format!("{json}null}}"), "/fleet/services/web:2:9: null is no value"),
        (format!("{json}1, \"vip\": 2}}"), "/fleet/services/web:2:12: duplicate key"),
        (format!("{json}1e999}}"), "/fleet/services/web:1:1: `port` is missing in [[service]]"),
        (format!("{json}\"x\",}}"), "/fleet/services/web:2:12: Trailing commas are not allowed"),
        ("{".repeat(100_000), "/fleet/services/web:1:"),
        ("{\"a\": [".repeat(100_000), "/fleet/services/web:1:"),
        (
            format!("{web}health = {{ kind = \"command\", command = [\"/bin/true\"] }}"),
            "a service that runs commands cannot be defined here",
        ),
        (
            keys("web", 1).replace("80", "1"),
            "/fleet/services/web:2:7: 203.0.113.1:1/tcp is already the service \"own\" in line 9 of meshlb.toml",
        ),
    ];
    for (text, expected) in cases {
        let defined = define(&[("api", &keys("api", 3)), ("web", &text)], &Definitions::new());
        let reason = defined.refused.get("web").unwrap_or_else(|| panic!("{text:.200}: {defined:?}"));
        assert!(reason.contains(expected.split(", and 4").next().unwrap()), "{text:.200}: {reason}");
        assert_eq!((names(&defined), defined.refused.len()), (vec!["api"], 1), "{text:.200}");
    }
}

#[test]
fn a_definition_that_is_wrong_changes_nothing() {
    let (web, api) = (keys("web", 2), keys("api", 3));
    let good = define(&[("web", &web)], &Definitions::new()).good;
    assert_eq!(good, definitions(&[("web", &web)]));
    let after = define(&[("api", &api), ("web", "garbage")], &good);
    assert_eq!((names(&after), after.good["web"].as_str()), (vec!["api", "web"], web.as_str()));
    assert_eq!(after.refused.keys().collect::<Vec<_>>(), ["web"]);
    // What is gone is gone, and what is right again applies.
    let gone = define(&[("api", &api)], &after.good);
    assert_eq!((names(&gone), gone.refused.len()), (vec!["api"], 0));
    let mended = define(&[("web", &keys("web", 4))], &after.good);
    assert_eq!(
        (mended.services[0].key().to_string().as_str(), mended.refused.len()),
        ("203.0.113.4:80/tcp", 0)
    );
}

#[test]
fn the_file_wins_and_so_does_what_applies_already() {
    let defined = define(&[("own", &keys("own", 9))], &Definitions::new());
    assert!(defined.services.is_empty());
    assert!(
        defined.refused["own"].contains("the name \"own\" is already the service's in line 9 of meshlb.toml")
    );
    // Of two that exclude each other, not the one that comes first by name.
    let good = define(&[("web", &keys("web", 2))], &Definitions::new()).good;
    let both = define(&[("api", &keys("api", 2)), ("web", &keys("web", 2))], &good);
    assert_eq!(names(&both), ["web"]);
    assert!(both.refused["api"].contains("is already the service \"web\""), "{both:?}");
    // Ports that overlap in part are shown where the later range begins, here in what applies.
    let range = |name: &str, ports: &str| keys(name, 2).replace("port = 80", &format!("port = \"{ports}\""));
    let good = define(&[("web", &range("web", "200-300"))], &Definitions::new()).good;
    let both = define(&[("api", &range("api", "100-250")), ("web", &range("web", "200-300"))], &good);
    assert_eq!((names(&both), both.refused.len()), (vec!["web"], 1), "{both:?}");
}

#[test]
fn what_does_not_fit_is_refused() {
    let all: Vec<(String, String)> =
        (0..200_u8).map(|number| (format!("s{number:03}"), keys(&format!("s{number:03}"), number))).collect();
    let said: Definitions = all.into_iter().collect();
    let source = Source::new("meshlb.toml", FILE);
    let defined = source.define("/fleet/services/", &said, &Definitions::new()).unwrap();
    // s001 has the VIP, but not the port, of the file's.
    assert_eq!(names(&defined), ["s000", "s001"]);
    assert_eq!(defined.refused.len(), 198);
    // What fits already stays, though it is the last.
    let good: Definitions = [("s199".to_owned(), said["s199"].clone())].into();
    let defined = source.define("/fleet/services/", &said, &good).unwrap();
    assert_eq!(names(&defined), ["s000", "s199"]);
}

#[test]
fn a_file_that_is_not_valid_refuses_all() {
    let source = Source::new("meshlb.toml", FILE.replace("port = 1\n", "port = 0\n"));
    let error =
        source.define("/fleet/services/", &definitions(&[("web", &keys("web", 2))]), &Definitions::new());
    assert!(error.unwrap_err().summary().starts_with("meshlb.toml:11:8: "));
}

proptest! {
    #[test]
    fn no_definition_disturbs_another(text in "(\\{|\\[|\\]|\\}|\"|:|,|=|name|web|vip|\\n|1|.){0,60}", good in any::<bool>()) {
        let (web, api) = (keys("web", 2), keys("api", 3));
        let good = if good { definitions(&[("web", &web)]) } else { Definitions::new() };
        let defined = define(&[("api", &api), ("web", &text)], &good);
        prop_assert!(defined.good.contains_key("api"));
        prop_assert_eq!(defined.refused.contains_key("web"), defined.good.get("web") != Some(&text));
        prop_assert_eq!(defined.good.get("web"), good.get("web"));
    }
}
