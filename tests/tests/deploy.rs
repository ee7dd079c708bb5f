//! What is shipped for Kubernetes is what Kubernetes understands, and speaks of this version.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use mesh_userspace::config::{self, DiscoverySource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn deploy(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(file);
    fs::read_to_string(path).unwrap()
}

/// The objects of the file, in its order.
fn objects() -> Vec<Value> {
    let text = deploy("kubernetes/daemonset.yaml");
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn of_kind(kind: &str) -> Value {
    let mut all = objects().into_iter().filter(|object| object["kind"] == kind);
    let one = all.next().unwrap_or_else(|| unreachable!("there is no {kind}"));
    assert!(all.next().is_none(), "several of {kind}");
    one
}

/// The object as Kubernetes' own type, which has nothing left over: what the type does not know is lost on the way.
fn read<T: DeserializeOwned + Serialize>(object: &Value) -> T {
    let read: T = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *object, "left is what Kubernetes understands of it");
    read
}

#[test]
fn every_object_has_only_what_kubernetes_knows() {
    for object in objects() {
        match object["kind"].as_str().unwrap() {
            "Namespace" => drop(read::<Namespace>(&object)),
            "ServiceAccount" => drop(read::<ServiceAccount>(&object)),
            "ClusterRole" => drop(read::<ClusterRole>(&object)),
            "ClusterRoleBinding" => drop(read::<ClusterRoleBinding>(&object)),
            "ConfigMap" => drop(read::<ConfigMap>(&object)),
            "DaemonSet" => drop(read::<DaemonSet>(&object)),
            kind => unreachable!("{kind} is not tested"),
        }
    }
}

#[test]
#[should_panic(expected = "left is what Kubernetes understands of it")]
fn a_misspelt_key_is_found() {
    let mut object = of_kind("DaemonSet");
    object["spec"]["template"]["spec"]["hostNetwrok"] = true.into();
    read::<DaemonSet>(&object);
}

#[test]
fn the_configuration_in_it_is_valid() {
    let map: ConfigMap = read(&of_kind("ConfigMap"));
    let config = config::parse("meshlb.toml", &map.data.unwrap()["meshlb.toml"]).unwrap();
    // What the account may do is for this.
    assert_eq!(config.services[0].discovery.len(), 1);
    assert!(matches!(config.services[0].discovery[0].source, DiscoverySource::Kubernetes(_)));
}

fn container() -> Container {
    let set: DaemonSet = read(&of_kind("DaemonSet"));
    set.spec.unwrap().template.spec.unwrap().containers.remove(0)
}

#[test]
fn the_container_has_the_capabilities_of_the_unit() {
    let unit = deploy("meshlb.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let of_unit: BTreeSet<_> = line.split(' ').map(|name| name.replace("CAP_", "")).collect();
    let given = container().security_context.unwrap().capabilities.unwrap();
    assert_eq!(given.add.unwrap().into_iter().collect::<BTreeSet<_>>(), of_unit);
    assert_eq!(given.drop.unwrap(), ["ALL"]);
}

#[test]
fn the_image_is_of_this_version() {
    let tag = format!("meshlb:{VERSION}");
    assert_eq!(container().image.unwrap(), tag);
    assert!(deploy("Containerfile").contains(&format!("--tag {tag} ")));
}
