//! Configuration and reports, made one. Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Instance, Reports};
use crate::config::{self, Backend, Config, Discovery, Forward, NatSource, Ports, Service};
use crate::health::Key;

/// What the agent runs on: as if all backends were configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Combined {
    /// The configuration with the backends that sources know.
    pub config: Config,
    /// Which source each backend is from; those that are missing are configured.
    pub origins: BTreeMap<Key, String>,
    /// What is left out, and whose word stands where two disagree; one sentence each.
    pub remarks: Vec<String>,
}

/// Adds to the services of a configuration the backends that their sources know. A backend that is configured, or that
/// an earlier source of the service knows, is what is said there.
#[must_use]
pub fn combine(written: &Config, reports: &Reports) -> Combined {
    let mut combined = Combined { config: written.clone(), origins: BTreeMap::new(), remarks: Vec::new() };
    let configured: usize = written.services.iter().map(|service| service.backends.len()).sum();
    let most = usize::try_from(written.limits.backends).unwrap_or(usize::MAX);
    let mut room = most.saturating_sub(configured);
    for service in &mut combined.config.services {
        let mut joint = Joint::of(service, room);
        for discovery in &service.discovery {
            joint.add(discovery, reports);
        }
        combined.origins.extend(
            joint
                .origins
                .into_iter()
                .map(|(address, source)| (Key { service: service.key(), address }, source)),
        );
        combined.remarks.extend(joint.remarks);
        room = joint.room;
        service.backends = joint.backends;
    }
    combined
}

/// The backends of one service, from all that know any.
struct Joint<'a> {
    service: &'a Service,
    backends: Vec<Backend>,
    places: BTreeMap<IpAddr, usize>,
    origins: BTreeMap<IpAddr, String>,
    remarks: Vec<String>,
    /// How many more backends the maps have places for.
    room: usize,
}

/// Why an instance is no backend of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Misfit {
    /// It is registered with another port.
    Port,
    /// It is of another family than the VIP, and packets are not wrapped.
    Family,
    /// No packet can be sent to it.
    Address,
    /// The maps have no place for it.
    Room,
}

impl<'a> Joint<'a> {
    fn of(service: &'a Service, room: usize) -> Self {
        let places = service.backends.iter().enumerate().map(|(place, it)| (it.address, place)).collect();
        let backends = service.backends.clone();
        Self { service, backends, places, origins: BTreeMap::new(), remarks: Vec::new(), room }
    }

    fn add(&mut self, discovery: &Discovery, reports: &Reports) {
        let source = discovery.source.to_string();
        let Some(snapshot) = reports.get(&source).and_then(|report| report.snapshot.clone()) else { return };
        // Translated packets get the port that the instance has.
        let usual = if self.service.nat.is_some() { Ports::ANY } else { self.service.ports };
        let ports = discovery.ports.unwrap_or(usual);
        let mut misfits: BTreeMap<Misfit, Vec<&Instance>> = BTreeMap::new();
        let mut disputed = Vec::new();
        for instance in snapshot.instances() {
            match misfit(instance, ports, self.service) {
                Some(why) => misfits.entry(why).or_default().push(instance),
                None if self.is_known(instance) => disputed.extend(self.dispute(instance, discovery)),
                None if self.room == 0 => misfits.entry(Misfit::Room).or_default().push(instance),
                None => self.join(instance, discovery, &source),
            }
        }
        for (why, instances) in misfits {
            self.remarks.extend(self.left_out(&source, ports, why, &instances));
        }
        self.remarks.extend(self.overruled(&source, &disputed));
    }

    fn is_known(&self, instance: &Instance) -> bool {
        self.places.contains_key(&instance.address)
    }

    /// The address, if what is said of it is not what stands.
    fn dispute(&self, instance: &Instance, by: &Discovery) -> Option<IpAddr> {
        let stands = self.places.get(&instance.address).and_then(|place| self.backends.get(*place));
        (stands != Some(&backend(instance, by, self.service))).then_some(instance.address)
    }

    fn join(&mut self, instance: &Instance, by: &Discovery, source: &str) {
        self.places.insert(instance.address, self.backends.len());
        self.backends.push(backend(instance, by, self.service));
        self.origins.insert(instance.address, source.to_owned());
        self.room = self.room.saturating_sub(1);
    }

    fn left_out(&self, source: &str, ports: Ports, why: Misfit, instances: &[&Instance]) -> Option<String> {
        let (first, count, name) = (instances.first()?, instances.len(), &self.service.name);
        let shown = first
            .port
            .map_or_else(|| first.address.to_string(), |port| format!("{} port {port}", first.address));
        let why = match why {
            Misfit::Port => format!("with other ports than {ports}"),
            Misfit::Family => "of another family than the VIP".to_owned(),
            Misfit::Address => "that no packet can be sent to".to_owned(),
            Misfit::Room => "beyond limits.backends".to_owned(),
        };
        Some(format!(
            "service {name:?}: {source} has instances {why}, which are left out: {count}, such as {shown}"
        ))
    }

    fn overruled(&self, source: &str, disputed: &[IpAddr]) -> Option<String> {
        let (first, count, name) = (disputed.first()?, disputed.len(), &self.service.name);
        let stands = self.origins.get(first).map_or("the configuration", String::as_str);
        Some(format!(
            "service {name:?}: {source} says something else of backends than {stands}, whose word stands: {count}, \
             such as {first}"
        ))
    }
}

/// As a backend, with what the service says of all that the source knows.
fn backend(instance: &Instance, by: &Discovery, service: &Service) -> Backend {
    Backend {
        address: instance.address,
        weight: instance.weight.unwrap_or(by.weight),
        group: by.group.clone(),
        priority: instance.priority.saturating_add(by.priority),
        port: instance.port.filter(|_| service.nat.is_some()),
        standing: instance.standing,
    }
}

/// Whether backends have to be of the VIP's family.
fn keeps_family(service: &Service) -> bool {
    let keeps_address = service.nat.as_ref().is_some_and(|nat| nat.source == NatSource::Keep);
    service.forward == Forward::L2 || keeps_address
}

fn misfit(instance: &Instance, ports: Ports, service: &Service) -> Option<Misfit> {
    let is_ipv4 = service.vip.addr().is_ipv4();
    if !instance.port.is_none_or(|port| ports.contain(port)) {
        Some(Misfit::Port)
    } else if !config::is_host(instance.address) || service.vip.contains(&instance.address) {
        Some(Misfit::Address)
    } else if keeps_family(service) && instance.address.is_ipv4() != is_ipv4 {
        Some(Misfit::Family)
    } else {
        None
    }
}
