//! Floods: services where more flows begin than are remembered.

use super::state::Agent;
use crate::{
    config::ServiceKey,
    dataplane::Dataplane as _,
    events::{Happening, Kind},
};
use mesh_common::flood::Flood;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// For how long a service has to be quiet until its flood is taken to be over.
const QUIET: Duration = Duration::from_secs(10);

/// Which services are flooded.
#[derive(Debug, Default)]
pub(super) struct Floods {
    /// What was counted when it was looked at last.
    counted: BTreeMap<ServiceKey, [u64; 2]>,
    /// When too many flows were seen to begin last.
    last: BTreeMap<ServiceKey, Instant>,
}

impl Floods {
    /// Takes a service's counts, and says whether its flood has begun or ended.
    fn count(&mut self, key: ServiceKey, flood: &Flood, now: Instant) -> Option<bool> {
        let is_news = self.counted.insert(key, flood.begun).is_some_and(|before| before != flood.begun);
        let newest = flood.begun.iter().max().map_or(0, |word| word >> 32);
        let over = flood.begun.iter().any(|word| {
            let count = u32::try_from(word & u64::from(u32::MAX)).unwrap_or(u32::MAX);
            // The one before the newest is a whole one.
            (word >> 32) + 1 >= newest && flood.is_over(count)
        });
        if is_news && over {
            return self.last.insert(key, now).is_none().then_some(true);
        }
        let is_past = self.last.get(&key).is_some_and(|last| now.saturating_duration_since(*last) >= QUIET);
        if is_past {
            self.last.remove(&key);
        }
        is_past.then_some(false)
    }

    /// Whether a service is flooded.
    pub(super) fn has(&self, key: ServiceKey) -> bool {
        self.last.contains_key(&key)
    }
}

impl Agent {
    /// Looks where more flows begin than are remembered.
    pub(super) fn watch_floods(&mut self, now: Instant) {
        let mut happenings = Vec::new();
        for service in &self.config.services {
            let Some(id) = self.entry(service.key()).map(|entry| entry.id) else { continue };
            let flood = self.reconciler.dataplane().flood(id);
            let about = match (self.floods.count(service.key(), &flood, now), service.nat.is_some()) {
                (Some(true), true) => {
                    "too many flows begin: SYNs are answered by cookies, datagrams of more new flows dropped"
                }
                (Some(true), false) => "too many flows begin: those that need no record get none",
                (Some(false), _) => "no more flows begin than are remembered",
                (None, _) => continue,
            };
            happenings.push(Happening::new(Kind::Service, about).of(&service.name));
        }
        let services = &self.config.services;
        self.floods.counted.retain(|key, _| services.iter().any(|service| service.key() == *key));
        self.floods.last.retain(|key, _| services.iter().any(|service| service.key() == *key));
        self.tell(happenings);
    }

    /// Services that somebody should look at.
    pub(super) fn flood_problems(&self) -> impl Iterator<Item = String> {
        let flooded = self.config.services.iter().filter(|service| self.floods.has(service.key()));
        flooded.map(|service| {
            format!("service {} is flooded: more flows begin than are remembered", service.name)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Protocol;

    #[test]
    fn a_flood_is_told_of_when_it_begins_and_when_it_is_over() {
        let key = ServiceKey::exact([192, 0, 2, 1].into(), 80, Protocol::Tcp);
        let (mut floods, start) = (Floods::default(), Instant::now());
        let mut told = |begun: [(u64, u64); 2], seconds| {
            let begun = begun.map(|(tick, count)| tick << 32 | count);
            let flood = Flood { begun, limit: 100, answered: 0 };
            let told = floods.count(key, &flood, start + Duration::from_secs(seconds));
            (told, floods.has(key))
        };
        assert_eq!(told([(4, 500), (5, 500)], 0), (None, false), "from before");
        assert_eq!(told([(4, 500), (5, 500)], 1), (None, false));
        assert_eq!(told([(8, 100), (9, 100)], 2), (None, false));
        assert_eq!(told([(10, 7), (9, 101)], 3), (Some(true), true));
        assert_eq!(told([(10, 500), (9, 101)], 4), (None, true));
        assert_eq!(told([(10, 500), (9, 101)], 13), (None, true));
        assert_eq!(told([(10, 500), (21, 3)], 14), (Some(false), false));
        assert_eq!(told([(22, 9), (21, 3)], 15), (None, false));
    }
}
