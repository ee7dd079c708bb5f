//! One packet through a program by `BPF_PROG_TEST_RUN`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions, TestRunResult};

/// Room behind the packet for what a program puts in front of it.
const GROWTH: usize = 256;

/// What became of a packet; `O` names the ends of journeys through the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict<O: Ord> {
    /// `XDP_PASS` and its like.
    pub action: u32,
    /// The packet as the program left it.
    pub packet: Vec<u8>,
    /// The counters that moved, and by how much.
    pub moved: BTreeMap<O, u64>,
}

/// A program that takes packets.
pub(super) trait Runnable:
    for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>
{
}

impl<P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>> Runnable for P {}

/// The action, and the packet as the program left it.
pub(super) type Answer = (u32, Vec<u8>);

/// Runs a packet that lies behind `metadata` bytes of metadata: they take from the head room.
pub(super) fn run(program: &impl Runnable, packet: &[u8], metadata: usize) -> Result<Answer> {
    let input = [vec![0; metadata].as_slice(), packet].concat();
    let context = context(metadata, input.len())?;
    let (action, output) = run_with(program, &input, (metadata > 0).then_some(&context))?;
    Ok((action, output.get(metadata..).context("the program removed the metadata")?.to_vec()))
}

/// Runs a packet with a context, which is the program's kind's.
pub(super) fn run_with(program: &impl Runnable, input: &[u8], context: Option<&[u8]>) -> Result<Answer> {
    // Garbage, so that a byte which the kernel did not write is seen.
    let mut output = vec![0xa5; input.len() + GROWTH];
    let options = TestRunOptions {
        data_in: Some(input),
        data_out: Some(&mut output),
        ctx_in: context,
        ..TestRunOptions::new()
    };
    let result = program.test_run(options)?;
    output.truncate(usize::try_from(result.data_size_out)?);
    Ok((result.return_value, output))
}

/// A `struct xdp_md` as test runs want it: the packet's start and end as offsets, the rest zero.
fn context(metadata: usize, length: usize) -> Result<[u8; 24]> {
    let [data, end] = [u32::try_from(metadata)?, u32::try_from(length)?].map(u32::to_ne_bytes);
    let mut context = [0; 24];
    for (place, byte) in context.iter_mut().zip(data.into_iter().chain(end)) {
        *place = byte;
    }
    Ok(context)
}

/// Which counters moved between two readings.
pub(super) fn moved<O: Ord + Copy>(before: &BTreeMap<O, u64>, after: &BTreeMap<O, u64>) -> BTreeMap<O, u64> {
    let by = |outcome, count: &u64| count.wrapping_sub(before.get(outcome).copied().unwrap_or(0));
    after.iter().map(|(outcome, count)| (*outcome, by(outcome, count))).filter(|(_, by)| *by != 0).collect()
}
