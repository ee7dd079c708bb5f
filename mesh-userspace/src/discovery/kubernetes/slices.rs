//! EndpointSlices and what happens to them. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use kube::api::{ObjectList, WatchEvent};

use super::KubernetesError;
use crate::config::Standing;
use crate::discovery::{Instance, Snapshot};

/// The slices of a service at one version.
#[derive(Debug)]
pub(super) struct Slices {
    /// The port that counts; `None`: each.
    port_name: Option<String>,
    version: String,
    /// What each says.
    instances: BTreeMap<String, Vec<Instance>>,
}

impl Slices {
    /// As they were listed.
    pub(super) fn of(
        list: ObjectList<EndpointSlice>,
        port_name: Option<&str>,
    ) -> Result<Self, KubernetesError> {
        let version = list.metadata.resource_version.filter(|version| !version.is_empty());
        let version =
            version.ok_or_else(|| KubernetesError::Malformed("the list has no version".to_owned()))?;
        let mut slices =
            Self { port_name: port_name.map(str::to_owned), version, instances: BTreeMap::new() };
        list.items.iter().try_for_each(|slice| slices.put(slice))?;
        Ok(slices)
    }

    /// From which on changes are to be told.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// Takes a change in. After an error it has to be listed again.
    pub(super) fn apply(&mut self, event: WatchEvent<EndpointSlice>) -> Result<(), KubernetesError> {
        match event {
            WatchEvent::Added(slice) | WatchEvent::Modified(slice) => {
                self.put(&slice)?;
                self.reach(&slice)
            }
            WatchEvent::Deleted(slice) => {
                self.instances.remove(&name(&slice));
                self.reach(&slice)
            }
            WatchEvent::Bookmark(bookmark) => {
                self.version = bookmark.metadata.resource_version;
                Ok(())
            }
            WatchEvent::Error(status) => Err((*status).into()),
        }
    }

    fn reach(&mut self, slice: &EndpointSlice) -> Result<(), KubernetesError> {
        let version = slice.metadata.resource_version.clone();
        self.version = version.ok_or_else(|| wrong(slice, "it has no version".to_owned()))?;
        Ok(())
    }

    fn put(&mut self, slice: &EndpointSlice) -> Result<(), KubernetesError> {
        let instances = instances(slice, self.port_name.as_deref()).map_err(|reason| wrong(slice, reason))?;
        self.instances.insert(name(slice), instances);
        Ok(())
    }

    /// Who is there. While endpoints move from one slice to another they are in both: what the better one says counts.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut best: BTreeMap<(IpAddr, Option<u16>), Instance> = BTreeMap::new();
        for instance in self.instances.values().flatten() {
            let known = best.entry((instance.address, instance.port)).or_insert(*instance);
            if rank(instance.standing) < rank(known.standing) {
                *known = *instance;
            }
        }
        best.into_values().collect()
    }
}

/// Better ones first.
const fn rank(standing: Standing) -> u8 {
    match standing {
        Standing::Ready => 0,
        Standing::Draining => 1,
        Standing::Failing => 2,
    }
}

fn name(slice: &EndpointSlice) -> String {
    slice.metadata.name.clone().unwrap_or_default()
}

fn wrong(slice: &EndpointSlice, reason: String) -> KubernetesError {
    KubernetesError::Slice { name: name(slice), reason }
}

fn instances(slice: &EndpointSlice, port_name: Option<&str>) -> Result<Vec<Instance>, String> {
    match slice.address_type.as_str() {
        "IPv4" | "IPv6" => {}
        // "No semantics are defined" (Kubernetes' API, EndpointSlice); nobody makes them.
        "FQDN" => return Ok(Vec::new()),
        other => return Err(format!("the type of its addresses is {other:?}")),
    }
    let ports = ports(slice.ports.as_deref().unwrap_or_default(), port_name)?;
    let mut instances = Vec::new();
    for endpoint in &slice.endpoints {
        let (address, standing) = (address(endpoint)?, standing(endpoint.conditions.as_ref()));
        instances.extend(ports.iter().map(|port| Instance { standing, ..Instance::new(address, *port) }));
    }
    Ok(instances)
}

/// The ports that an endpoint is registered with. Where none is defined, and where one stands for all, there is no port.
fn ports(ports: &[EndpointPort], port_name: Option<&str>) -> Result<Vec<Option<u16>>, String> {
    if ports.is_empty() && port_name.is_none() {
        return Ok(vec![None]);
    }
    let counts =
        |port: &&EndpointPort| port_name.is_none_or(|name| port.name.as_deref().unwrap_or_default() == name);
    let number = |port: &EndpointPort| match port.port {
        None => Ok(None),
        Some(number) => u16::try_from(number).map(Some).map_err(|_error| format!("{number} is no port")),
    };
    ports.iter().filter(counts).map(number).collect()
}

/// The first: "no semantics are defined for additional addresses" (Kubernetes' API, Endpoint).
fn address(endpoint: &Endpoint) -> Result<IpAddr, String> {
    let address = endpoint.addresses.first().ok_or("one of its endpoints has no address")?;
    address.parse().map_err(|_error| format!("{address:?} is no address"))
}

/// What the conditions come to (Kubernetes' API, EndpointConditions, which says what missing ones mean): `ready` comes
/// first, for the service may want endpoints to be treated so whatever they are.
fn standing(conditions: Option<&EndpointConditions>) -> Standing {
    let of = |condition: fn(&EndpointConditions) -> Option<bool>| conditions.and_then(condition);
    let ready = of(|conditions| conditions.ready).unwrap_or(true);
    let serving = of(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = of(|conditions| conditions.terminating).unwrap_or(false);
    match (ready, serving, terminating) {
        (true, _, _) => Standing::Ready,
        (false, true, true) => Standing::Draining,
        (false, _, _) => Standing::Failing,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, ports: &Value, endpoints: &Value) -> EndpointSlice {
        let slice = json!({
            "metadata": { "name": name, "resourceVersion": "7" },
            "addressType": "IPv4",
            "ports": ports,
            "endpoints": endpoints,
        });
        serde_json::from_value(slice).unwrap()
    }

    fn http() -> Value {
        json!([{ "name": "http", "port": 8080, "protocol": "TCP" }, { "name": "admin", "port": 9090 }])
    }

    fn endpoint(address: &str, conditions: &Value) -> Value {
        json!({ "addresses": [address, "192.0.2.99"], "conditions": conditions })
    }

    fn listed(slices: &[EndpointSlice], port_name: Option<&str>) -> Result<Slices, String> {
        let mut list: ObjectList<EndpointSlice> =
            serde_json::from_value(json!({ "metadata": { "resourceVersion": "7" }, "items": [] })).unwrap();
        list.items = slices.to_vec();
        Slices::of(list, port_name).map_err(|error| error.to_string())
    }

    fn at(last: u8, port: Option<u16>, standing: Standing) -> Instance {
        Instance { standing, ..Instance::new([10, 0, 0, last].into(), port) }
    }

    fn ready(lasts: &[u8]) -> Snapshot {
        lasts.iter().map(|last| at(*last, Some(8080), Standing::Ready)).collect()
    }

    #[test]
    fn conditions_come_to_a_state() {
        let cases = [
            (json!(null), Standing::Ready),
            (json!({}), Standing::Ready),
            (json!({ "ready": true, "serving": true, "terminating": false }), Standing::Ready),
            (json!({ "ready": false, "serving": false, "terminating": false }), Standing::Failing),
            (json!({ "ready": false }), Standing::Failing),
            (json!({ "ready": false, "serving": true, "terminating": true }), Standing::Draining),
            (json!({ "ready": false, "serving": false, "terminating": true }), Standing::Failing),
            (json!({ "ready": false, "terminating": true }), Standing::Failing),
            (json!({ "ready": false, "serving": true }), Standing::Failing),
            // The service publishes what is not ready.
            (json!({ "ready": true, "serving": false, "terminating": true }), Standing::Ready),
        ];
        for (conditions, standing) in cases {
            let slice = slice("a", &http(), &json!([endpoint("10.0.0.1", &conditions)]));
            let found = listed(&[slice], Some("http")).unwrap().snapshot();
            assert_eq!(found.instances(), [at(1, Some(8080), standing)], "{conditions}");
        }
    }

    #[test]
    fn ports_count_by_their_name() {
        let found = |ports: &Value, port_name| {
            let slice = slice("a", ports, &json!([endpoint("10.0.0.1", &json!(null))]));
            let snapshot = listed(&[slice], port_name)?.snapshot();
            Ok::<_, String>(snapshot.instances().iter().map(|it| it.port).collect::<Vec<_>>())
        };
        assert_eq!(found(&http(), None).unwrap(), [Some(8080), Some(9090)]);
        assert_eq!(found(&http(), Some("admin")).unwrap(), [Some(9090)]);
        assert_eq!(found(&http(), Some("other")).unwrap(), []);
        assert_eq!(found(&json!(null), None).unwrap(), [None]);
        assert_eq!(found(&json!([]), Some("http")).unwrap(), []);
        assert_eq!(found(&json!([{ "name": "http" }]), Some("http")).unwrap(), [None]);
        assert_eq!(
            found(&json!([{ "port": 65536 }]), None).unwrap_err(),
            r#"the EndpointSlice "a" is not understood: 65536 is no port"#
        );
    }

    #[test]
    fn an_endpoint_in_two_slices_is_what_the_better_says() {
        let one = |name, conditions: Value| slice(name, &http(), &json!([endpoint("10.0.0.1", &conditions)]));
        let failing = one("a", json!({ "ready": false }));
        let draining = one("b", json!({ "ready": false, "serving": true, "terminating": true }));
        let found = |slices: &[EndpointSlice]| listed(slices, Some("http")).unwrap().snapshot();
        let is = |standing| Snapshot::from_iter([at(1, Some(8080), standing)]);
        assert_eq!(found(&[failing.clone(), draining.clone()]), is(Standing::Draining));
        assert_eq!(found(&[failing, draining, one("c", json!(null))]), is(Standing::Ready));
    }

    #[test]
    fn slices_that_make_no_sense_are_refused() {
        let of_type = |address_type: &str, endpoints: Value| {
            let slice =
                EndpointSlice { address_type: address_type.to_owned(), ..slice("a", &http(), &endpoints) };
            listed(&[slice], Some("http")).map(|slices| slices.snapshot().instances().len())
        };
        assert_eq!(of_type("IPv4", json!(null)), Ok(0));
        assert_eq!(of_type("FQDN", json!([{ "addresses": ["a.example"] }])), Ok(0));
        assert_eq!(of_type("IPv6", json!([{ "addresses": ["2001:db8::1"] }])), Ok(1));
        let cases = [
            ("IPX", json!([]), "the type of its addresses is \"IPX\""),
            ("", json!([]), "the type of its addresses is \"\""),
            ("IPv4", json!([{ "addresses": [] }]), "has no address"),
            ("IPv4", json!([{ "addresses": ["a.example"] }]), "\"a.example\" is no address"),
        ];
        for (address_type, endpoints, reason) in cases {
            let error = of_type(address_type, endpoints).unwrap_err();
            assert!(error.contains(reason), "no {reason:?} in {error}");
        }
    }

    fn event(kind: &str, object: &Value) -> WatchEvent<EndpointSlice> {
        serde_json::from_value(json!({ "type": kind, "object": object })).unwrap()
    }

    fn changed(name: &str, version: &str, address: &str) -> Value {
        json!({
            "metadata": { "name": name, "resourceVersion": version }, "addressType": "IPv4", "ports": http(),
            "endpoints": [endpoint(address, &json!(null))],
        })
    }

    #[test]
    fn changes_are_taken_in_and_lead_to_their_version() {
        let first = slice("a", &http(), &json!([endpoint("10.0.0.1", &json!(null))]));
        let mut slices = listed(&[first], Some("http")).unwrap();
        assert_eq!((slices.snapshot(), slices.version()), (ready(&[1]), "7"));
        slices.apply(event("ADDED", &changed("b", "8", "10.0.0.2"))).unwrap();
        assert_eq!((slices.snapshot(), slices.version()), (ready(&[1, 2]), "8"));
        slices.apply(event("MODIFIED", &changed("a", "9", "10.0.0.3"))).unwrap();
        assert_eq!((slices.snapshot(), slices.version()), (ready(&[2, 3]), "9"));
        slices.apply(event("DELETED", &changed("b", "10", "10.0.0.2"))).unwrap();
        assert_eq!((slices.snapshot(), slices.version()), (ready(&[3]), "10"));
        let bookmark = json!({
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": { "resourceVersion": "20" },
        });
        slices.apply(event("BOOKMARK", &bookmark)).unwrap();
        assert_eq!((slices.snapshot(), slices.version()), (ready(&[3]), "20"));
        let status = |code| json!({ "kind": "Status", "status": "Failure", "code": code, "message": "m", "reason": "r" });
        assert!(slices.apply(event("ERROR", &status(410))).unwrap_err().is_gone());
        assert!(!slices.apply(event("ERROR", &status(500))).unwrap_err().is_gone());
    }

    #[test]
    fn a_list_has_a_version() {
        let list = serde_json::from_value(json!({ "metadata": {}, "items": [] })).unwrap();
        assert!(Slices::of(list, None).unwrap_err().to_string().contains("the list has no version"));
    }
}
