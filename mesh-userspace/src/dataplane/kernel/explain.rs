//! Packets that are run through the programs to see what would become of them.
//!
//! Invariant: an explanation changes nothing: the instance that is run shares the maps with the one that is attached, and
//! the verifier has removed from it whatever writes to them.

use super::{
    LoadError, PROGRAM, Plain, Recipe,
    load::{load_programs, open, program, put_in_place, shared, typed},
};
use aya::{
    Ebpf,
    maps::{MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{ProgramError, TestRun as _, TestRunOptions},
    util::nr_cpus,
};
use mesh_common::notes::{Event, Notes, instance, step};
use std::io;

/// Room for what is put in front of a packet: more than any outer header takes.
const GROWTH: usize = 256;

/// The instance of the programs that explains.
pub struct Explainer {
    ebpf: Ebpf,
    notes: PerCpuArray<MapData, Plain<Event>>,
    /// Kept, or the kernel would clear it.
    _places: ProgramArray<MapData>,
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Explained {
    /// What the programs noted.
    pub notes: Notes,
    /// The packet as they left it.
    pub output: Vec<u8>,
}

/// Why a packet cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// The kernel does not run the program on it.
    #[error("the kernel did not run the program: {0}")]
    Run(#[from] ProgramError),
    /// The notes cannot be read or cleared.
    #[error("map NOTES: {0}")]
    Notes(#[from] MapError),
    /// The kernel does not say how many processors there are.
    #[error("could not learn how many processors there are: {0}")]
    Processors(io::Error),
    /// The program has not noted an end.
    #[error("the program noted no end of the packet's journey")]
    NoEnd,
}

impl Explainer {
    /// Loads the instance. That takes the kernel a moment: the caller should not be the agent's loop.
    ///
    /// # Errors
    ///
    /// The kernel refuses, or the pins are gone.
    pub fn load(recipe: &Recipe) -> Result<Self, LoadError> {
        let mut ebpf = open(recipe, instance::EXPLAINING, &shared(&recipe.pins)?)?;
        load_programs(&mut ebpf)?;
        // Not the program that others put behind ours: nobody knows what it writes.
        let places = put_in_place(&mut ebpf, None)?;
        let notes = typed(&mut ebpf, "NOTES", PerCpuArray::try_from)?;
        Ok(Self { ebpf, notes, _places: places })
    }

    /// Runs a packet that comes in by an interface, and answers what was noted.
    ///
    /// # Errors
    ///
    /// The kernel does not run it: it is shorter than an Ethernet header, or there is no such interface.
    pub fn explain(&mut self, packet: &[u8], ingress: u32) -> Result<Explained, ExplainError> {
        let cpus = nr_cpus().map_err(|(_, source)| ExplainError::Processors(source))?;
        let blank = PerCpuValues::try_from(vec![Plain(Event::default()); cpus]);
        self.notes.set(0, blank.map_err(ExplainError::Processors)?, 0)?;
        let mut output = vec![0; packet.len() + GROWTH];
        let program = program(&mut self.ebpf, PROGRAM).map_err(|_missing| ProgramError::NotLoaded)?;
        let ran = program.test_run(TestRunOptions {
            data_in: Some(packet),
            data_out: Some(&mut output),
            ctx_in: Some(&context(packet.len(), ingress)),
            ..TestRunOptions::new()
        })?;
        output.truncate(usize::try_from(ran.data_size_out).unwrap_or(0));
        // Which processor it was run on, the notes tell.
        let notes = self.notes.get(&0, 0)?;
        let noted = notes.iter().map(|Plain(event)| event.notes).find(|notes| notes.has(step::ENDED));
        Ok(Explained { notes: noted.ok_or(ExplainError::NoEnd)?, output })
    }
}

/// A `struct xdp_md` as test runs want it: the packet's start and end as offsets, no metadata, the interface that it came
/// in by, its first queue, no other interface.
fn context(length: usize, ingress: u32) -> Vec<u8> {
    let end = u32::try_from(length).unwrap_or(u32::MAX);
    [0, end, 0, ingress, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect()
}
