//! What a program may cost to verify. Verified instructions are what the verifier walks through on all paths: they
//! grow with branches long before the program does, and at a million the kernel refuses it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mesh_tests::lab::Lab;
use mesh_userspace::decap::Decapsulator;
use serde::Deserialize;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ceiling {
    verified_instructions: u32,
}

fn ceilings() -> BTreeMap<String, Ceiling> {
    toml::from_str(include_str!("../../ceilings.toml")).unwrap()
}

/// Too much, or so much less that the ceiling guards nothing.
fn judge(
    program: &str,
    measured: u32,
    Ceiling { verified_instructions: ceiling }: Ceiling,
) -> Result<(), String> {
    let raised = measured + measured / 10;
    if measured > ceiling {
        return Err(format!(
            "program {program} took {measured} verified instructions, its ceiling is {ceiling}. Think first: a new \
             branch before the packet is parsed doubles every path behind it, old kernels walk more of them, and \
             each instruction is run per packet. If what is gained is worth it, raise the ceiling in \
             tests/ceilings.toml to about {raised} and say in the commit what is gained."
        ));
    }
    if measured < ceiling / 10 * 7 {
        return Err(format!(
            "program {program} took {measured} verified instructions, far below its ceiling of {ceiling}. Lower it in \
             tests/ceilings.toml to about {raised}, so that what was gained stays."
        ));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the measurements are wanted, not only whether they pass")]
fn check(program: &str, verified: Option<u32>, took: Duration) {
    let measured = verified.expect("the kernel tells verified instructions since 5.16; use a newer one");
    println!("{program}: {measured} verified instructions, loaded in {took:?}");
    let ceiling = ceilings().get(program).copied();
    let ceiling = ceiling.unwrap_or_else(|| panic!("tests/ceilings.toml has no [{program}]"));
    judge(program, measured, ceiling).unwrap_or_else(|complaint| panic!("{complaint}"));
}

#[test]
fn the_balancers_programs_stay_below_their_ceilings_and_near_them() {
    let lab = Lab::new().unwrap();
    for program in &lab.kernel.loaded().programs {
        check(program.name, program.verified_instructions, program.took);
    }
}

#[test]
fn the_decapsulator_stays_below_its_ceiling_and_near_it() {
    let mut decapsulator = Decapsulator::load().unwrap();
    let started = Instant::now();
    let xdp = decapsulator.xdp().unwrap().info().unwrap();
    check("decap", xdp.verified_instruction_count(), started.elapsed());
    let started = Instant::now();
    let tc = decapsulator.tc().unwrap().info().unwrap();
    check("decap_tc", tc.verified_instruction_count(), started.elapsed());
}

#[test]
fn a_program_above_its_ceiling_and_one_far_below_are_complained_about() {
    let ceiling = Ceiling { verified_instructions: 1000 };
    assert!(judge("p", 1001, ceiling).is_err_and(|complaint| complaint.contains("raise")));
    assert!(judge("p", 699, ceiling).is_err_and(|complaint| complaint.contains("Lower")));
    assert_eq!(judge("p", 1000, ceiling), Ok(()));
    assert_eq!(judge("p", 700, ceiling), Ok(()));
}
