//! What the dataplane should hold: a pure function of configuration, health, next hops and the operator's orders.

use crate::{
    composition::{self, Portion, Rules},
    config::{
        self, Config, Forward, Nat, NatSource, OnNoBackends, Quic, Scheduler, ServiceKey, Standing, Tracking,
    },
    dataplane::wire_address,
    delivery::Delivery,
    guard::Guard,
    health::{self, Outliers, State, Verdict},
    local::LocalWay,
    maglev::Share,
    nexthop::{NextHop, Resolution},
    overrides::Overrides,
    performance::Factors,
};
use mesh_common::{abi::halves, connection::Sources};
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
    /// Keeps its flows and takes no new ones: the operator or its source drains it, or its weight is 0, or its group's
    /// share is.
    Draining,
    /// Keeps its flows and takes no new ones while higher tiers are up to all of them.
    Standby,
    /// Keeps its flows and takes no new ones for a while: it has failed clients.
    Ejected,
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
    /// Its share of the new flows of its group and tier now.
    pub weight: u16,
    /// Its share, were it not for slow starts and measurements.
    pub whole: u16,
    /// What it takes of the service's new flows, relative to the other backends; 0: nothing.
    pub portion: u32,
    /// Whether its share grows with time.
    pub starting: bool,
    /// The port that it gets packets at, if it has one of its own.
    pub port: Option<u16>,
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
    /// New flows in a tick beyond which nothing is remembered of them that need not be.
    pub flood_limit: u32,
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
    /// Where translated packets come from.
    pub sources: Option<Sources>,
    /// Whom it serves, if not everybody.
    pub guard: Option<Guard>,
}

impl Service {
    /// Who takes new flows, and how much.
    #[must_use]
    pub fn shares(&self) -> Vec<Share> {
        let takes = self.backends.iter().filter(|(_, backend)| backend.portion > 0);
        takes.map(|(address, backend)| Share { address: *address, weight: backend.portion }).collect()
    }

    /// What backends take, as weights of 16 bits.
    pub fn weights(&self) -> impl Fn(&Backend) -> u16 {
        let most = self.backends.values().map(|backend| backend.portion).max().unwrap_or(0);
        let excess = (u32::BITS - most.leading_zeros()).saturating_sub(u16::BITS);
        move |backend| u16::try_from(backend.portion >> excess).unwrap_or(u16::MAX)
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
    /// Who has failed clients.
    pub outliers: &'a Outliers,
    /// The way to addresses of this host, once there is one.
    pub local: Option<LocalWay>,
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
            Self::Ipip | Self::Gue | Self::Geneve | Self::Nat => true,
        }
    }
}

fn one(service: &config::Service, inputs: Inputs<'_>) -> Service {
    let mut members: Vec<Member<'_>> =
        service.backends.iter().map(|backend| member(service, backend, inputs)).collect();
    let panic = is_panic(service.health.as_ref().map_or(0, |health| health.panic_threshold), &members);
    if panic {
        let down = members.iter_mut().filter(|member| member.desired.role == Role::Down);
        down.for_each(|member| member.desired.role = Role::Active);
    }
    let split = inputs.overrides.split(service);
    let rules = Rules { split: &split, spill_over_below: service.spill_over_below };
    if !panic {
        eject(service.key(), &mut members, rules, inputs.outliers);
    }
    compose(&mut members, rules);
    let backends = members.into_iter().map(|member| (member.config.address, member.desired)).collect();
    Service {
        name: service.name.clone(),
        delivery: Delivery::of(service, inputs.config.agent.outer_source),
        scheduler: service.scheduler,
        max_flows: service.max_flows.unwrap_or(0),
        flood_limit: flood_limit(service, inputs.config.limits),
        reject: service.on_no_backends == OnNoBackends::Reject,
        tracking: service.tracking,
        window: service.window,
        table_size: service.table_size(),
        panic,
        backends,
        quic: service.quic.clone(),
        sources: service.nat.as_ref().map(sources),
        guard: inputs.overrides.guard(service),
    }
}

/// How many new flows in a tick are a flood: as many as are configured for a second, else as would fill the table that
/// remembers them in a minute, which is how long it keeps one of which nothing more is heard.
fn flood_limit(service: &config::Service, limits: config::Limits) -> u32 {
    const MINUTE: u32 = 60;
    let room = if service.nat.is_some() { limits.connections } else { limits.flows };
    let threshold = service.flood_threshold.unwrap_or((room / MINUTE).max(1));
    // A tick is 2^30 ns.
    let in_tick = (u64::from(threshold) << 30).div_ceil(1_000_000_000);
    u32::try_from(in_tick).unwrap_or(u32::MAX)
}

/// Where translated packets come from, as the maps have it.
fn sources(nat: &Nat) -> Sources {
    let mut sources = Sources {
        keep: u32::from(nat.source == NatSource::Keep),
        first: nat.ports.first(),
        last: nat.ports.last(),
        ..Sources::default()
    };
    let NatSource::Addresses(addresses) = &nat.source else { return sources };
    for address in addresses {
        let (list, count) = match address {
            IpAddr::V4(_) => (&mut sources.v4, &mut sources.v4_count),
            IpAddr::V6(_) => (&mut sources.v6, &mut sources.v6_count),
        };
        if let Some(place) = usize::try_from(*count).ok().and_then(|at| list.get_mut(at)) {
            *place = halves(wire_address(*address));
            *count += 1;
        }
    }
    sources
}

/// A backend while it is found out what it should be.
struct Member<'a> {
    config: &'a config::Backend,
    desired: Backend,
    /// The weight that somebody wants it to have, whatever it takes.
    configured: u16,
    /// How much of that it is well enough for, by its probes and as far as it has started.
    healthy: u16,
}

impl<'a> Member<'a> {
    fn for_composition(&self) -> composition::Member<'a> {
        composition::Member {
            group: &self.config.group,
            priority: self.config.priority,
            configured: if self.counts() { self.configured } else { 0 },
            healthy: self.healthy,
            weight: if is_able(&self.desired) { self.desired.weight } else { 0 },
        }
    }

    /// Whether its tier is the weaker without it. Nobody knows of those that are not probed yet; those that their source
    /// drains are about to leave.
    fn counts(&self) -> bool {
        self.desired.role != Role::Unknown && self.config.standing != Standing::Draining
    }
}

/// Whether new flows can be given to a backend.
fn is_able(backend: &Backend) -> bool {
    backend.role == Role::Active && backend.next_hop.is_some()
}

/// Takes new flows away from those that have failed clients, unless nobody else could take them.
fn eject(service: ServiceKey, members: &mut [Member<'_>], rules: Rules<'_>, outliers: &Outliers) {
    let is_out = |member: &Member<'_>| {
        let key = health::Key { service, address: member.config.address };
        member.desired.role == Role::Active && outliers.of(&key).is_some()
    };
    let takes = |member: &Member<'_>| {
        let is_shared = rules.split.get(&member.config.group) != Some(&0);
        is_able(&member.desired) && member.desired.weight > 0 && is_shared
    };
    if !members.iter().any(|member| takes(member) && !is_out(member)) {
        return;
    }
    for member in members.iter_mut().filter(|member| is_out(member)) {
        (member.desired.role, member.healthy) = (Role::Ejected, 0);
    }
}

/// Gives each backend its part of the service's new flows.
fn compose(members: &mut [Member<'_>], rules: Rules<'_>) {
    let seen: Vec<_> = members.iter().map(Member::for_composition).collect();
    for (member, portion) in members.iter_mut().zip(composition::portions(&seen, rules)) {
        match portion {
            Portion::Takes(portion) => member.desired.portion = portion,
            Portion::StandsBy => member.desired.role = Role::Standby,
            Portion::Unshared => member.desired.role = Role::Draining,
        }
    }
}

fn member<'a>(service: &config::Service, backend: &'a config::Backend, inputs: Inputs<'_>) -> Member<'a> {
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
        Some(resolution) if resolution.is_local() && service.forward == Forward::Nat => {
            inputs.local.and_then(|way| way.hop(backend.address))
        }
        Some(Resolution::Resolved(_) | Resolution::Unresolved { .. }) | None => None,
    };
    let whole = if idle { 0 } else { weight };
    let risen = inputs.verdicts.get(&key).and_then(|verdict| verdict.risen);
    let age = risen.map(|risen| inputs.now.saturating_duration_since(risen));
    let slow_start = service.health.as_ref().map_or(Duration::ZERO, |health| health.slow_start);
    let share = inputs.factors.apply(&key, whole);
    let (now, risen) = (started(share, slow_start, age), started(whole, slow_start, age));
    let starting = now < share || risen < whole;
    let desired = Backend { role, weight: now, whole, portion: 0, starting, port: backend.port, next_hop };
    let healthy = if is_able(&desired) { risen } else { 0 };
    Member { config: backend, desired, configured: weight, healthy }
}

/// The share of a backend that came up so long ago: it grows from a tenth in equal steps.
fn started(whole: u16, slow_start: Duration, age: Option<Duration>) -> u16 {
    let Some(age) = age.filter(|age| *age < slow_start && whole > 0) else { return whole };
    let passed = age.as_nanos() * u128::from(STEPS) / slow_start.as_nanos().max(1);
    let share = u128::from(whole) * (passed + 1) / u128::from(STEPS);
    u16::try_from(share).unwrap_or(whole).clamp(1, whole)
}

/// Whether the healthy part of each tier's weight is none, or below the threshold in percent: one that is well takes over
/// from those that are not. Backends that take no new flows do not count, and neither do those whose probes have not
/// spoken.
fn is_panic(threshold: u8, members: &[Member<'_>]) -> bool {
    let mut tiers: BTreeMap<u16, (u64, u64)> = BTreeMap::new();
    for member in members {
        let weight = u64::from(member.desired.whole);
        let (healthy, failed) = tiers.entry(member.config.priority).or_default();
        match member.desired.role {
            Role::Active => *healthy += weight,
            Role::Down => *failed += weight,
            Role::Unknown => return false,
            Role::Draining | Role::Standby | Role::Ejected => {}
        }
    }
    tiers.retain(|_, (healthy, failed)| *healthy + *failed > 0);
    let is_ill = |(healthy, failed): &(u64, u64)| {
        *healthy == 0 || healthy * 100 < u64::from(threshold) * (healthy + failed)
    };
    !tiers.is_empty() && tiers.values().all(is_ill)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Group, Measure, Passive, Performance},
        health::Tally,
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
            outliers: &Outliers::default(),
            local: None,
            now: Instant::now(),
        });
        let service = &desired.services[&config.services[0].key()];
        let last = |share: &Share| *wire_address(share.address).last().unwrap();
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
    fn addresses_of_this_host_are_reached_by_translation_once_there_is_a_way() {
        let here = Resolution::Unresolved { reason: String::new(), remedy: String::new(), is_local: true };
        let next_hops = BTreeMap::from([([10, 0, 0, 1].into(), here)]);
        let way = LocalWay::some(7);
        let hop = |forward: &str, local| {
            let text = CONFIG.replace("ipip", forward);
            let desired = desired(Inputs {
                config: &config::parse("test", &text).unwrap(),
                verdicts: &BTreeMap::new(),
                next_hops: &next_hops,
                overrides: &Overrides::default(),
                factors: &Factors::default(),
                outliers: &Outliers::default(),
                local,
                now: Instant::now(),
            });
            desired.services.values().next().unwrap().backends.values().next().unwrap().next_hop
        };
        assert_eq!(hop("nat", Some(way)), way.hop([10, 0, 0, 1].into()));
        assert_eq!((hop("nat", None), hop("ipip", Some(way))), (None, None));
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
                outliers: &Outliers::default(),
                local: None,
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
            outliers: &Outliers::default(),
            local: None,
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
        // A tier that is well is no reason to panic, however light it is.
        assert_eq!(said(last_up, ready), (vec![3], false));
        // In a panic all are used, and of them those that come first.
        assert_eq!(said([State::Down; 3], ready), (vec![1], true));
    }

    #[test]
    fn probes_that_have_not_spoken_are_no_panic() {
        assert_eq!(shares([State::Down, State::Unknown, State::Down], &[]), (vec![], false));
    }

    /// Backends of a service that is composed: group, priority, state of probes.
    struct Composed {
        config: Config,
        verdicts: BTreeMap<health::Key, Verdict>,
        overrides: Overrides,
        factors: Factors,
        outliers: Outliers,
        unreachable: Vec<u8>,
        now: Instant,
    }

    impl Composed {
        fn new(split: &str, backends: &[(&str, u16, State)]) -> Self {
            let backend = |(number, (group, priority, _)): (u8, &(&str, u16, State))| {
                format!(
                    "[[service.backend]]\naddress = \"10.0.0.{number}\"\ngroup = \"{group}\"\npriority = {priority}\n"
                )
            };
            let head = CONFIG.split("[[service.backend]]").next().unwrap();
            let backends_text: String = (1..).zip(backends).map(backend).collect();
            let config = config::parse("test", &format!("{head}{split}\n{backends_text}")).unwrap();
            let mut composed = Self {
                config,
                verdicts: BTreeMap::new(),
                overrides: Overrides::default(),
                factors: Factors::default(),
                outliers: Outliers::default(),
                unreachable: Vec::new(),
                now: Instant::now(),
            };
            composed.config.services[0].spill_over_below = 70;
            for (number, (.., state)) in (1..).zip(backends) {
                let verdict = Verdict { state: *state, ..Verdict::unknown(SystemTime::UNIX_EPOCH) };
                composed.verdicts.insert(composed.key(number), verdict);
            }
            composed
        }

        fn key(&self, number: u8) -> health::Key {
            health::Key { service: self.config.services[0].key(), address: [10, 0, 0, number].into() }
        }

        /// Per cent of the new flows that each backend takes, and whether there is a panic.
        fn percents(&self) -> (Vec<u32>, bool) {
            let service = self.service();
            let sum: u64 = service.backends.values().map(|backend| u64::from(backend.portion)).sum();
            let percent = |backend: &Backend| {
                let portion = u64::from(backend.portion);
                u32::try_from((portion * 100 + sum / 2) / sum.max(1)).unwrap()
            };
            (service.backends.values().map(percent).collect(), service.panic)
        }

        fn service(&self) -> Service {
            let hop = |number: &u8| ([10, 0, 0, *number].into(), Resolution::Resolved(NextHop::some()));
            let reachable = (1..=20).filter(|number| !self.unreachable.contains(number));
            let desired = desired(Inputs {
                config: &self.config,
                verdicts: &self.verdicts,
                next_hops: &reachable.map(|number| hop(&number)).collect(),
                overrides: &self.overrides,
                factors: &self.factors,
                outliers: &self.outliers,
                local: None,
                now: self.now,
            });
            desired.services.into_values().next().unwrap()
        }
    }

    const SPLIT: &str = "[service.split]\nstable = 90\ncanary = 10\n";

    #[test]
    fn an_ordered_split_takes_the_place_of_the_configured_one() {
        use State::Up;
        let mut composed = Composed::new(SPLIT, &[("stable", 0, Up), ("stable", 0, Up), ("canary", 0, Up)]);
        assert_eq!(composed.percents(), (vec![45, 45, 10], false));
        let key = composed.config.services[0].key();
        composed.overrides.order_split(key, &BTreeMap::from([(Group::named("canary"), 30)]));
        assert_eq!(composed.percents(), (vec![38, 38, 25], false));
        composed.overrides.order_split(key, &BTreeMap::from([(Group::named("canary"), 0)]));
        assert_eq!(composed.percents(), (vec![50, 50, 0], false));
        assert_eq!(composed.service().backends.values().nth(2).unwrap().role, Role::Draining);
        // A weight by order counts within the group.
        composed.overrides.order_split(key, &BTreeMap::from([(Group::named("canary"), 10)]));
        composed.overrides.set(composed.key(1), |order| order.weight = Some(800));
        assert_eq!(composed.percents(), (vec![80, 10, 10], false));
    }

    #[test]
    fn a_group_that_fails_is_no_panic_and_gives_its_part_away() {
        use State::{Down, Up};
        let composed = Composed::new(SPLIT, &[("stable", 0, Up), ("stable", 0, Up), ("canary", 0, Down)]);
        assert_eq!(composed.percents(), (vec![50, 50, 0], false));
        let all = Composed::new(SPLIT, &[("stable", 0, Down), ("stable", 0, Down), ("canary", 0, Down)]);
        assert_eq!(all.percents(), (vec![45, 45, 10], true));
    }

    #[test]
    fn who_is_drained_down_or_out_of_reach_is_missing_in_its_tier() {
        use State::{Down, Up};
        let backends =
            |first| [("default", 0, first), ("default", 0, Up), ("default", 1, Up), ("default", 2, Up)];
        // Half of 70 per cent and more: 71 per cent, and the rest for the next tier.
        let half = (vec![0, 71, 29, 0], false);
        assert_eq!(Composed::new("", &backends(Up)).percents(), (vec![50, 50, 0, 0], false));
        assert_eq!(Composed::new("", &backends(Down)).percents(), half);
        let mut drained = Composed::new("", &backends(Up));
        drained.overrides.set(drained.key(1), |order| order.drained = true);
        assert_eq!(drained.percents(), half);
        let mut unreachable = Composed::new("", &backends(Up));
        unreachable.unreachable.push(1);
        assert_eq!(unreachable.percents(), half);
        let roles: Vec<_> = unreachable.service().backends.values().map(|backend| backend.role).collect();
        assert_eq!(roles, [Role::Active, Role::Active, Role::Active, Role::Standby]);
        // These are not missed.
        let mut idle = Composed::new("", &backends(Up));
        idle.overrides.set(idle.key(1), |order| order.weight = Some(0));
        assert_eq!(idle.percents(), (vec![0, 100, 0, 0], false));
        let mut leaving = Composed::new("", &backends(Up));
        leaving.config.services[0].backends[0].standing = Standing::Draining;
        assert_eq!(leaving.percents(), (vec![0, 100, 0, 0], false));
        assert_eq!(Composed::new("", &backends(State::Unknown)).percents(), (vec![0, 100, 0, 0], false));
    }

    #[test]
    fn a_tier_that_comes_back_takes_its_flows_over_as_it_starts() {
        use State::Up;
        let mut composed = Composed::new("", &[("default", 0, Up), ("default", 0, Up), ("default", 1, Up)]);
        composed.config.services[0].health.as_mut().unwrap().slow_start = Duration::from_secs(100);
        let begin = composed.now;
        for number in [1, 2] {
            composed.verdicts.get_mut(&composed.key(number)).unwrap().risen = Some(begin);
        }
        let mut of_first_tier = Vec::new();
        for seconds in [0, 10, 30, 60, 100] {
            composed.now = begin + Duration::from_secs(seconds);
            of_first_tier.push(100 - composed.percents().0[2]);
        }
        // A tenth of 70 per cent, two tenths, ….
        assert_eq!(of_first_tier, [14, 29, 57, 100, 100]);
        assert!(composed.service().backends.values().all(|backend| !backend.starting));
    }

    #[test]
    fn measurements_do_not_make_a_tier_weaker() {
        use State::Up;
        let mut composed = Composed::new("", &[("default", 0, Up), ("default", 0, Up), ("default", 1, Up)]);
        let slow =
            |millis| Measured { weight: 100, latency: Some(Duration::from_millis(millis)), load: None };
        let measured =
            BTreeMap::from([(composed.key(1).address, slow(1)), (composed.key(2).address, slow(1000))]);
        let follows = Performance { by: Measure::Latency, floor: 25, moved: 100 };
        composed.factors.learn(composed.key(1).service, follows, &measured, composed.now);
        composed.now += Duration::from_secs(60);
        composed.factors.learn(composed.key(1).service, follows, &measured, composed.now);
        assert_eq!(composed.percents(), (vec![80, 20, 0], false));
    }

    /// The backends of these numbers have failed clients.
    fn ejected(composed: &mut Composed, failing: &[u8]) {
        let rules = Passive { share: 100, ..Passive::default() };
        let mut tallies: BTreeMap<IpAddr, Option<Tally>> =
            (1..=9).map(|number| (composed.key(number).address, Some(Tally::default()))).collect();
        composed.outliers = Outliers::default();
        composed.outliers.learn(composed.key(1).service, rules, &tallies, composed.now);
        for number in failing {
            let tally = Tally { opened: 9, refused: 9, silent: 0 };
            tallies.insert(composed.key(*number).address, Some(tally));
        }
        composed.outliers.learn(composed.key(1).service, rules, &tallies, composed.now);
    }

    #[test]
    fn who_has_failed_clients_takes_no_new_flows_unless_nobody_else_could() {
        use State::{Down, Unknown, Up};
        let roles = |composed: &Composed| -> Vec<Role> {
            composed.service().backends.values().map(|backend| backend.role).collect()
        };
        let mut composed = Composed::new("", &[("default", 0, Up), ("default", 0, Up), ("default", 0, Down)]);
        ejected(&mut composed, &[1]);
        assert_eq!(composed.percents(), (vec![0, 100, 0], false));
        assert_eq!(roles(&composed), [Role::Ejected, Role::Active, Role::Down]);
        assert!(composed.service().backends.values().next().unwrap().is_alive());
        ejected(&mut composed, &[1, 2]);
        assert_eq!(composed.percents(), (vec![50, 50, 0], false));
        composed.unreachable = vec![2];
        ejected(&mut composed, &[1]);
        assert_eq!(composed.percents().0, [100, 0, 0]);
        // Others are what they are.
        let mut composed =
            Composed::new("", &[("default", 0, Down), ("default", 0, Unknown), ("default", 0, Up)]);
        ejected(&mut composed, &[1, 2]);
        assert_eq!(roles(&composed), [Role::Down, Role::Unknown, Role::Active]);
    }

    #[test]
    fn a_tier_that_has_failed_clients_leaves_them_to_the_next_and_a_group_without_share_takes_none() {
        use State::Up;
        let mut composed = Composed::new("", &[("default", 0, Up), ("default", 1, Up)]);
        ejected(&mut composed, &[1]);
        assert_eq!(composed.percents(), (vec![0, 100], false));
        let mut composed = Composed::new(
            "[service.split]\nstable = 1\ncanary = 0\n",
            &[("stable", 0, Up), ("canary", 0, Up)],
        );
        ejected(&mut composed, &[1]);
        assert_eq!(composed.percents(), (vec![100, 0], false));
    }

    #[test]
    fn every_tier_has_to_be_ill_for_a_panic() {
        use State::{Down, Up};
        // Of the first tier a third is healthy, of the second none; the threshold is 40 per cent.
        let ill = [("default", 0, Up), ("default", 0, Down), ("default", 0, Down), ("default", 1, Down)];
        assert_eq!(Composed::new("", &ill).percents(), (vec![33, 33, 33, 0], true));
        // In a panic, too, tiers take what they are up to: here only the second is up to anything.
        let lower = [("default", 0, Down), ("default", 1, Up), ("default", 1, Down), ("default", 1, Down)];
        assert_eq!(Composed::new("", &lower).percents(), (vec![0, 33, 33, 33], true));
        let nobody = [("default", 0, Down), ("default", 1, Down), ("default", 1, Down), ("default", 1, Down)];
        assert_eq!(Composed::new("", &nobody).percents(), (vec![100, 0, 0, 0], true));
        let well = [("default", 0, Up), ("default", 0, Down), ("default", 0, Down), ("default", 1, Up)];
        assert_eq!(Composed::new("", &well).percents(), (vec![48, 0, 0, 52], false));
    }

    #[test]
    fn parts_are_weights_of_16_bits_for_who_weighs_flows() {
        use State::Up;
        let plain = Composed::new("", &[("default", 0, Up), ("default", 0, Up)]).service();
        assert!(plain.backends.values().map(plain.weights()).all(|weight| weight == 100));
        let split = Composed::new(SPLIT, &[("stable", 0, Up), ("canary", 0, Up)]).service();
        let weights: Vec<_> = split.backends.values().map(split.weights()).collect();
        assert_eq!(weights[0] / weights[1], 9, "{weights:?}");
    }
}
