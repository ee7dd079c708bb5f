//! What was measured of backends, for the services whose shares follow it.

use super::state::Agent;
use crate::{
    config::{Performance, Service, ServiceKey},
    desired::{Backend, Role},
    health,
    performance::Measured,
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

impl Agent {
    /// Learns how backends do, and answers whether a share has changed.
    pub(super) fn measure(&mut self, now: Instant) -> bool {
        let follows = |service: &Service| Some((service.key(), service.performance?));
        let followed: BTreeMap<_, Performance> = self.config.services.iter().filter_map(follows).collect();
        self.factors.keep(|service| followed.contains_key(service));
        if followed.is_empty() {
            return false;
        }
        let (latencies, loads) = (self.inputs.latencies(), self.inputs.loads());
        let mut has_news = false;
        for (service, performance) in followed {
            let measured = self.measured(service, &latencies, &loads);
            has_news |= self.factors.learn(service, performance, &measured, now);
        }
        has_news
    }

    /// Of the backends that take new flows; what the others do says nothing.
    fn measured(
        &self,
        service: ServiceKey,
        latencies: &BTreeMap<health::Key, Duration>,
        loads: &BTreeMap<health::Key, f64>,
    ) -> BTreeMap<IpAddr, Measured> {
        let desired = self.desired.services.get(&service);
        let backends = desired.into_iter().flat_map(|service| &service.backends);
        let measured = |(address, backend): (&IpAddr, &Backend)| {
            let key = health::Key { service, address: *address };
            let nothing = Measured { weight: 0, latency: None, load: None };
            let known = match backend.role {
                Role::Active => Measured {
                    weight: backend.whole,
                    latency: latencies.get(&key).copied(),
                    load: loads.get(&key).copied(),
                },
                Role::Draining | Role::Standby | Role::Ejected | Role::Unknown | Role::Down => nothing,
            };
            (*address, known)
        };
        backends.map(measured).collect()
    }
}
