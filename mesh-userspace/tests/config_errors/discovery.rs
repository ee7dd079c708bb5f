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
            "kind = \"zookeeper\"\n",
            "52:8",
            "unknown kind of source \"zookeeper\"",
            "one of \"file\", \"dns\", \"kubernetes\", \"consul\", \"etcd\", \"eureka\"",
        ),
        source("kind = \"file\"\npath = \"a\"\n", "53:8", "is relative", "/"),
        source("kind = \"file\"\npath = 7\n", "53:8", "a whole number, not text", "path = "),
        with("wieght = 5", "54:1", "unknown key `wieght`", "did you mean `weight`?"),
        with("weight = 65536", "54:10", "65536", "65535"),
        with("port = \"90-80\"", "54:8", "90-80", "80-90"),
        with("port = 0", "54:8", "0", "65535"),
    ]);
}

const DNS: &str = "kind = \"dns\"\nname = \"Web.example.com.\"\n";

#[test]
fn keys_of_name_servers_that_are_wrong_are_refused() {
    let named = |name: &str, message, advice| {
        source(&format!("kind = \"dns\"\nname = {name}\n"), "53:8", message, advice)
    };
    let with = |key: &str, at, message, advice| source(&format!("{DNS}{key}\n"), at, message, advice);
    let address = "write the address of a name server";
    check(&[
        source("kind = \"dns\"\n", "51:1", "`name` is missing in [[service.discovery]]", "name = \"web"),
        named("\"\"", "\"\" is not a name that name servers know", "name = \"web"),
        named("\".\"", "\".\" is not a name", "name = \"web"),
        named("\"a..b\"", "\"a..b\" is not a name", "name = \"web"),
        named("\"10.0.0.1\"", "10.0.0.1 is an address, not a name", "[[service.backend]]"),
        with("path = \"/a\"", "54:1", "unknown key `path`", "`name`, `record`, `family`, `servers`"),
        with("record = \"A\"", "54:10", "unknown kind of record \"A\"", "one of \"address\", \"SRV\""),
        with("family = \"v4\"", "54:10", "unknown family \"v4\"", "\"both\", \"ipv4\", \"ipv6\""),
        with("servers = []", "54:11", "there is no name server to ask", "/etc/resolv.conf"),
        with("servers = [\"ns.example\"]", "54:12", "\"ns.example\" is no name server's address", address),
        with("servers = [\"0.0.0.0\"]", "54:12", "\"0.0.0.0\" is no name server's address", address),
        with("servers = [\"10.0.0.1:0\"]", "54:12", "\"10.0.0.1:0\" is no name server's", address),
        with(
            "servers = [\"10.0.0.1\", \"10.0.0.1:53\"]",
            "54:24",
            "10.0.0.1:53 is named twice",
            "name each server once",
        ),
        with("timeout = \"0s\"", "54:11", "\"0s\" is out of range", "\"10ms\""),
        with("absent_after = \"8days\"", "54:16", "\"8days\" is out of range", "\"7days\""),
    ]);
}

#[test]
fn name_servers_are_asked_as_is_written() {
    let keys = "record = \"SRV\"\nfamily = \"ipv6\"\nservers = [\"127.0.0.1:8600\", \"2001:db8::1\"]\n\
                absent_after = \"0s\"\n";
    let text = super::VALID.replace(LAST, &format!("{LAST}[[service.discovery]]\n{DNS}{keys}"));
    let config = read(text.as_bytes()).unwrap();
    let source = &config.services[1].discovery[0].source;
    assert_eq!(source.to_string(), "dns SRV web.example.com ipv6 of 127.0.0.1:8600, [2001:db8::1]:53");
}

#[test]
fn keys_of_clusters_that_are_wrong_are_refused() {
    const WEB: &str = "kind = \"kubernetes\"\nservice = \"web\"\n";
    let with = |key: &str, at, message, advice| source(&format!("{WEB}{key}\n"), at, message, advice);
    let name = "lower-case letters, digits or '-'";
    check(&[
        source("kind = \"kubernetes\"\n", "51:1", "`service` is missing", "service = \"web\""),
        source(
            "kind = \"kubernetes\"\nservice = \"Web\"\n",
            "53:11",
            "\"Web\" is not a name in Kubernetes",
            name,
        ),
        with("namespace = \"\"", "54:13", "\"\" is not a name in Kubernetes", name),
        with("port_name = \"-http\"", "54:13", "\"-http\" is not a name in Kubernetes", name),
        with("kubeconfig = \"~/.kube/config\"", "54:14", "is relative", "kubeconfig = \"/"),
        with("context = \"here\"", "54:11", "`context` is written without `kubeconfig`", "kubeconfig = \"/"),
        with("kubeconfig = \"/a\"\ncontext = \"\"", "55:11", "a context has a name", "context = "),
        with("name = \"web\"", "54:1", "unknown key `name`", "`service`"),
    ]);
}

#[test]
fn a_source_is_asked_in_one_way() {
    let sources = |first: &str, second: &str| {
        let web = "[[service.backend]]\naddress = \"10.0.1.1\"\nweight = 100\n";
        let text = super::VALID.replace(web, &format!("{web}[[service.discovery]]\n{DNS}{first}"));
        text.replace(LAST, &format!("{LAST}[[service.discovery]]\n{DNS}{second}"))
    };
    let shared = sources("weight = 5\n", "port = 53\n");
    read(shared.as_bytes()).unwrap();
    let problem = "dns web.example.com is asked in another way than above";
    let other = sources("weight = 5\n", "timeout = \"1s\"\n");
    check(&[
        super::raw(other, "57:1", problem, "give it the same keys in each, but for `port`, `weight`, "),
        source(&format!("{DNS}[[service.discovery]]\n{DNS}timeout = \"1s\"\n"), "54:1", "already", "once"),
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

const CONSUL: &str = "kind = \"consul\"\nservice = \"web\"\n";

#[test]
fn registries_that_cannot_be_asked_are_refused() {
    let with = |key: &str, at, message, advice| source(&format!("{CONSUL}{key}\n"), at, message, advice);
    let endpoints =
        |list: &str, at, message, advice| with(&format!("endpoints = [{list}]"), at, message, advice);
    let no_endpoint = |list: &str| endpoints(list, "54:14", "is not an endpoint", "http://127.0.0.1:8500");
    check(&[
        source("kind = \"consul\"\n", "51:1", "`service` is missing in [[service.discovery]]", "service = "),
        source("kind = \"consul\"\nservice = \"\"\n", "53:11", "\"\" is not a name", "1 to 255"),
        with("tags = [\"a\", \"\\n\"]", "54:14", "is not a name", "1 to 255"),
        with("token_file = \"token\"", "54:14", "is relative", "/etc/meshlb/consul.token"),
        with("token = \"s3cret\"", "54:1", "unknown key `token`", "the keys here are"),
        with("wait = \"11min\"", "54:8", "out of range", "10m"),
        with("timeout = \"0s\"", "54:11", "out of range", "100ms"),
        with("prefix = \"a\"", "54:1", "unknown key `prefix`", "`service`"),
        endpoints("", "54:13", "no endpoint is listed", "endpoints = "),
        endpoints(
            "\"http://a\", \"http://a:80/\"",
            "54:26",
            "http://a:80 is listed twice",
            "list every endpoint once",
        ),
        endpoints("\"http://u:p@a\"", "54:14", "an endpoint has no name and password", "to a file"),
        no_endpoint("\"127.0.0.1:8500\""),
        no_endpoint("\"ftp://a\""),
        no_endpoint("\"http://\""),
        no_endpoint("\"http://a:0\""),
        no_endpoint("\"http://a?b=c\""),
        no_endpoint("\"http://a#b\""),
        with("ca_file = \"/a\"", "54:11", "`ca_file` has no meaning without TLS", "https://"),
    ]);
    let many: Vec<String> = (0..17).map(|number| format!("\"http://a{number}\"")).collect();
    check(&[endpoints(&many.join(", "), "54:13", "there are 17 endpoints", "at most 16")]);
    let shown = read(&with("token = \"s3cret\"", "", "", "").text).unwrap_err().to_string();
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn registries_are_named_by_who_is_asked_for_what() {
    let keys = "endpoints = [\"https://a/\", \"http://[2001:db8::1]:1/x/\"]\ntags = [\"a\"]\ndatacenter = \"one\"\n\
                token_file = \"/etc/token\"\nwait = \"5s\"\n";
    let text = super::VALID.replace(LAST, &format!("{LAST}[[service.discovery]]\n{CONSUL}{keys}"));
    let config = read(text.as_bytes()).unwrap();
    let source = &config.services[1].discovery[0].source;
    assert_eq!(source.to_string(), "consul https://a:443,http://[2001:db8::1]:1/x web in one with a");
}

#[test]
fn a_user_has_a_password() {
    let etcd = "kind = \"etcd\"\nprefix = \"/web/\"\n";
    let with = |key: &str, at, message, advice| source(&format!("{etcd}{key}\n"), at, message, advice);
    check(&[
        source("kind = \"etcd\"\n", "51:1", "`prefix` is missing in [[service.discovery]]", "/meshlb/web/"),
        source("kind = \"etcd\"\nprefix = \"\"\n", "53:10", "\"\" is not a name", "1 to 255"),
        with("user = \"a\"", "54:8", "`user` is written without `password_file`", "write both"),
        with("password_file = \"/a\"", "54:17", "`password_file` is written without `user`", "write both"),
        with("user = \"a\"\npassword_file = \"a\"", "55:17", "is relative", "/etc/meshlb/password"),
        with("password = \"s3cret\"", "54:1", "unknown key `password`", "`password_file`"),
    ]);
}

#[test]
fn eureka_has_an_address_and_an_application() {
    let eureka = "kind = \"eureka\"\nendpoints = [\"http://a:8761/eureka/\"]\napplication = \"Web\"\n";
    check(&[
        source(
            "kind = \"eureka\"\napplication = \"WEB\"\n",
            "51:1",
            "`endpoints` is missing in [[service.discovery]]",
            "endpoints = ",
        ),
        source(
            "kind = \"eureka\"\nendpoints = [\"http://a\"]\n",
            "51:1",
            "`application` is missing in [[service.discovery]]",
            "application = ",
        ),
        source(&format!("{eureka}interval = \"3min\"\n"), "55:12", "out of range", "2m"),
    ]);
}
