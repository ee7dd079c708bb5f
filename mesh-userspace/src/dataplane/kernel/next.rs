//! Somebody else's XDP program behind ours: it gets what ours pass.

use super::is_missing;
use aya::{
    maps::{MapData, MapError, ProgramArray},
    programs::{ProgramError, ProgramInfo, Xdp},
};
use aya_obj::{generated::bpf_prog_type, programs::XdpAttachType};
use mesh_common::abi::programs;
use std::path::{Path, PathBuf};

/// Why the next program cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NextError {
    /// Nothing is pinned there.
    #[error(
        "no program is pinned at {path}; pin it first: bpftool prog load FILE {path} type xdp, or leave the key out"
    )]
    Missing {
        /// The pin.
        path: PathBuf,
    },
    /// What is pinned there is no XDP program.
    #[error("what is pinned at {path} is not an XDP program; see: bpftool prog show pinned {path}")]
    NotXdp {
        /// The pin.
        path: PathBuf,
    },
    /// The kernel refused to open it.
    #[error("could not open the program pinned at {path}: {source}")]
    Open {
        /// The pin.
        path: PathBuf,
        /// The reason.
        source: Box<ProgramError>,
    },
    /// The kernel does not let our program call it.
    #[error(
        "the kernel refused the program pinned at {path} behind ours: {source}; it must be loaded as ours is: with \
         support for several buffers (section xdp.frags), for no single device"
    )]
    Refused {
        /// The pin.
        path: PathBuf,
        /// The reason.
        source: MapError,
    },
    /// The place of an earlier one cannot be cleared.
    #[error("could not take an earlier agent's program out of the map PROGRAMS: {0}")]
    Clear(MapError),
}

/// The program, opened.
pub(super) struct Next {
    path: PathBuf,
    program: Xdp,
}

impl Next {
    pub(super) fn open(path: &Path) -> Result<Self, NextError> {
        let program = Xdp::from_pin(path, XdpAttachType::Interface).map_err(|error| unopened(path, error))?;
        let info = program.info().map_err(|error| unopened(path, error))?;
        if !is_xdp(&info) {
            return Err(NextError::NotXdp { path: path.to_owned() });
        }
        Ok(Self { path: path.to_owned(), program })
    }
}

fn is_xdp(info: &ProgramInfo) -> bool {
    info.program_type() == bpf_prog_type::BPF_PROG_TYPE_XDP
}

/// Puts the program where ours calls it, or clears the place.
pub(super) fn put_in_place(places: &mut ProgramArray<MapData>, next: Option<&Next>) -> Result<(), NextError> {
    let Some(Next { path, program }) = next else {
        return match places.clear_index(&programs::NEXT) {
            Err(error) if !is_missing(&error) => Err(NextError::Clear(error)),
            Ok(()) | Err(_) => Ok(()),
        };
    };
    let fd = program.fd().map_err(|error| unopened(path, error))?;
    let refused = |source| NextError::Refused { path: path.clone(), source };
    places.set(programs::NEXT, fd, 0).map_err(refused)
}

fn unopened(path: &Path, error: ProgramError) -> NextError {
    let path = path.to_owned();
    if is_missing(&error) {
        return NextError::Missing { path };
    }
    NextError::Open { path, source: Box::new(error) }
}
