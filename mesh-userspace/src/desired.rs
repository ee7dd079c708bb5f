//! What the dataplane should hold: a pure function of configuration, health, next hops and the operator's orders.

use crate::{
    config::{self, Config, Forward, OnNoBackends, Quic, Scheduler, ServiceKey, Standing, Tracking},
    delivery::Delivery,
    health::{self, State, Verdict},
    maglev::Share,
    nexthop::{NextHop, Resolution},
    overrides::Overrides,
    performance::Factors,
};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Steps in which the share of a backend grows that starts slowly; each moves slots.
const STEPS: u16 = 10;

/// What a backend is to new flows and to those it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes new flows.
    Active,
    /// Keeps its flows and takes no new ones: the operator or its source drains it, or its weight is 0.
    Draining,
    /// Keeps its flows and takes no new ones while a backend of a lower priority's number does.
    Standby,
    /// Its probes have not spoken yet: keeps flows, takes no new ones.
    Unknown,
    /// Its probes fail, or its source says that it does: keeps nothing.
    Down,
}

/// A backend as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// What it is to flows.
    pub role: Role,
    /// Its share of new flows now.
    pub weight: u16,
    /// Its share, were it not for slow starts and measurements.
    pub whole: u16,
    /// Whether its share grows with time.
    pub starting: bool,
    /// The way to it, once known.
    pub next_hop: Option<NextHop>,
}

impl Backend {
    /// Whether flows may stay on it.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.role != Role::Down
    }
}

/// A service as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The name that people use.
    pub name: String,
    /// How packets reach the backends.
    pub delivery: Delivery,
    /// How new flows find their slots.
    pub scheduler: Scheduler,
    /// Flows that there may be at a time; 0: any number.
    pub max_flows: u32,
    /// Whether senders are told where there is no backend.
    pub reject: bool,
    /// Which flows are recorded.
    pub tracking: Tracking,
    /// How long a slot migrates.
    pub window: Duration,
    /// Slots, if the service is new.
    pub table_size: u32,
    /// Whether too few backends are healthy, so that all are used.
    pub panic: bool,
    /// Its backends by address.
    pub backends: BTreeMap<IpAddr, Backend>,
    /// How connection ids are read, and whose the server ids in them are.
    pub quic: Vec<Quic>,
}

impl Service {
    /// Who takes new flows: active, with a weight and a known way.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let takes = |backend: &Backend| {
            backend.role == Role::Active && backend.weight > 0 && backend.next_hop.is_some()
        };
        let active = self.backends.iter().filter(|(_, backend)| takes(backend));
        active.map(|(address, backend)| Share { address: *address, weight: backend.weight.into() }).collect()
    }
}

/// What the dataplane should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Every service.
    pub services: BTreeMap<ServiceKey, Service>,
}

/// All that decides what is desired.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The configuration in force, with the backends that were discovered.
    pub config: &'a Config,
    /// What the probes say.
    pub verdicts: &'a BTreeMap<health::Key, Verdict>,
    /// What the kernel's routes and neighbours say.
    pub next_hops: &'a BTreeMap<IpAddr, Resolution>,
    /// What the operator wants otherwise.
    pub overrides: &'a Overrides,
    /// How far shares follow measurements.
    pub factors: &'a Factors,
    /// Now.
    pub now: Instant,
}

impl Desired {
    /// Whether some backend's share grows with time.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        let mut backends = self.services.values().flat_map(|service| service.backends.values());
        backends.any(|backend| backend.role == Role::Active && backend.starting)
    }
}

/// What follows from the inputs.
#[must_use]
pub fn desired(inputs: Inputs<'_>) -> Desired {
    Desired {
        services: inputs
            .config
            .services
            .iter()
            .map(|service| (service.key(), one(service, inputs)))
            .collect(),
    }
}

impl Forward {
    /// Whether packets forwarded in this way arrive over this next hop: direct return changes nothing but the Ethernet
    /// addresses, and a router would send the packet for the VIP back.
    #[must_use]
    pub const fn reaches(self, hop: &NextHop) -> bool {
        match self {
            Self::L2 => hop.direct,
            Self::Ipip | Self::Gue | Self::Geneve => true,
        }
    }
}

fn one(service: &config::Service, inputs: Inputs<'_>) -> Service {
    let mut backends: BTreeMap<_, _> =
        service.backends.iter().map(|backend| (backend.address, member(service, backend, inputs))).collect();
    let panic = is_panic(service.health.as_ref().map_or(0, |health| health.panic_threshold), &backends);
    if panic {
        backends.values_mut().filter(|b| matches!(b.role, Role::Down)).for_each(|b| b.role = Role::Active);
    }
    hold_back(service, &mut backends);
    Service {
        name: service.name.clone(),
        delivery: Delivery::of(service, inputs.config.agent.outer_source),
        scheduler: service.scheduler,
        max_flows: service.max_flows.unwrap_or(0),
        reject: service.on_no_backends == OnNoBackends::Reject,
        tracking: service.tracking,
        window: service.window,
        table_size: service.table_size(),
        panic,
        backends,
        quic: service.quic.clone(),
    }
}

fn member(service: &config::Service, backend: &config::Backend, inputs: Inputs<'_>) -> Backend {
    let key = health::Key { service: service.key(), address: backend.address };
    let state = match (&service.health, inputs.verdicts.get(&key)) {
        (None, _) => State::Up,
        (Some(_), None) => State::Unknown,
        (Some(_), Some(verdict)) => verdict.state,
    };
    let weight = inputs.overrides.of(&key).weight.unwrap_or(backend.weight);
    let idle = weight == 0 || inputs.overrides.is_drained(&key) || backend.standing == Standing::Draining;
    let role = match (state, backend.standing) {
        (State::Down, _) | (_, Standing::Failing) => Role::Down,
        (State::Unknown, _) => Role::Unknown,
        (State::Up, _) if idle => Role::Draining,
        (State::Up, _) => Role::Active,
    };
    let next_hop = match inputs.next_hops.get(&backend.address) {
        Some(Resolution::Resolved(hop)) if service.forward.reaches(hop) => Some(*hop),
        Some(Resolution::Resolved(_) | Resolution::Unresolved { .. }) | None => None,
    };
    let whole = if idle { 0 } else { weight };
    let risen = inputs.verdicts.get(&key).and_then(|verdict| verdict.risen);
    let age = risen.map(|risen| inputs.now.saturating_duration_since(risen));
    let slow_start = service.health.as_ref().map_or(Duration::ZERO, |health| health.slow_start);
    let share = inputs.factors.apply(&key, whole);
    let weight = started(share, slow_start, age);
    Backend { role, weight, whole, starting: weight < share, next_hop }
}

/// The share of a backend that came up so long ago: it grows from a tenth in equal steps.
fn started(whole: u16, slow_start: Duration, age: Option<Duration>) -> u16 {
    let Some(age) = age.filter(|age| *age < slow_start && whole > 0) else { return whole };
    let passed = age.as_nanos() * u128::from(STEPS) / slow_start.as_nanos().max(1);
    let share = u128::from(whole) * (passed + 1) / u128::from(STEPS);
    u16::try_from(share).unwrap_or(whole).clamp(1, whole)
}

/// Leaves new flows to the lowest priority number of which a backend can take them.
fn hold_back(service: &config::Service, backends: &mut BTreeMap<IpAddr, Backend>) {
    let can = |backend: &&config::Backend| {
        let known = backends.get(&backend.address);
        known.is_some_and(|backend| backend.role == Role::Active && backend.next_hop.is_some())
    };
    let Some(first) = service.backends.iter().filter(can).map(|backend| backend.priority).min() else {
        return;
    };
    for later in service.backends.iter().filter(|backend| backend.priority > first) {
        if let Some(backend) = backends.get_mut(&later.address).filter(|it| it.role == Role::Active) {
            backend.role = Role::Standby;
        }
    }
}

/// Whether the healthy part of the weight is none, or below the threshold in percent. Backends that take no new
/// flows do not count, and neither do those whose probes have not spoken.
fn is_panic(threshold: u8, backends: &BTreeMap<IpAddr, Backend>) -> bool {
    let weigh = |role: Role| -> u64 {
        backends.values().filter(|backend| backend.role == role).map(|backend| u64::from(backend.whole)).sum()
    };
    let (healthy, failed) = (weigh(Role::Active), weigh(Role::Down));
    let unknown = backends.values().any(|backend| backend.role == Role::Unknown);
    failed > 0 && !unknown && (healthy == 0 || healthy * 100 < u64::from(threshold) * (healthy + failed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Measure, Performance},
        performance::Measured,
    };
    use std::time::SystemTime;

    const CONFIG: &str = r#"
        [agent]
        interfaces = ["eth0"]
        [[service]]
        name = "web"
        vip = "203.0.113.10"
        port = 80
        protocol = "tcp"
        forward = "ipip"
        [service.health]
        kind = "tcp"
        panic_threshold = 40
        [[service.backend]]
        address = "10.0.0.1"
        [[service.backend]]
        address = "10.0.0.2"
        [[service.backend]]
        address = "10.0.0.3"
    "#;

    fn shares(states: [State; 3], drained: &[u8]) -> (Vec<u8>, bool) {
        wanted(&config::parse("test", CONFIG).unwrap(), states, drained)
    }

    /// The same where sources say something of the backends: priorities and standings.
    fn said(states: [State; 3], said: [(u16, Standing); 3]) -> (Vec<u8>, bool) {
        let mut config = config::parse("test", CONFIG).unwrap();
        for (backend, (priority, standing)) in config.services[0].backends.iter_mut().zip(said) {
            (backend.priority, backend.standing) = (priority, standing);
        }
        wanted(&config, states, &[])
    }

    fn wanted(config: &Config, states: [State; 3], drained: &[u8]) -> (Vec<u8>, bool) {
        let key =
            |last: u8| health::Key { service: config.services[0].key(), address: [10, 0, 0, last].into() };
        let verdict = |state| Verdict { state, ..Verdict::unknown(SystemTime::UNIX_EPOCH) };
        let verdicts = (1u8..).zip(states).map(|(last, state)| (key(last), verdict(state))).collect();
        let hop = NextHop::some();
        let next_hops = (1..4).map(|last| ([10, 0, 0, last].into(), Resolution::Resolved(hop))).collect();
        let mut overrides = Overrides::default();
        for last in drained {
            overrides.set(key(*last), |order| order.drained = true);
        }
        let desired = desired(Inputs {
            config,
            verdicts: &verdicts,
            next_hops: &next_hops,
            overrides: &overrides,
            factors: &Factors::default(),
            now: Instant::now(),
        });
        let service = &desired.services[&config.services[0].key()];
        let last = |share: &Share| *super::super::dataplane::wire_address(share.address).last().unwrap();
        (service.shares().iter().map(last).collect(), service.panic)
    }

    #[test]
    fn healthy_backends_share_new_flows() {
        assert_eq!(shares([State::Up, State::Up, State::Up], &[]), (vec![1, 2, 3], false));
        assert_eq!(shares([State::Up, State::Down, State::Up], &[]), (vec![1, 3], false));
    }

    #[test]
    fn a_drained_or_unprobed_backend_takes_no_new_flows() {
        assert_eq!(shares([State::Up, State::Up, State::Up], &[2]), (vec![1, 3], false));
        assert_eq!(shares([State::Up, State::Unknown, State::Up], &[]), (vec![1, 3], false));
    }

    #[test]
    fn too_few_healthy_backends_are_a_panic_and_all_are_used() {
        assert_eq!(shares([State::Up, State::Down, State::Down], &[]), (vec![1, 2, 3], true));
        assert_eq!(shares([State::Down, State::Down, State::Down], &[]), (vec![1, 2, 3], true));
    }

    #[test]
    fn draining_everything_is_no_panic() {
        assert_eq!(shares([State::Up, State::Up, State::Up], &[1, 2, 3]), (vec![], false));
    }

    #[test]
    fn a_drained_backend_stays_out_in_a_panic() {
        assert_eq!(shares([State::Down, State::Down, State::Up], &[3]), (vec![1, 2], true));
    }

    #[test]
    fn a_share_grows_in_equal_steps_and_is_never_nothing() {
        let minute = Duration::from_secs(60);
        let share = |whole, seconds| started(whole, minute, Some(Duration::from_secs(seconds)));
        assert_eq!([0, 5, 6, 30, 59, 60, 3600].map(|at| share(100, at)), [10, 10, 20, 60, 100, 100, 100]);
        assert_eq!([0, 30, 60].map(|at| share(1, at)), [1, 1, 1]);
        assert_eq!([0, 30, 60].map(|at| share(0, at)), [0, 0, 0]);
        assert_eq!(share(u16::MAX, 0), 6553);
        assert_eq!(started(100, minute, None), 100);
        assert_eq!(started(100, Duration::ZERO, Some(Duration::ZERO)), 100);
    }

    #[test]
    fn a_backend_that_came_up_starts_slowly_and_counts_as_healthy_whole() {
        let mut config = config::parse("test", CONFIG).unwrap();
        let health = config.services[0].health.as_mut().unwrap();
        health.slow_start = Duration::from_secs(100);
        let now = Instant::now();
        let key =
            |last: u8| health::Key { service: config.services[0].key(), address: [10, 0, 0, last].into() };
        let verdict = |state, risen| Verdict { state, risen, ..Verdict::unknown(SystemTime::UNIX_EPOCH) };
        let verdicts = BTreeMap::from([
            (key(1), verdict(State::Up, None)),
            (key(2), verdict(State::Up, Some(now))),
            (key(3), verdict(State::Down, None)),
        ]);
        let next_hops =
            (1..4).map(|last| ([10, 0, 0, last].into(), Resolution::Resolved(NextHop::some()))).collect();
        let desired_at = |now| {
            let (overrides, factors) = (&Overrides::default(), &Factors::default());
            desired(Inputs {
                config: &config,
                verdicts: &verdicts,
                next_hops: &next_hops,
                overrides,
                factors,
                now,
            })
        };
        let weights = |desired: &Desired| {
            let service = desired.services.values().next().unwrap();
            (service.shares().iter().map(|share| share.weight).collect::<Vec<_>>(), service.panic)
        };
        let begin = desired_at(now);
        assert_eq!((weights(&begin), begin.is_starting()), ((vec![100, 10], false), true));
        let end = desired_at(now + Duration::from_secs(100));
        assert_eq!((weights(&end), end.is_starting()), ((vec![100, 100], false), false));
    }

    #[test]
    fn the_operators_weight_takes_the_place_of_the_configured_one_and_measurements_take_a_part() {
        let config = config::parse("test", CONFIG).unwrap();
        let next_hops =
            (1..4).map(|last| ([10, 0, 0, last].into(), Resolution::Resolved(NextHop::some()))).collect();
        let key =
            |last: u8| health::Key { service: config.services[0].key(), address: [10, 0, 0, last].into() };
        let verdict = Verdict { state: State::Up, ..Verdict::unknown(SystemTime::UNIX_EPOCH) };
        let verdicts = (1..4).map(|last| (key(last), verdict.clone())).collect();
        let mut overrides = Overrides::default();
        overrides.set(key(1), |order| order.weight = Some(7));
        overrides.set(key(2), |order| order.weight = Some(0));
        // The third does worse than the others.
        let mut factors = Factors::default();
        let slow =
            |weight, millis| Measured { weight, latency: Some(Duration::from_millis(millis)), load: None };
        let measured = BTreeMap::from([
            (key(1).address, slow(7, 1)),
            (key(2).address, slow(0, 1)),
            (key(3).address, slow(100, 1000)),
        ]);
        let (begin, follows) = (Instant::now(), Performance { by: Measure::Latency, floor: 25, moved: 100 });
        let now = begin + Duration::from_secs(60);
        factors.learn(key(1).service, follows, &measured, begin);
        assert!(factors.learn(key(1).service, follows, &measured, now));
        let (overrides, factors) = (&overrides, &factors);
        let desired = desired(Inputs {
            config: &config,
            verdicts: &verdicts,
            next_hops: &next_hops,
            overrides,
            factors,
            now,
        });
        let service = desired.services.values().next().unwrap();
        assert_eq!(service.shares().iter().map(|share| share.weight).collect::<Vec<_>>(), [7, 25]);
        assert_eq!(service.backends.values().nth(1).unwrap().role, Role::Draining);
        assert!(!desired.is_starting());
    }

    #[test]
    fn a_source_drains_and_fails_backends_that_probes_find_up() {
        use Standing::{Draining, Failing, Ready};
        let up = [State::Up; 3];
        assert_eq!(said(up, [(0, Draining), (0, Ready), (0, Ready)]), (vec![2, 3], false));
        assert_eq!(said(up, [(0, Failing), (0, Ready), (0, Ready)]), (vec![2, 3], false));
        assert_eq!(said(up, [(0, Failing), (0, Failing), (0, Failing)]), (vec![1, 2, 3], true));
    }

    #[test]
    fn backends_of_a_higher_number_stand_by_while_one_of_a_lower_number_can() {
        use Standing::{Draining, Ready};
        let ready = [(0, Ready), (1, Ready), (2, Ready)];
        assert_eq!(said([State::Up; 3], ready), (vec![1], false));
        assert_eq!(said([State::Up; 3], [(0, Draining), (1, Ready), (1, Ready)]), (vec![2, 3], false));
        let (first_down, last_up) =
            ([State::Down, State::Up, State::Up], [State::Down, State::Down, State::Up]);
        assert_eq!(said(first_down, ready), (vec![2], false));
        // A panic comes first: all are used, and of them those that come first.
        assert_eq!(said(last_up, ready), (vec![1], true));
    }

    #[test]
    fn probes_that_have_not_spoken_are_no_panic() {
        assert_eq!(shares([State::Down, State::Unknown, State::Down], &[]), (vec![], false));
    }
}
