//! The benchmark runs and its figures are there; how large they are is no matter of a test.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::process::{Command, Output};

use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap()
}

fn positive(value: &Value, key: &str) -> bool {
    value[key].as_f64().is_some_and(|number| number.is_finite() && number > 0.0)
}

#[test]
fn every_case_of_the_quick_benchmark_has_a_figure() {
    let output = bench(&["--quick", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = report["cases"].as_array().unwrap();
    for case in cases {
        assert!(
            ["nanoseconds", "ratio", "ratio_to_own_floor"].iter().all(|key| positive(case, key)),
            "{case}"
        );
        assert!(["ipv4", "ipv6"].iter().all(|family| positive(&case["floor"], family)), "{case}");
    }
    let names: BTreeSet<_> =
        cases.iter().map(|case| (case["group"].as_str(), case["case"].as_str())).collect();
    assert_eq!((cases.len(), names.len()), (17, 17), "{names:?}");
}

#[test]
fn programs_are_reported_with_their_sizes() {
    let output = bench(&["--quick", "--only", "migrating", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let programs = report["programs"].as_array().unwrap();
    let names: Vec<_> = programs.iter().map(|program| program["program"].as_str().unwrap()).collect();
    assert_eq!(names, ["null", "floor4", "floor6", "wrapper", "meshlb"]);
    let facts = ["verified_instructions", "machine_code", "load_milliseconds"];
    assert!(programs.iter().all(|program| facts.iter().all(|key| positive(program, key))), "{programs:?}");
}
