use super::*;
use crate::config::{self, Measure};
use proptest::prelude::*;

const FOLLOWS: Performance = Performance { by: Measure::Both, floor: 20, moved: 10 };

fn service() -> ServiceKey {
    let text = "[agent]\ninterfaces = [\"eth0\"]\n[[service]]\nname = \"web\"\nvip = \"203.0.113.10\"\nport = 80\n\
                protocol = \"tcp\"\nforward = \"ipip\"\n[[service.backend]]\naddress = \"10.0.0.1\"\n";
    config::parse("test", text).unwrap().services[0].key()
}

fn key(last: u8) -> health::Key {
    health::Key { service: service(), address: [10, 0, 0, last].into() }
}

/// Backends 1, 2 … of weight 100, by latency in milliseconds and load.
fn measured(of: &[(u64, Option<f64>)]) -> BTreeMap<IpAddr, Measured> {
    let one = |(latency, load): &(u64, Option<f64>)| Measured {
        weight: 100,
        latency: Some(Duration::from_millis(*latency)),
        load: *load,
    };
    (1_u8..).zip(of).map(|(last, of)| (key(last).address, one(of))).collect()
}

/// Learns the same every second for so long; answers the factors.
fn after(seconds: u64, follows: Performance, of: &[(u64, Option<f64>)]) -> Vec<f64> {
    let (mut factors, begin) = (Factors::default(), Instant::now());
    for second in 0..=seconds {
        factors.learn(service(), follows, &measured(of), begin + Duration::from_secs(second));
    }
    (1..=u8::try_from(of.len()).unwrap()).map(|last| factors.of(&key(last)).unwrap().0).collect()
}

#[test]
fn a_slow_backend_gets_less_and_the_others_keep_all() {
    let factors = after(600, FOLLOWS, &[(10, None), (10, None), (43, None)]);
    // (10 + 1) / (43 + 1), of which a fifth more is forgiven.
    assert!((factors[2] - 0.3125).abs() < 0.02, "{factors:?}");
    assert_eq!(factors[..2], [1.0, 1.0]);
}

#[test]
fn nobody_falls_below_the_floor() {
    let factors = after(3600, FOLLOWS, &[(10, None), (10, None), (5000, Some(1.0))]);
    assert!((factors[2] - 0.2).abs() < 0.02, "{factors:?}");
}

#[test]
fn small_differences_are_forgiven() {
    assert_eq!(after(600, FOLLOWS, &[(10, None), (10, None), (12, None)]), [1.0; 3]);
    assert_eq!(after(600, FOLLOWS, &[(0, None), (0, None), (0, None)]), [1.0; 3]);
}

#[test]
fn load_takes_in_proportion_to_what_is_free() {
    let factors = after(600, FOLLOWS, &[(10, Some(0.2)), (10, Some(0.6)), (10, None)]);
    assert!((factors[1] - 0.5).abs() < 0.02 && factors[0] == 1.0 && factors[2] == 1.0, "{factors:?}");
}

#[test]
fn only_what_is_configured_counts() {
    let of = [(10, Some(0.9)), (10, Some(0.0)), (100, Some(0.0))];
    let by = |by| after(1200, Performance { by, ..FOLLOWS }, &of);
    let (latency, load) = (by(Measure::Latency), by(Measure::Load));
    assert!(latency[0] == 1.0 && latency[2] < 0.3, "{latency:?}");
    assert!(load[0] < 0.3 && load[2] == 1.0, "{load:?}");
}

#[test]
fn what_is_over_is_won_back_and_said() {
    let (mut factors, begin) = (Factors::default(), Instant::now());
    let mut learn = |from: u64, of: &[(u64, Option<f64>)]| {
        for second in from..from + 600 {
            factors.learn(service(), FOLLOWS, &measured(of), begin + Duration::from_secs(second));
        }
        let (factor, reason) = factors.of(&key(2)).unwrap();
        (factor, reason.to_owned(), factors.apply(&key(2), 100))
    };
    let (factor, reason, share) = learn(0, &[(10, None), (43, None), (10, None)]);
    assert!(factor < 0.35 && (30..=33).contains(&share), "{factor} {share}");
    assert_eq!(reason, "answers in 43.0 ms, half of the others in 10.0 ms");
    let (factor, _, share) = learn(600, &[(10, None), (10, None), (10, None)]);
    assert!(factor > 0.97 && share >= 97, "{factor} {share}");
}

#[test]
fn a_backend_of_which_nothing_is_known_keeps_its_weight() {
    let mut factors = Factors::default();
    let nothing = Measured { weight: 100, latency: None, load: None };
    let known = Measured { latency: Some(Duration::from_millis(1)), ..nothing };
    let measured = BTreeMap::from([(key(1).address, nothing), (key(2).address, known)]);
    assert!(!factors.learn(service(), FOLLOWS, &measured, Instant::now()));
    assert_eq!(
        (factors.apply(&key(1), 100), factors.apply(&key(9), 7), factors.apply(&key(1), 0)),
        (100, 7, 0)
    );
    factors.keep(|_| false);
    assert_eq!(factors.of(&key(1)), None);
}

prop_compose! {
    fn any_measured()(
        each in prop::collection::vec((0_u16..1000, prop::option::of(0_u64..5000), prop::option::of(0.0..1.5)), 1..8),
    ) -> BTreeMap<IpAddr, Measured> {
        let one = |(weight, latency, load): (u16, Option<u64>, Option<f64>)| Measured {
            weight, latency: latency.map(Duration::from_millis), load,
        };
        (1_u8..).zip(each).map(|(last, of)| (key(last).address, one(of))).collect()
    }
}

/// The weights of backends that are there before and after.
fn weights(factors: &Factors, measured: &BTreeMap<IpAddr, Measured>) -> Vec<f64> {
    let factor = |address: &IpAddr| {
        factors.of(&health::Key { service: service(), address: *address }).map_or(1.0, |(factor, _)| factor)
    };
    measured.iter().map(|(address, measured)| f64::from(measured.weight) * factor(address)).collect()
}

proptest! {
    // A case is up to 120 steps of a few backends.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is measured: factors stay within their bounds, and no minute moves more than it may.
    #[test]
    fn bounds_hold(
        rounds in prop::collection::vec(any_measured(), 1..4),
        floor in 1_u8..=100,
        moved in 1_u8..=100,
        pause in 1_u64..30,
    ) {
        let (mut factors, begin) = (Factors::default(), Instant::now());
        let follows = Performance { by: Measure::Both, floor, moved };
        let mut moves: Vec<(u64, f64)> = Vec::new();
        for (round, measured) in rounds.iter().enumerate() {
            for step in 0..40 {
                let second = (round as u64 * 40 + step) * pause;
                let before = weights(&factors, measured);
                factors.learn(service(), follows, measured, begin + Duration::from_secs(second));
                let after = weights(&factors, measured);
                for address in measured.keys() {
                    let (factor, _) = factors.of(&health::Key { service: service(), address: *address }).unwrap();
                    prop_assert!((f64::from(floor) / 100.0 - 1e-9..=1.0 + 1e-9).contains(&factor));
                }
                moves.push((second, budget::moved(&before, &after, 1.0)));
                // What was saved in the minute before may be spent at its end.
                let recent: f64 = moves.iter().filter(|(at, _)| at + 60 > second).map(|(_, part)| part).sum();
                prop_assert!(recent <= 2.0 * f64::from(moved) / 100.0 + 1e-6, "{recent}");
            }
        }
    }
}
