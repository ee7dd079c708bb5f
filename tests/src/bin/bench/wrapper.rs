//! The wrapper program, its traffic and the program under test.

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, include_bytes_aligned};
use mesh_common::bench::{Traffic, WORDS};
use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

use crate::facts::{Facts, load};

/// `XDP_TX` of the kernel's ABI.
const TRANSMIT: u32 = 3;

/// What some packets took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) packets: u32,
    pub(crate) took: Duration,
}

impl Run {
    /// Nanoseconds per packet.
    pub(crate) fn each(self) -> f64 {
        self.took.as_secs_f64() * 1e9 / f64::from(self.packets)
    }
}

/// The measuring programs, loaded.
pub(crate) struct Wrapper {
    object: Ebpf,
    programs: ProgramArray<MapData>,
    traffic: Array<MapData, [u64; WORDS]>,
    /// About each program.
    pub(crate) facts: Vec<Facts>,
}

impl Wrapper {
    pub(crate) fn load() -> Result<Self> {
        let mut object = Ebpf::load(include_bytes_aligned!(env!("MESHLB_BENCH_OBJECT")))?;
        let facts = ["null", "floor4", "floor6", "wrapper"]
            .map(|name| load(name, program(&mut object, name)?))
            .into_iter()
            .collect::<Result<_>>()?;
        let programs = object.take_map("PROGRAMS").context("the object has no map PROGRAMS")?.try_into()?;
        let traffic = object.take_map("TRAFFIC").context("the object has no map TRAFFIC")?.try_into()?;
        Ok(Self { object, programs, traffic, facts })
    }

    /// One of the measuring programs.
    pub(crate) fn fd(&mut self, name: &str) -> Result<ProgramFd> {
        Ok(program(&mut self.object, name)?.fd()?.try_clone()?)
    }

    /// Plays packets to a program under test, which must send each with `grown` bytes more. `traffic` goes on.
    pub(crate) fn play(
        &mut self,
        program_under_test: &ProgramFd,
        traffic: &mut Traffic,
        grown: u32,
        packets: u32,
    ) -> Result<Run> {
        self.programs.set(0, program_under_test, 0)?;
        self.traffic.set(0, traffic.words(), 0)?;
        let frame = vec![0; usize::try_from(traffic.length)?];
        let options = TestRunOptions {
            data_in: Some(&frame),
            data_out: None,
            ctx_in: None,
            ctx_out: None,
            repeat: packets,
            attrs: TestRunAttrs::new(),
        };
        let wrapper = program(&mut self.object, "wrapper")?;
        let before = processor_time()?;
        let result = wrapper.test_run(options)?;
        let took = processor_time()? - before;
        *traffic = Traffic::from_words(self.traffic.get(&0, 0)?);
        let sent = (result.return_value, u64::from(result.data_size_out));
        let expected = (TRANSMIT, traffic.length + u64::from(grown));
        ensure!(sent == expected, "a packet ended as (action, bytes) {sent:?} instead of {expected:?}");
        Ok(Run { packets, took })
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let missing = || format!("the measuring object has no program `{name}`: run `cargo xtask build`");
    Ok(object.program_mut(name).with_context(missing)?.try_into()?)
}

/// This thread's time on a processor: what others run meanwhile does not count, and the kernel's own figure is whole
/// nanoseconds.
fn processor_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}
