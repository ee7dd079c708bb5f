//! The maps stay consistent after every op of every plan, and plans come to an end.

use super::*;
use crate::dataplane::vip_of;
use crate::{
    config::{Forward, Ports, Protocol, Quic, ServerId},
    delivery::Delivery,
    desired::{Backend, Role},
    nexthop::NextHop,
};
use mesh_common::quic::{ConfigKey, Parameters};
use proptest::prelude::*;
use std::time::Duration;

const SLOTS: u32 = 400;
const SIZE: u32 = 101;
const WINDOW: Duration = Duration::from_secs(10);

fn key(service: u8) -> ServiceKey {
    ServiceKey::exact([192, 0, 2, service].into(), 80, Protocol::Tcp)
}

type Wish = Vec<(u8, Role, bool)>;

fn service(backends: &Wish, tracking: Tracking) -> desired::Service {
    let backend = |(last, role, resolved): &(u8, Role, bool)| {
        let backend = Backend {
            role: *role,
            weight: 100,
            whole: 100,
            portion: if *role == Role::Active && *resolved { 100 } else { 0 },
            starting: false,
            port: None,
            next_hop: resolved.then(NextHop::some),
        };
        (IpAddr::from([10, 0, 0, *last]), backend)
    };
    desired::Service {
        name: "test".into(),
        delivery: Delivery::plain(Forward::Ipip),
        scheduler: Scheduler::Maglev,
        max_flows: 0,
        flood_limit: 0,
        reject: false,
        tracking,
        window: WINDOW,
        table_size: SIZE,
        panic: false,
        backends: backends.iter().map(backend).collect(),
        quic: Vec::new(),
        sources: None,
        guard: None,
    }
}

/// A configuration in which the backend with last byte `n` has the server id `n + shift`.
fn quic(backends: &Wish, rotation: u8, length: u8, shift: u8) -> Quic {
    let parameters = Parameters { server_id_length: length, nonce_length: 8, key: None };
    let id = |n: u8| ServerId([vec![n + shift], vec![0; usize::from(length) - 1]].concat());
    let server_ids = backends.iter().map(|(n, ..)| (id(*n), IpAddr::from([10, 0, 0, *n]))).collect();
    Quic { rotation, parameters, server_ids }
}

/// Up to two configurations.
fn quic_modes() -> impl Strategy<Value = Vec<(u8, u8, u8)>> {
    let modes = prop::collection::btree_map(0u8..3, (1u8..3, 0u8..3), 0..3);
    modes.prop_map(|modes| {
        modes.into_iter().map(|(rotation, (length, shift))| (rotation, length, shift)).collect()
    })
}

fn wish() -> impl Strategy<Value = Wish> {
    let role = prop_oneof![
        3 => Just(Role::Active), 1 => Just(Role::Draining), 1 => Just(Role::Unknown), 1 => Just(Role::Down)
    ];
    prop::collection::vec((1u8..9, role, prop::bool::weighted(0.9)), 0..6)
}

fn tracking_mode() -> impl Strategy<Value = Tracking> {
    prop_oneof![4 => Just(Tracking::Adaptive), 1 => Just(Tracking::Always), 1 => Just(Tracking::Never)]
}

fn wishes() -> impl Strategy<Value = Desired> {
    let service_of = (wish(), tracking_mode(), quic_modes());
    let services = prop::collection::btree_map((1u8..6).prop_map(key), service_of, 0..5);
    services.prop_map(|services| Desired {
        services: services
            .into_iter()
            .map(|(key, (wish, tracking, modes))| {
                let modes =
                    modes.into_iter().map(|(rotation, length, shift)| quic(&wish, rotation, length, shift));
                (key, desired::Service { quic: modes.collect(), ..service(&wish, tracking) })
            })
            .collect(),
    })
}

/// The maps and all that a reconciler remembers.
struct World {
    actual: Actual,
    tables: Tables,
    history: History,
    rest: Rest,
    sweep: Sweep,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            actual: Actual::empty(SLOTS),
            tables: Tables::default(),
            history: History::default(),
            rest: Rest::default(),
            sweep: Sweep::default(),
            now: Instant::now(),
        }
    }

    fn plan(&self, desired: &Desired) -> Plan {
        self.plan_beside(desired, &self.rest)
    }

    fn plan_beside(&self, desired: &Desired, rest: &Rest) -> Plan {
        let Self { actual, tables, history, sweep, now, .. } = self;
        let policies = &BTreeMap::new();
        let circumstances =
            Circumstances { services: 4, backends: 20, tables, policies, history, rest, sweep, now: *now };
        plan(actual, desired, circumstances)
    }

    fn reconcile(&mut self, desired: &Desired) -> Result<Plan, TestCaseError> {
        let plan = self.plan(desired);
        let whole = self.plan_beside(desired, &Rest::default());
        prop_assert_eq!(&plan.ops, &whole.ops, "with all services looked at");
        prop_assert_eq!(&plan.unreferenced, &whole.unreferenced);
        for op in &plan.ops {
            self.history.note(op, &self.actual, self.now);
            self.actual.apply(op);
            prop_assert!(self.actual.is_consistent(), "after {:?}", op);
        }
        self.history.conclude(&plan, &self.sweep, self.now);
        self.rest.conclude(&plan, desired, &self.sweep);
        Ok(plan)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// A sweep that finds no records.
    fn sweep(&mut self) {
        self.pass(Duration::from_secs(1));
        self.sweep = Sweep { started: Some(self.now), ..Sweep::default() };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn maps_are_consistent_after_every_op(wishes in prop::collection::vec((wishes(), 0u64..20, any::<bool>()), 1..8)) {
        let mut world = World::new();
        for (desired, seconds, sweep) in wishes {
            let plan = world.reconcile(&desired)?;
            let again = world.plan(&desired);
            // What did not fit may fit once the plan has freed ids.
            prop_assert!(again.ops.is_empty() || !plan.problems.is_empty(), "a second plan has {:?}", again.ops);
            world.pass(Duration::from_secs(seconds));
            if sweep {
                world.sweep();
            }
            let is_due = sweep || world.rest.is_due(&world.sweep, world.now) || !plan.problems.is_empty();
            let later = world.plan_beside(&desired, &Rest::default());
            prop_assert!(is_due || later.ops.is_empty(), "nobody expected {:?}", later.ops);
        }
    }

    #[test]
    fn in_the_end_all_is_steady_and_only_what_is_wanted_is_there(wishes in prop::collection::vec(wishes(), 1..5)) {
        let mut world = World::new();
        for desired in &wishes {
            world.reconcile(desired)?;
        }
        let desired = wishes.last().unwrap();
        for _ in 0..5 {
            world.pass(WINDOW);
            world.sweep();
            world.reconcile(desired)?;
        }
        for (key, service) in desired.services.iter().take(if SLOTS / SIZE < 4 { 3 } else { 4 }) {
            let Some(entry) = world.actual.services.get(&abi_key(*key)) else { continue };
            for (_, slot) in world.actual.slots_of(entry) {
                prop_assert!(service.tracking == Tracking::Always || slot.phase() == Phase::Steady, "{:?}", slot);
                prop_assert_eq!(slot.current() == 0, service.shares().is_empty());
            }
        }
        prop_assert_eq!(server_ids(&world.actual), wanted_server_ids(&world.actual, desired));
        let vips = world.actual.services.keys().map(|key| vip_of(*key)).collect::<BTreeSet<_>>();
        prop_assert_eq!(&world.actual.vips, &vips);
        for backend in world.actual.backends.values() {
            let service = world.actual.services.values().find(|entry| entry.id == backend.service);
            let key = desired.services.iter().find(|(key, _)| service.is_some_and(|s| s.key == abi_key(**key)));
            prop_assert!(key.is_some_and(|(_, s)| s.backends.contains_key(&host_address(backend.address))));
        }
    }
}

/// Whose the server ids are that a packet may bring: service, rotation, server id, backend.
type Owners = BTreeSet<(abi::ServiceKey, u32, [u64; 2], IpAddr)>;

fn server_ids(actual: &Actual) -> Owners {
    let service = |id| actual.services.values().find(|entry| entry.id == id).unwrap();
    let owner = |(key, backend): (&ServerIdKey, &u32)| {
        let service = service(key.service);
        assert!(actual.quic.contains_key(&ConfigKey { service: key.service, rotation: key.rotation }));
        assert_eq!(service.flags, abi::flag::QUIC);
        (service.key, key.rotation, key.id, host_address(actual.backends[backend].address))
    };
    actual.server_ids.iter().map(owner).collect()
}

fn wanted_server_ids(actual: &Actual, desired: &Desired) -> Owners {
    let fits = |(key, _): &(&ServiceKey, _)| actual.services.contains_key(&abi_key(**key));
    let mut owners = Owners::new();
    for (key, service) in desired.services.iter().filter(fits) {
        for (config, (id, address)) in
            service.quic.iter().flat_map(|config| config.server_ids.iter().map(move |owner| (config, owner)))
        {
            let place = ServerIdKey::new(0, config.rotation, &id.0);
            let id = actual.services[&abi_key(*key)].id;
            if actual.backends.values().any(|b| b.service == id && host_address(b.address) == *address) {
                owners.insert((abi_key(*key), place.rotation, place.id, *address));
            }
        }
    }
    owners
}

fn one(backends: &Wish) -> Desired {
    Desired { services: BTreeMap::from([(key(1), service(backends, Tracking::Adaptive))]) }
}

fn phases(actual: &Actual) -> BTreeSet<&'static str> {
    let name = |slot: Slot| match slot.phase() {
        Phase::Steady => "steady",
        Phase::Migrating => "migrating",
        Phase::Settling => "settling",
    };
    let services = actual.services.values();
    services.flat_map(|entry| actual.slots_of(entry)).map(|(_, slot)| name(slot)).collect()
}

#[test]
fn a_drained_backends_slots_migrate_settle_and_calm() {
    let mut world = World::new();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, true)])).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady"]));
    let drained = one(&vec![(1, Role::Active, true), (2, Role::Draining, true)]);
    world.reconcile(&drained).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady", "migrating"]));
    world.pass(WINDOW);
    world.reconcile(&drained).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady", "migrating"]), "old flows are recorded now");
    world.pass(WINDOW);
    world.reconcile(&drained).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady", "settling"]));
    world.sweep();
    world.reconcile(&drained).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady"]));
}

#[test]
fn a_dead_backends_slots_move_at_once() {
    let mut world = World::new();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, true)])).unwrap();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Down, true)])).unwrap();
    assert_eq!(phases(&world.actual), BTreeSet::from(["steady"]));
    let dead: Vec<_> = world.actual.backends.values().filter(|entry| entry.alive == 0).collect();
    assert_eq!(dead.len(), 1);
}

#[test]
fn a_backend_that_cannot_be_reached_any_more_is_marked_so_and_leaves_the_table() {
    let mut world = World::new();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, true)])).unwrap();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, false)])).unwrap();
    let stranded: Vec<_> = world.actual.backends.values().filter(|entry| entry.room == 0).collect();
    assert_eq!(stranded.len(), 1);
    assert!(world.actual.slots.iter().take(101).all(|slot| slot.current() == 1));
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, true)])).unwrap();
    assert!(world.actual.backends.values().all(|entry| entry.room > 0));
}

#[test]
fn a_removed_backends_id_rests_while_records_name_it() {
    let mut world = World::new();
    world.reconcile(&one(&vec![(1, Role::Active, true), (2, Role::Active, true)])).unwrap();
    let without = one(&vec![(1, Role::Active, true)]);
    for _ in 0..2 {
        world.reconcile(&without).unwrap();
        world.pass(WINDOW);
    }
    world.reconcile(&without).unwrap();
    world.sweep();
    world.sweep.backends.insert(2);
    world.reconcile(&without).unwrap();
    assert!(world.actual.backends.contains_key(&2), "a record names it");
    world.sweep();
    world.reconcile(&without).unwrap();
    assert!(!world.actual.backends.contains_key(&2));
}

#[test]
fn a_vip_is_known_from_before_its_first_service_until_after_its_last() {
    let mut world = World::new();
    let of = |ports: &[u16]| Desired {
        services: ports
            .iter()
            .map(|port| {
                (ServiceKey { ports: Ports::one(*port), ..key(1) }, service(&vec![], Tracking::Never))
            })
            .collect(),
    };
    let vip_ops = |plan: &Plan| -> Vec<Op> {
        let is_about_vips = |op: &&Op| matches!(op, Op::AddVip(_) | Op::RemoveVip(_));
        plan.ops.iter().filter(is_about_vips).copied().collect()
    };
    assert_eq!(vip_ops(&world.reconcile(&of(&[80, 81])).unwrap()), [Op::AddVip(key(1).vip)]);
    assert_eq!(vip_ops(&world.reconcile(&of(&[81])).unwrap()), []);
    let last = world.reconcile(&of(&[])).unwrap();
    assert_eq!(vip_ops(&last), [Op::RemoveVip(key(1).vip)]);
    assert!(matches!(last.ops[0], Op::RemoveService(_)), "{:?}", last.ops);
}

#[test]
fn vips_that_somebody_changed_are_made_right() {
    let mut world = World::new();
    let desired = one(&vec![(1, Role::Active, true)]);
    world.reconcile(&desired).unwrap();
    world.actual.vips = BTreeSet::from([IpNet::from(IpAddr::from([192, 0, 2, 99]))]);
    let ops = world.plan(&desired).ops;
    assert_eq!(ops, [Op::AddVip(key(1).vip), Op::RemoveVip(IpAddr::from([192, 0, 2, 99]).into())]);
}

#[test]
fn what_does_not_fit_is_a_problem_and_the_rest_goes_on() {
    let mut world = World::new();
    let services = (1..=5).map(|n| (key(n), service(&vec![(1, Role::Active, true)], Tracking::Adaptive)));
    let plan = world.reconcile(&Desired { services: services.collect() }).unwrap();
    assert_eq!(world.actual.services.len(), 3);
    assert_eq!(plan.problems.len(), 2, "{:?}", plan.problems);
}

fn one_quic(backends: &Wish, quic: Vec<Quic>) -> Desired {
    let service = desired::Service { quic, ..service(backends, Tracking::Adaptive) };
    Desired { services: BTreeMap::from([(key(1), service)]) }
}

/// The backends that have the server ids, by their last byte.
fn owners(world: &World) -> Vec<u8> {
    let last = |address: IpAddr| *crate::dataplane::wire_address(address).last().unwrap();
    server_ids(&world.actual).into_iter().map(|(.., address)| last(address)).collect()
}

const TWO: [(u8, Role, bool); 2] = [(1, Role::Active, true), (2, Role::Active, true)];

#[test]
fn a_removed_backend_keeps_its_server_id_until_its_own_id_is_free() {
    let (mut world, both) = (World::new(), TWO.to_vec());
    world.reconcile(&one_quic(&both, vec![quic(&both, 0, 1, 0)])).unwrap();
    assert_eq!(owners(&world), [1, 2]);
    let alone = vec![TWO[0]];
    let without = one_quic(&alone, vec![quic(&alone, 0, 1, 0)]);
    for _ in 0..2 {
        world.reconcile(&without).unwrap();
        assert_eq!(owners(&world), [1, 2], "connections live there");
        world.pass(WINDOW);
    }
    world.reconcile(&without).unwrap();
    world.sweep();
    let plan = world.reconcile(&without).unwrap();
    assert_eq!(owners(&world), [1]);
    let [.., Op::RemoveServerId(_), Op::Grace, Op::RemoveBackend { id: 2 }] = plan.ops.as_slice() else {
        panic!("{:?}", plan.ops);
    };
}

#[test]
fn a_server_id_goes_to_another_backend_at_once() {
    let (mut world, both) = (World::new(), TWO.to_vec());
    world.reconcile(&one_quic(&both, vec![quic(&vec![TWO[0]], 0, 1, 0)])).unwrap();
    assert_eq!(owners(&world), [1]);
    let second = vec![TWO[1]];
    let mut taken = quic(&second, 0, 1, 0);
    taken.server_ids = BTreeMap::from([(ServerId(vec![1]), IpAddr::from([10, 0, 0, 2]))]);
    world.reconcile(&one_quic(&second, vec![taken])).unwrap();
    assert_eq!(owners(&world), [2]);
}

#[test]
fn a_service_becomes_quic_only_when_everything_is_there_and_ceases_before_anything_goes() {
    let (mut world, both) = (World::new(), TWO.to_vec());
    world.reconcile(&one(&both)).unwrap();
    let plan = world.reconcile(&one_quic(&both, vec![quic(&both, 3, 2, 0)])).unwrap();
    let [
        Op::WriteServerId { .. },
        Op::WriteServerId { .. },
        Op::WriteQuicConfig { .. },
        Op::AddService(entry),
    ] = plan.ops.as_slice()
    else {
        panic!("{:?}", plan.ops);
    };
    assert_eq!(entry.flags, abi::flag::QUIC);
    let plan = world.reconcile(&one(&both)).unwrap();
    let [Op::AddService(entry), Op::RemoveQuicConfig(_), Op::RemoveServerId(_), Op::RemoveServerId(_)] =
        plan.ops.as_slice()
    else {
        panic!("{:?}", plan.ops);
    };
    assert_eq!(entry.flags, 0);
}

#[test]
fn server_ids_of_another_length_do_not_outlive_their_configuration() {
    let (mut world, both) = (World::new(), TWO.to_vec());
    world.reconcile(&one_quic(&both, vec![quic(&both, 0, 1, 0)])).unwrap();
    let alone = vec![TWO[0]];
    world.reconcile(&one_quic(&alone, vec![quic(&alone, 0, 2, 0)])).unwrap();
    assert_eq!(owners(&world), [1], "with two bytes, the second's id would be read as another");
}

#[test]
fn a_removed_services_connection_ids_go_with_it() {
    let (mut world, both) = (World::new(), TWO.to_vec());
    world.reconcile(&one_quic(&both, vec![quic(&both, 0, 1, 0), quic(&both, 1, 1, 0)])).unwrap();
    assert_eq!((world.actual.quic.len(), world.actual.server_ids.len()), (2, 4));
    world.reconcile(&Desired::default()).unwrap();
    assert_eq!((world.actual.quic.len(), world.actual.server_ids.len()), (0, 0));
}

/// Services wider than one port of one address, and one within them that is not.
fn wide_key(number: u8) -> ServiceKey {
    let key = |vip: &str, ports, protocol| ServiceKey { vip: vip.parse().unwrap(), ports, protocol };
    let range = |first, last| Ports::range(first, last).unwrap();
    match number {
        0 => key("192.0.2.0/24", Ports::ANY, Protocol::Any),
        1 => key("192.0.2.0/24", range(1, 80), Protocol::Tcp),
        2 => key("192.0.2.0/30", range(80, 90), Protocol::Tcp),
        3 => key("192.0.2.1/32", range(70, 85), Protocol::Udp),
        _ => ServiceKey::exact([192, 0, 2, 1].into(), 80, Protocol::Tcp),
    }
}

/// Who gets packets, by the name of the service.
fn answers(actual: &Actual) -> Vec<Option<abi::ServiceKey>> {
    let to = |last: u8| crate::dataplane::wire_address(IpAddr::from([192, 0, 2, last]));
    let packets = [0, 1, 4].into_iter().flat_map(|last| {
        [(6, 79), (6, 80), (6, 90), (6, 91), (17, 80), (132, 0)]
            .map(move |(number, port)| (last, number, port))
    });
    packets.map(|(last, number, port)| actual.find(to(last), number, port).map(|entry| entry.key)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Ids are the same before and after, so that who gets a packet is known by the key.
    #[test]
    fn wide_services_come_and_go_without_a_word_to_others(
        wishes in prop::collection::vec(prop::collection::btree_set(0u8..5, 0..4), 1..8),
    ) {
        let mut world = World::new();
        for wish in wishes {
            let services = wish.iter().map(|n| (wide_key(*n), service(&vec![(1, Role::Active, true)], Tracking::Adaptive)));
            let desired = Desired { services: services.collect() };
            let before = answers(&world.actual);
            let plan = world.plan(&desired);
            let mut seen = vec![before.clone()];
            for op in &plan.ops {
                world.history.note(op, &world.actual, world.now);
                world.actual.apply(op);
                prop_assert!(world.actual.is_consistent(), "after {:?}", op);
                seen.push(answers(&world.actual));
            }
            world.history.conclude(&plan, &world.sweep, world.now);
            let after = answers(&world.actual);
            for (packet, (old, new)) in before.iter().zip(&after).enumerate() {
                let disturbed = seen.iter().any(|answers| answers[packet] != *old);
                prop_assert!(old != new || !disturbed, "packet {} by {:?}", packet, plan.ops);
            }
            prop_assert!(world.actual.routes.is_of(world.actual.services.values()));
            prop_assert_eq!(world.actual.services.len(), wish.len());
            world.sweep();
        }
    }
}

#[test]
fn a_wide_service_is_led_to_once_its_slots_stand_and_waited_for_when_it_goes() {
    let mut world = World::new();
    let wish = |n| (wide_key(n), service(&vec![(1, Role::Active, true)], Tracking::Adaptive));
    let both = Desired { services: BTreeMap::from([wish(0), wish(1)]) };
    let plan = world.reconcile(&both).unwrap();
    let kinds = |plan: &Plan| -> Vec<&'static str> {
        let kind = |op: &Op| match op {
            Op::AddService(_) => Some("add"),
            Op::RemoveService(_) => Some("remove"),
            Op::Route => Some("route"),
            Op::Grace => Some("grace"),
            Op::WriteBackend { .. }
            | Op::RemoveBackend { .. }
            | Op::WriteSlot { .. }
            | Op::WriteQuicConfig { .. }
            | Op::RemoveQuicConfig(_)
            | Op::WriteServerId { .. }
            | Op::RemoveServerId(_)
            | Op::AddVip(_)
            | Op::RemoveVip(_) => None,
        };
        plan.ops.iter().filter_map(kind).collect()
    };
    assert_eq!(kinds(&plan), ["add", "add", "route"]);
    let one = Desired { services: BTreeMap::from([wish(0)]) };
    assert_eq!(kinds(&world.plan(&one)), ["remove", "route", "grace"]);
    // An agent ended between removal and route.
    world.actual.apply(&Op::RemoveService(abi_key(wide_key(1))));
    assert_eq!(kinds(&world.plan(&one)), ["route", "grace"]);
    assert_eq!(kinds(&world.plan(&both)), ["route", "grace", "add", "route"]);
}

#[test]
fn thousands_of_services_are_planned_in_parts() {
    let mut world = World::new();
    let size = 524_287;
    world.actual = Actual::empty(4 * size);
    let big = |n: u8| {
        (
            key(n),
            desired::Service {
                table_size: size,
                ..service(&vec![(1, Role::Active, true)], Tracking::Adaptive)
            },
        )
    };
    let desired = Desired { services: (1..=4).map(big).collect() };
    let first = world.plan(&desired);
    first.ops.iter().for_each(|op| world.actual.apply(op));
    assert!(first.is_partial && first.problems.is_empty());
    assert!(world.actual.services.len() < 4 && world.actual.is_consistent());
    let second = world.plan(&desired);
    second.ops.iter().for_each(|op| world.actual.apply(op));
    assert!(!second.is_partial && world.actual.is_consistent());
    assert_eq!(world.actual.services.len(), 4);
}
