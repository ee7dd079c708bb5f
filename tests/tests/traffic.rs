//! Real HTTP traffic through the balancer.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use mesh_tests::scene::{Plot, Way};

const V4: &str = "192.0.2.10";
const V6: &str = "2001:db8::10";

/// Requests with a connection each reach every backend, and nobody else answers.
fn assert_balances(vip: &str, way: Way, native: bool, decap: &[&'static str]) {
    let scene = Plot { native, decap: decap.to_vec(), ..Plot::new(vip, way).unwrap() }.set().unwrap();
    let answers = scene.answers(60).unwrap();
    let backends: Vec<String> = (0..3).map(|n| scene.backend(n).unwrap().to_string()).collect();
    assert!(answers.keys().eq(backends.iter().collect::<std::collections::BTreeSet<_>>()), "{answers:?}");
}

macro_rules! balances {
    ($($name:ident: $vip:expr, $way:expr, $native:expr $(, $decap:literal)*;)+) => {
        $(#[test]
        fn $name() {
            assert_balances($vip, $way, $native, &[$($decap),*]);
        })+
    };
}

balances! {
    ipv4_is_balanced_by_direct_return: V4, Way::L2, false;
    ipv6_is_balanced_by_direct_return: V6, Way::L2, false;
    ipv4_is_balanced_in_ipv4: V4, Way::IpipV4, false;
    ipv4_is_balanced_in_ipv6: V4, Way::IpipV6, false;
    ipv6_is_balanced_in_ipv4: V6, Way::IpipV4, false;
    ipv6_is_balanced_in_ipv6: V6, Way::IpipV6, false;
    native_xdp_balances_by_direct_return: V4, Way::L2, true;
    native_xdp_balances_in_ipv6: V4, Way::IpipV6, true;
    native_xdp_balances_by_gue: V4, Way::GueV4, true;
    native_xdp_balances_by_geneve: V6, Way::GeneveV6, true;
}

balances! {
    ipv4_is_balanced_by_gue_in_ipv4: V4, Way::GueV4, false;
    ipv6_is_balanced_by_gue_in_ipv4: V6, Way::GueV4, false, "--mode", "generic";
    ipv4_is_balanced_by_gue_in_ipv6: V4, Way::GueV6, false, "--mode", "native";
    ipv6_is_balanced_by_gue_in_ipv6: V6, Way::GueV6, false;
    ipv4_is_balanced_by_geneve_in_ipv4: V4, Way::GeneveV4, false;
    ipv6_is_balanced_by_geneve_in_ipv4: V6, Way::GeneveV4, false, "--mode", "generic";
    ipv4_is_balanced_by_geneve_in_ipv6: V4, Way::GeneveV6, false, "--mode", "native";
    ipv6_is_balanced_by_geneve_in_ipv6: V6, Way::GeneveV6, false;
}

// The backends unwrap by tc; where both families meet, the kernel has to notice.
balances! {
    tc_unwraps_ipv4_in_ipv4: V4, Way::IpipV4, false, "--mode", "tc";
    tc_unwraps_ipv6_in_ipv4: V6, Way::IpipV4, false, "--mode", "tc";
    tc_unwraps_ipv4_in_ipv6: V4, Way::IpipV6, false, "--mode", "tc";
    tc_unwraps_ipv6_by_gue_in_ipv6: V6, Way::GueV6, false, "--mode", "tc";
    tc_unwraps_ipv4_by_gue_in_ipv6: V4, Way::GueV6, false, "--mode", "tc";
    tc_unwraps_ipv6_by_geneve_in_ipv4: V6, Way::GeneveV4, false, "--mode", "tc";
    tc_unwraps_ipv4_by_geneve_in_ipv4: V4, Way::GeneveV4, false, "--mode", "tc";
}
