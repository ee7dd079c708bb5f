//! As many services and backends as the limits are meant for, from the file to the kernel's maps and back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use mesh_tests::lab::{Lab, next_hop, send};
use mesh_userspace::config::{self, Config};
use mesh_userspace::dataplane::wire_address;
use mesh_userspace::desired::{Desired, Inputs, desired};
use mesh_userspace::health::Outliers;
use mesh_userspace::nexthop::Resolution;
use mesh_userspace::overrides::Overrides;
use mesh_userspace::performance::Factors;
use mesh_userspace::reconcile::Reconciler;

use crate::frame::{Flags, Frame, Transport};
use crate::world::xdp;

const SERVICES: u32 = 10_000;
const BACKENDS_EACH: u32 = 10;

/// The first address of a service; every tenth service is a range of ports.
fn vip(service: u32) -> IpAddr {
    let [_, high, middle, low] = service.to_be_bytes();
    IpAddr::from([20, high, middle, low])
}

fn is_wide(service: u32) -> bool {
    service.is_multiple_of(10)
}

fn backend(service: u32, number: u32) -> IpAddr {
    let [_, high, middle, low] = (service * BACKENDS_EACH + number).to_be_bytes();
    IpAddr::from([10, high, middle, low])
}

/// The file, without a backend if so wanted.
fn text(without: Option<IpAddr>) -> String {
    let mut text = format!(
        "[agent]\ninterfaces = [\"lo\"]\n[limits]\nservices = {SERVICES}\nbackends = {}\nslots = {}\n",
        SERVICES * BACKENDS_EACH,
        SERVICES * 251
    );
    for service in 0..SERVICES {
        let port = if is_wide(service) { "\"8000-8100\"" } else { "8000" };
        write!(
            text,
            "[[service]]\nname = \"s{service}\"\nvip = \"{}\"\nport = {port}\nprotocol = \"tcp\"\n\
             forward = \"l2\"\ntable_size = 251\n",
            vip(service)
        )
        .unwrap();
        let backends = (0..BACKENDS_EACH).map(|number| backend(service, number));
        for address in backends.filter(|address| Some(*address) != without) {
            write!(text, "[[service.backend]]\naddress = \"{address}\"\n").unwrap();
        }
    }
    text
}

fn wish(config: &Config, next_hops: &BTreeMap<IpAddr, Resolution>) -> Desired {
    let (verdicts, overrides) = (BTreeMap::new(), Overrides::default());
    desired(Inputs {
        config,
        verdicts: &verdicts,
        next_hops,
        overrides: &overrides,
        factors: &Factors::default(),
        outliers: &Outliers::default(),
        local: None,
        now: Instant::now(),
    })
}

/// Whatever looks at all of the others for each service or backend takes minutes here, and the test runner ends it.
#[test]
fn ten_thousand_services_with_a_hundred_thousand_backends_work() {
    let begin = Instant::now();
    let step = |what: &str| println!("{:>8.1?} {what}", begin.elapsed());
    let before = config::parse("scale.toml", &text(None)).unwrap();
    step("the file is read and checked");
    let hop = next_hop("10.0.0.9".parse().unwrap());
    let addresses = before.services.iter().flat_map(|service| &service.backends);
    let next_hops = addresses.map(|backend| (backend.address, Resolution::Resolved(hop))).collect();

    let lab = Lab::of_size(before.limits.into()).unwrap();
    let (kernel, _bpffs) = lab.into_kernel();
    let mut reconciler = Reconciler::new(kernel, before.limits, Instant::now()).unwrap();
    reconciler.reconcile(&wish(&before, &next_hops), Instant::now()).unwrap();
    step("the maps are filled");
    assert_eq!(reconciler.problems(), Vec::<String>::new());
    assert_eq!(reconciler.actual().services.len(), usize::try_from(SERVICES).unwrap());
    assert_eq!(reconciler.actual().backends.len(), usize::try_from(SERVICES * BACKENDS_EACH).unwrap());
    assert!(reconciler.actual().is_consistent());
    let believed = reconciler.actual().clone();
    reconciler.reread(Instant::now()).unwrap();
    assert!(*reconciler.actual() == believed, "the maps hold what the agent believes");
    step("the maps are read again");
    assert_eq!(reconciler.reconcile(&wish(&before, &next_hops), Instant::now()).unwrap(), 0);
    step("there is nothing more to do");

    let gone = backend(SERVICES - 1, 0);
    let after = config::parse("scale.toml", &text(Some(gone))).unwrap();
    let ops = reconciler.reconcile(&wish(&after, &next_hops), Instant::now()).unwrap();
    assert!((1..=251).contains(&ops), "{ops} ops for one backend");
    step("a backend is gone");

    for service in [0, 1, SERVICES - 10, SERVICES - 1] {
        for port in [8000, 8100] {
            let vip = vip(service);
            let client = SocketAddr::from(([198, 51, 100, 7], 4000));
            let frame = Frame::new(client, SocketAddr::new(vip, port), Transport::Tcp(Flags::Syn));
            let (action, _) = send(reconciler.dataplane(), &frame.bytes()).unwrap();
            let is_ours = port == 8000 || is_wide(service);
            assert_eq!(action, if is_ours { xdp::TX } else { xdp::PASS }, "{vip}:{port}");
            assert_eq!(reconciler.actual().find(wire_address(vip), 6, port).is_some(), is_ours);
        }
    }
    assert_eq!(believed.routes.groups.len(), usize::try_from(SERVICES / 10).unwrap());
    let none = Config { services: Vec::new(), ..after };
    reconciler.reconcile(&wish(&none, &next_hops), Instant::now()).unwrap();
    step("all services are gone");
    assert!(reconciler.actual().services.is_empty() && reconciler.actual().routes.groups.is_empty());
}
