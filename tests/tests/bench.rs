//! The benchmarks run and their figures are there; how large they are is no matter of a test.
#![expect(clippy::unwrap_used, reason = "a test's helpers fail by panicking, too")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_bench")).args(arguments).output().unwrap()
}

fn positive(value: &Value, key: &str) -> bool {
    value[key].as_f64().is_some_and(|number| number.is_finite() && number > 0.0)
}

/// A figure is there. Its sign is no matter of a test: the empty program's time is subtracted, and on a busy
/// machine the short rounds of `--quick` can find that one to be the slower.
fn is_figure(value: &Value, key: &str) -> bool {
    value[key].as_f64().is_some_and(f64::is_finite)
}

#[test]
fn every_case_of_the_quick_benchmark_has_a_figure() {
    let output = bench(&["--quick", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = report["cases"].as_array().unwrap();
    for case in cases {
        assert!(
            ["nanoseconds", "ratio", "ratio_to_own_floor"].iter().all(|key| is_figure(case, key)),
            "{case}"
        );
        assert!(["ipv4", "ipv6"].iter().all(|family| is_figure(&case["floor"], family)), "{case}");
    }
    let names: BTreeSet<_> =
        cases.iter().map(|case| (case["group"].as_str(), case["case"].as_str())).collect();
    assert_eq!((cases.len(), names.len()), (38, 38), "{names:?}");
}

#[test]
fn programs_are_reported_with_their_sizes() {
    let output = bench(&["--quick", "--only", "migrating", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let programs = report["programs"].as_array().unwrap();
    let names: Vec<_> = programs.iter().map(|program| program["program"].as_str().unwrap()).collect();
    let balancer = [
        "meshlb",
        "whole",
        "quic",
        "choose",
        "nat",
        "connect",
        "reply",
        "translate",
        "cookie",
        "splice",
        "deliver",
        "reject",
    ];
    assert_eq!(names, [["null", "floor4", "floor6", "wrapper"].as_slice(), &balancer].concat());
    let facts = ["verified_instructions", "machine_code", "load_milliseconds"];
    assert!(programs.iter().all(|program| facts.iter().all(|key| positive(program, key))), "{programs:?}");
}

#[test]
fn the_benchmark_of_the_agent_measures_both_shapes() {
    let output = bench(&["control", "--quick", "-o", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shapes = report["shapes"].as_array().unwrap();
    let sizes: Vec<_> =
        shapes.iter().map(|row| (row["services"].as_u64(), row["backends"].as_u64())).collect();
    assert_eq!(sizes, [(Some(100), Some(10)), (Some(1), Some(1000))]);
    for row in shapes {
        let figures = ["reload_ms", "discovery_ms", "order_ms", "arrival_ms", "rss_mib", "probed_percent"];
        assert!(figures.iter().all(|key| positive(row, key)), "{row}");
        assert!(row["idle_percent"].as_f64().is_some_and(|percent| percent >= 0.0), "{row}");
    }
}

/// Namespaces, files and processes of the benchmark that had this number.
fn traces_of(pid: u32) -> Vec<String> {
    let mark = format!("mlb-{pid}-");
    let names = |directory: &str| {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let mut traces = names("/run/netns");
    traces.extend(names(std::env::temp_dir().to_str().unwrap()));
    // Every server is started with a file or in a directory of its topology.
    let command = |pid: &String| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    traces.extend(names("/proc").iter().map(command));
    traces.retain(|trace| trace.contains(&mark));
    traces
}

#[test]
fn every_way_of_the_system_benchmark_is_measured_without_an_error() {
    let child = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["system", "--quick", "--rounds", "1", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(output.status.success(), "{said}\n{report:#}");
    let rows = report["ways"].as_array().unwrap();
    let ways: Vec<_> = rows.iter().map(|row| row["way"].as_str().unwrap()).collect();
    let expected =
        ["direct", "meshlb-l2", "meshlb-ipip", "meshlb-nat", "nftables", "haproxy", "nginx-stream"];
    assert_eq!(ways, expected);
    rows.iter().for_each(assert_true);
    assert_eq!(traces_of(pid), Vec::<String>::new());
}

#[test]
fn honest_clients_are_answered_in_floods() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["floods", "--pace", "10000", "--seconds", "4", "-o", "json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of_each =
        |key: &str| rows.iter().map(|row| row[key].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(of_each("flood"), ["SYNs", "datagrams"].repeat(3));
    assert_eq!(of_each("way")[..4], ["meshlb-nat", "meshlb-nat", "meshlb-l2", "meshlb-l2"]);
    for row in &rows[..4] {
        let [tried, answered] = ["tried", "answered"].map(|key| row[key].as_u64().unwrap());
        assert!(tried > 100 && answered * 100 >= tried * 99, "{row:#}");
        assert!(row["packets_per_second"].as_u64().unwrap() > 1000 && positive(row, "rate"), "{row:#}");
    }
}

/// All was answered, by every backend, and came by the balancer if there is one.
fn assert_true(row: &Value) {
    assert_eq!(row["failure"], Value::Null, "{row:#}");
    let errors = row["errors"].as_object().unwrap();
    assert!(errors.len() == 5 && errors.values().all(|count| *count == 0), "{row:#}");
    let requests = row["requests"].as_u64().unwrap();
    let accepted = row["accepted_by_backends"].as_array().unwrap();
    let accepted: Vec<u64> = accepted.iter().map(|count| count.as_u64().unwrap()).collect();
    assert!(requests > 0 && accepted.iter().sum::<u64>() >= requests, "{row:#}");
    assert!(accepted.len() == 3 && accepted.iter().all(|count| *count > 0), "{row:#}");
    let passed = row["passed"].as_u64().unwrap();
    assert!(if row["way"] == "direct" { passed < requests } else { passed >= requests }, "{row:#}");
    let figures = &row["figures"];
    let measured = ["requests_per_second", "latency_p50_microseconds", "latency_p99_microseconds"];
    assert!(measured.iter().all(|key| positive(figures, key)), "{row:#}");
    assert!(["up", "down"].iter().all(|way| positive(&figures[way], "gigabits_per_second")), "{row:#}");
}

#[test]
fn an_interrupted_system_benchmark_leaves_nothing() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["system", "--quick"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let said: Vec<String> = lines.take_while(|line| !line.contains("round 1")).collect();
    let all = traces_of(child.id());
    assert!(all.iter().any(|trace| trace.contains("haproxy")), "{said:?} {all:?}");
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(Signal::SIGINT as i32));
    assert_eq!(traces_of(child.id()), Vec::<String>::new());
}
