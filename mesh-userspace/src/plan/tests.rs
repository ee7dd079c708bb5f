//! The maps stay consistent after every op of every plan, and plans come to an end.

use super::*;
use crate::dataplane::vip_of;
use crate::{config::Protocol, desired::Backend, desired::Role, nexthop::NextHop};
use proptest::prelude::*;
use std::time::Duration;

const SLOTS: u32 = 400;
const SIZE: u32 = 101;
const WINDOW: Duration = Duration::from_secs(10);

fn key(service: u8) -> ServiceKey {
    ServiceKey { vip: [192, 0, 2, service].into(), port: 80, protocol: Protocol::Tcp }
}

type Wish = Vec<(u8, Role, bool)>;

fn service(backends: &Wish, tracking: Tracking) -> desired::Service {
    let backend = |(last, role, resolved): &(u8, Role, bool)| {
        let backend = Backend { role: *role, weight: 100, next_hop: resolved.then(NextHop::some) };
        (IpAddr::from([10, 0, 0, *last]), backend)
    };
    desired::Service {
        name: "test".into(),
        forward: crate::config::Forward::Ipip,
        tracking,
        window: WINDOW,
        table_size: SIZE,
        panic: false,
        backends: backends.iter().map(backend).collect(),
    }
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
    let services = prop::collection::btree_map((1u8..6).prop_map(key), (wish(), tracking_mode()), 0..5);
    services.prop_map(|services| Desired {
        services: services
            .into_iter()
            .map(|(key, (wish, tracking))| (key, service(&wish, tracking)))
            .collect(),
    })
}

/// The maps and all that a reconciler remembers.
struct World {
    actual: Actual,
    tables: Tables,
    history: History,
    sweep: Sweep,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            actual: Actual::empty(SLOTS),
            tables: Tables::default(),
            history: History::default(),
            sweep: Sweep::default(),
            now: Instant::now(),
        }
    }

    fn plan(&self, desired: &Desired) -> Plan {
        let Self { actual, tables, history, sweep, now } = self;
        plan(actual, desired, Circumstances { services: 4, backends: 20, tables, history, sweep, now: *now })
    }

    fn reconcile(&mut self, desired: &Desired) -> Result<Plan, TestCaseError> {
        let plan = self.plan(desired);
        for op in &plan.ops {
            self.history.note(op, &self.actual, self.now);
            self.actual.apply(op);
            prop_assert!(self.actual.is_consistent(), "after {:?}", op);
        }
        self.history.conclude(&plan, &self.sweep, self.now);
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
        let vips = world.actual.services.keys().map(|key| vip_of(*key)).collect::<BTreeSet<_>>();
        prop_assert_eq!(&world.actual.vips, &vips);
        for backend in world.actual.backends.values() {
            let service = world.actual.services.values().find(|entry| entry.id == backend.service);
            let key = desired.services.iter().find(|(key, _)| service.is_some_and(|s| s.key == abi_key(**key)));
            prop_assert!(key.is_some_and(|(_, s)| s.backends.contains_key(&host_address(backend.address))));
        }
    }
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
            .map(|port| (ServiceKey { port: *port, ..key(1) }, service(&vec![], Tracking::Never)))
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
    world.actual.vips = BTreeSet::from([IpAddr::from([192, 0, 2, 99])]);
    let ops = world.plan(&desired).ops;
    assert_eq!(ops, [Op::AddVip(key(1).vip), Op::RemoveVip([192, 0, 2, 99].into())]);
}

#[test]
fn what_does_not_fit_is_a_problem_and_the_rest_goes_on() {
    let mut world = World::new();
    let services = (1..=5).map(|n| (key(n), service(&vec![(1, Role::Active, true)], Tracking::Adaptive)));
    let plan = world.reconcile(&Desired { services: services.collect() }).unwrap();
    assert_eq!(world.actual.services.len(), 3);
    assert_eq!(plan.problems.len(), 2, "{:?}", plan.problems);
}
