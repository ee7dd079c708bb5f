//! What connections to backends come to, for the services that eject those that fail clients.

use super::state::Agent;
use crate::{
    config::{Passive, Service, ServiceKey},
    desired::{Backend, Role},
    health::{self, Tally},
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

impl Agent {
    /// Learns what connections came to, and answers whether somebody is ejected or comes back.
    pub(super) fn judge(&mut self, now: Instant) -> bool {
        let judged = |service: &Service| Some((service.key(), service.passive?));
        let judged: BTreeMap<_, Passive> = self.config.services.iter().filter_map(judged).collect();
        let mut has_news = self.outliers.keep(|service| judged.contains_key(service));
        if judged.is_empty() {
            return has_news;
        }
        let members = self.members();
        for (service, rules) in judged {
            let ids = self.entry(service).and_then(|entry| members.get(&entry.id));
            let Some(ids) = ids else { continue };
            let tallies = self.tallies(service, ids);
            has_news |= self.outliers.learn(service, rules, &tallies, now);
        }
        has_news
    }

    /// Of the backends that take new flows, or could.
    fn tallies(&self, service: ServiceKey, ids: &BTreeMap<IpAddr, u32>) -> BTreeMap<IpAddr, Option<Tally>> {
        let desired = self.desired.services.get(&service);
        let backends = desired.into_iter().flat_map(|service| &service.backends);
        let tally = |(address, backend): (&IpAddr, &Backend)| {
            let is_used = match backend.role {
                Role::Active | Role::Ejected | Role::Standby => {
                    backend.next_hop.is_some() && backend.whole > 0
                }
                Role::Draining | Role::Unknown | Role::Down => false,
            };
            let id = ids.get(address).filter(|_| is_used);
            // What cannot be read is a problem that the status tells.
            (*address, id.and_then(|id| self.reconciler.tally(*id).ok()))
        };
        backends.map(tally).collect()
    }

    /// Why a backend gets no new flows, and for how long; none if it is not for its failures.
    pub(super) fn ejected(&self, key: &health::Key, backend: Option<&Backend>) -> Option<String> {
        let ejection =
            self.outliers.of(key).filter(|_| backend.is_some_and(|it| it.role == Role::Ejected))?;
        let left = ejection.until.saturating_duration_since(super::clock::now());
        // As long as a part of a second is left, so is a second.
        let left = Duration::from_secs(left.as_secs() + u64::from(left.subsec_nanos() > 0));
        Some(format!("{}; it gets new ones again in {}", ejection.reason, humantime::format_duration(left)))
    }
}
