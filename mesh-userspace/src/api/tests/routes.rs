use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use reqwest::{Method, StatusCode};

use super::agent::{backend, progress, refused, report, served, service, status, usual};
use crate::agent::command::Order;
use crate::agent::flows::{FlowFilter, FlowKey, FlowState};
use crate::agent::{Command, CommandError};
use crate::api::types::{HeartbeatReport, MaintenanceReport, OrderReport};
use crate::api::{ClientError, Readiness};
use crate::config::Admittance;

fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String, Option<String>) {
    let (status, body) = refused(result);
    (status, body.error, body.advice)
}

#[tokio::test]
async fn views_arrive_as_they_were_sent() {
    let served = served(usual);
    let client = served.client();
    assert_eq!(client.status().await.unwrap(), status());
    assert_eq!(client.services().await.unwrap(), [service("web"), service("empty")]);
    assert_eq!(client.backends(None).await.unwrap(), [backend("10.0.0.1"), backend("fd00::1")]);
    assert_eq!(client.reload().await.unwrap(), report());
    assert!(client.reload_plan().await.unwrap().dry_run);
}

#[tokio::test]
async fn backends_of_one_service_are_told_from_those_of_none() {
    let served = served(usual);
    let client = served.client();
    assert_eq!(client.backends(Some("web")).await.unwrap().len(), 2);
    assert_eq!(client.backends(Some("empty")).await.unwrap(), []);
    let expected = (404, "there is no service \"a&b\"".to_owned(), Some("see: meshlb services".to_owned()));
    assert_eq!(refusal(client.backends(Some("a&b")).await), expected);
}

#[tokio::test]
async fn flows_are_limited() {
    let served = served(|command| {
        assert!(!matches!(command, Command::Flows { limit: 100_001.., .. }));
        usual(command);
    });
    let count = async |path| {
        let (status, body) = served.request(Method::GET, path).await;
        assert_eq!(status, StatusCode::OK);
        serde_json::from_str::<Vec<serde_json::Value>>(&body).unwrap().len()
    };
    assert_eq!(count("/v1/flows").await, 100);
    assert_eq!(count("/v1/flows?limit=3").await, 3);
    assert_eq!(count("/v1/flows?limit=4000000000").await, 150);
    assert_eq!(served.client().flows(&FlowFilter::default(), 7).await.unwrap().len(), 7);
}

#[tokio::test]
async fn flows_are_counted_as_the_client_wants() {
    let served = served(usual);
    let filter = FlowFilter {
        service: Some("a&b".to_owned()),
        client: Some("2001:db8::/32".parse().unwrap()),
        backend: Some("fd00::1".parse().unwrap()),
        state: Some(FlowState::Opening),
    };
    for by in [FlowKey::Service, FlowKey::Backend, FlowKey::Client, FlowKey::State] {
        let counts = served.client().flow_counts(&filter, by, 7).await.unwrap();
        assert_eq!(counts[0].service.as_deref(), Some(format!("{filter:?}").as_str()));
        assert_eq!((counts[0].state.as_deref(), counts[0].flows), (Some(format!("{by:?}").as_str()), 7));
    }
    for path in ["/v1/flows/by/port", "/v1/flows/by/state?state=lost", "/v1/flows?client=web"] {
        assert_eq!(served.failure(Method::GET, path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
}

#[tokio::test]
async fn clients_are_kept_out_and_let_in_as_the_operator_says() {
    let served = served(usual);
    let client = served.client();
    assert_eq!(client.guards().await.unwrap().len(), 1);
    let clients = "2001:db8::/32".parse().unwrap();
    let kept = client.guard("web", clients, Admittance::Deny, Some(Duration::from_secs(7))).await.unwrap();
    let [order] = &kept.ordered[..] else { panic!("{kept:?}") };
    let seen = (order.prefix.as_str(), order.admittance.as_str(), order.remaining_seconds);
    assert_eq!(seen, ("2001:db8::/32", "deny", Some(1.0)));
    let let_in = client.guard("web", clients, Admittance::Allow, None).await.unwrap();
    assert_eq!((let_in.ordered[0].admittance.as_str(), let_in.ordered[0].remaining_seconds), ("allow", None));
    assert_eq!(client.forget_clients("web", clients).await.unwrap().ordered, []);
    assert_eq!(refusal(client.forget_clients("mail", clients).await).0, 404);
    for path in ["/v1/services/web/guard", "/v1/services/web/guard?clients=web"] {
        assert_eq!(served.failure(Method::POST, path).await.0, StatusCode::BAD_REQUEST, "{path}");
    }
    let forever = format!("/v1/services/web/guard?clients=10.0.0.1/32&seconds={}", u64::MAX);
    assert_eq!(served.failure(Method::POST, &forever).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn events_are_asked_for_as_the_client_wants() {
    let served = served(usual);
    let client = served.client();
    let question = async |after, since, service, limit| {
        client.events(after, since, service, limit).await.unwrap().remove(0).what.message
    };
    let all = question(None, None, None, 100).await;
    assert_eq!(all, "Question { after: None, since: None, service: None, limit: 100 }");
    let some = question(Some(7), Some(Duration::from_secs(60)), Some("a&b"), usize::MAX).await;
    assert!(some.starts_with("Question { after: Some(7), since: Some("), "{some}");
    assert!(some.ends_with(&format!("service: Some(\"a&b\"), limit: {} }}", usize::MAX)), "{some}");
    let (status, body) = served.request(Method::GET, "/v1/events?since_seconds=18446744073709551615").await;
    assert!(
        status == StatusCode::OK && body.contains("since: None") && body.contains("limit: 100"),
        "{body}"
    );
    let (status, _) = served.failure(Method::GET, "/v1/events?after=x").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn backends_of_both_families_are_drained_and_undrained() {
    let served = served(usual);
    let client = served.client();
    for address in ["10.0.0.1", "fd00::1"] {
        let ip: IpAddr = address.parse().unwrap();
        let report = |draining| OrderReport {
            service: "web".into(),
            backend: address.into(),
            draining,
            ..OrderReport::default()
        };
        assert_eq!(client.drain("web", ip).await.unwrap(), report(true));
        assert_eq!(client.undrain("web", ip).await.unwrap(), report(false));
    }
    let (status, _) = served.request(Method::POST, "/v1/services/web/backends/fd00%3A%3A1/drain").await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn weights_maintenance_drains_and_reports_go_through() {
    let served = served(usual);
    let (client, ip) = (served.client(), "fd00::1".parse().unwrap());
    assert_eq!(client.drain_progress("web", ip).await.unwrap(), progress());
    assert_eq!(client.weight("web", ip, Some(7)).await.unwrap().weight, 7);
    assert!(client.weight("web", ip, None).await.unwrap().is_configured_weight);
    let heartbeat = |failing: Option<&str>, load| HeartbeatReport {
        service: "web".into(),
        backend: "fd00::1".into(),
        failing: failing.map(str::to_owned),
        load,
    };
    assert_eq!(client.heartbeat("web", ip, None, None).await.unwrap(), heartbeat(None, None));
    let failing = Some("no & disk".to_owned());
    let reported = client.heartbeat("web", ip, failing, Some(0.7)).await.unwrap();
    assert_eq!(reported, heartbeat(Some("no & disk"), Some(0.7)));
    let lasting = Some(Duration::from_secs(60));
    let begun = client.begin_maintenance(ip, "new disk".into(), lasting).await.unwrap();
    assert!(begun.maintenance && begun.forgotten.unwrap().contains("new disk"));
    let ended = client.end_maintenance(ip).await.unwrap();
    assert_eq!(ended, MaintenanceReport { backend: "fd00::1".into(), ..MaintenanceReport::default() });
}

#[tokio::test]
async fn an_odd_name_stays_one_segment() {
    let served = served(usual);
    let report = served.client().drain("a/b %", "10.0.0.1".parse().unwrap()).await.unwrap();
    assert_eq!(report.service, "a/b %");
}

#[tokio::test]
async fn the_loops_refusals_arrive_with_their_advice() {
    let served = served(|command| {
        if let Command::Reload { reply, .. } = command {
            let error = CommandError::invalid("error: port is 0\n --> x.toml:3:1").advise("say a port");
            reply.send(Err(error)).unwrap();
        } else if let Command::Order { order: Order::Undrain, reply, .. } = command {
            reply.send(Err(CommandError::failed("maps are gone"))).unwrap();
        } else {
            usual(command);
        }
    });
    let client = served.client();
    let address: IpAddr = "10.9.9.9".parse().unwrap();
    assert_eq!(
        refusal(client.reload().await),
        (422, "error: port is 0\n --> x.toml:3:1".into(), Some("say a port".into()))
    );
    assert_eq!(
        refusal(client.drain("web", address).await),
        (404, "web has no backend 10.9.9.9".into(), Some("meshlb backends".into()))
    );
    assert_eq!(refusal(client.undrain("web", address).await), (500, "maps are gone".into(), None));
}

#[tokio::test]
async fn every_failure_is_json() {
    let served = served(usual);
    for (method, path, status, error) in [
        (Method::GET, "/v2/status", StatusCode::NOT_FOUND, "there is no /v2/status here"),
        (Method::GET, "/", StatusCode::NOT_FOUND, "there is no / here"),
        (Method::DELETE, "/v1/status", StatusCode::METHOD_NOT_ALLOWED, "/v1/status does not take DELETE"),
        (Method::GET, "/v1/reload", StatusCode::METHOD_NOT_ALLOWED, "/v1/reload does not take GET"),
        (Method::GET, "/v1/flows?limit=-1", StatusCode::BAD_REQUEST, "Failed to deserialize query string"),
        (Method::GET, "/v1/trace?outcome=lost", StatusCode::BAD_REQUEST, "there is no outcome lost"),
        (Method::GET, "/v1/trace?flags=256", StatusCode::BAD_REQUEST, "256 is not such a number"),
        (Method::GET, "/v1/trace?client=web", StatusCode::BAD_REQUEST, "web is not a prefix"),
        (Method::GET, "/v1/trace?all=1", StatusCode::BAD_REQUEST, "there is no parameter all"),
        (
            Method::GET,
            "/v1/trace?outcome=too_big&outcome=no_backend&sample=9&service=api",
            StatusCode::NOT_FOUND,
            "no Wanted { service: Some(\"api\"), client: None, backend: None, outcomes: [TooBig, NoBackend], flags: 0, \
             sample: 9 }",
        ),
        (Method::GET, "/v1/explain", StatusCode::BAD_REQUEST, "a packet has at least 14 bytes"),
        (Method::GET, "/v1/explain?packet=0g", StatusCode::BAD_REQUEST, "a packet is written in hexadecimal"),
        (
            Method::GET,
            "/v1/explain?packet=000",
            StatusCode::BAD_REQUEST,
            "a packet is written in hexadecimal",
        ),
        (Method::GET, "/v1/explain?packets=00", StatusCode::BAD_REQUEST, "there is no parameter packets"),
        (Method::GET, "/v1/explain?down=web", StatusCode::BAD_REQUEST, "web is not an IP address"),
        (
            Method::GET,
            "/v1/explain?weight=10.0.0.1=-1",
            StatusCode::BAD_REQUEST,
            "10.0.0.1=-1 is not an address, = and a weight",
        ),
        (
            Method::GET,
            "/v1/explain?interface=eth7&packet=0000000000000000000000000000",
            StatusCode::NOT_FOUND,
            "no Some(\"eth7\")",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/backend-1/drain",
            StatusCode::BAD_REQUEST,
            "backend-1 is not an IP address",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/::1/weight?weight=65536",
            StatusCode::BAD_REQUEST,
            "Failed to deserialize query string",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/::1/heartbeat?failing=a%0Ab",
            StatusCode::BAD_REQUEST,
            "a reason is one line",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/::1/heartbeat?load=-1",
            StatusCode::BAD_REQUEST,
            "a load is a number from 0 to 1000",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/::1/heartbeat?load=NaN",
            StatusCode::BAD_REQUEST,
            "a load is a number",
        ),
        (
            Method::POST,
            "/v1/services/web/backends/::1/heartbeat?load=much",
            StatusCode::BAD_REQUEST,
            "Failed to deserialize query string",
        ),
        (Method::POST, "/v1/maintenance/web", StatusCode::BAD_REQUEST, "web is not an IP address"),
        (
            Method::POST,
            "/v1/maintenance/::1?seconds=18446744073709551615",
            StatusCode::BAD_REQUEST,
            "no order lasts so long",
        ),
        (Method::POST, "/v1/services/%FF/backends/::1/drain", StatusCode::BAD_REQUEST, "Invalid URL"),
    ] {
        let (got, body) = served.failure(method, path).await;
        assert_eq!(got, status, "{path}");
        assert!(body.error.starts_with(error), "{path}: {}", body.error);
    }
}

#[tokio::test]
async fn readiness_follows_the_loop() {
    let served = served(usual);
    let (status, body) = served.failure(Method::GET, "/readyz").await;
    assert_eq!(
        (status, body.error.as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "not ready: tables are being filled")
    );
    served.readiness.send(Readiness::Ready).unwrap();
    assert_eq!(served.request(Method::GET, "/readyz").await, (StatusCode::OK, "ready\n".into()));
    assert_eq!(served.request(Method::GET, "/healthz").await, (StatusCode::OK, "ok\n".into()));
}

#[tokio::test]
async fn a_dead_loop_is_neither_alive_nor_ready() {
    let mut served = served(usual);
    served.readiness.send(Readiness::Ready).unwrap();
    served.loop_task.abort();
    (&mut served.loop_task).await.unwrap_err();
    for path in ["/healthz", "/readyz", "/v1/status"] {
        let (status, body) = served.failure(Method::GET, path).await;
        assert_eq!(
            (status, body.error.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "the agent is stopping"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn splits_are_ordered_by_group_and_taken_back() {
    let served = served(usual);
    let client = served.client();
    let shares = BTreeMap::from([("canary".to_owned(), 20), ("a&b=c".to_owned(), 0)]);
    let report = client.split("a/b %", &shares).await.unwrap();
    let groups = report.groups.into_iter().map(|group| (group.name, group.share)).collect::<BTreeMap<_, _>>();
    assert_eq!((report.service.as_str(), groups, report.is_configured_split), ("a/b %", shares, false));
    assert!(client.reset_split("web").await.unwrap().is_configured_split);
    assert_eq!(refusal(client.reset_split("nobody").await).0, 404);
    let path = "/v1/services/web/split";
    for (query, what) in [
        ("", "no group is named"),
        ("?canary=65536", "canary: number too large"),
        ("?canary=many", "canary: invalid"),
    ] {
        let (status, error) = served.failure(Method::POST, &format!("{path}{query}")).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(error.error.contains(what), "{error:?}");
    }
}
