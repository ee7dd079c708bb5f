//! Attaching the decapsulator: by XDP where that is possible, else by tc.

use super::program::{DecapError, Decapsulator, TC_PROGRAM};
use crate::{config::XdpMode, dataplane::kernel};
use aya::programs::{
    LinkOrder, ProgramError, TcAttachType,
    tc::{NlOptions, TcAttachOptions, TcError, qdisc_add_clsact, qdisc_detach_program},
};
use nix::net::if_::if_nametoindex;
use std::{fmt, io::ErrorKind};
use tracing::{info, warn};

/// How the program is to be attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// The first of the others that is possible.
    #[default]
    Auto,
    /// By XDP in the driver.
    Native,
    /// By XDP in the kernel's stack.
    Generic,
    /// By tc, at the interface's ingress.
    Tc,
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By XDP in the driver.
    Native,
    /// By XDP in the kernel's stack.
    Generic,
    /// By tc's own links (kernel 6.6).
    Tcx,
    /// By tc's `clsact` queueing discipline.
    Clsact,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tc (tcx)",
            Self::Clsact => "tc (clsact)",
        })
    }
}

/// Why the program cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such interface.
    #[error("there is no interface {0:?} here; see: ip link")]
    NoInterface(String),
    /// The kernel refused XDP.
    #[error(transparent)]
    Xdp(#[from] kernel::AttachError),
    /// The kernel refused tc's program.
    #[error("could not attach to {interface} by tc: {source}")]
    Tc {
        /// The interface.
        interface: String,
        /// The reason.
        source: ProgramError,
    },
    /// The kernel refused tc's queueing discipline.
    #[error("could not prepare {interface} for tc: {source}; see: tc qdisc show dev {interface}")]
    Clsact {
        /// The interface.
        interface: String,
        /// The reason.
        source: TcError,
    },
    /// The program cannot be loaded.
    #[error(transparent)]
    Program(#[from] DecapError),
}

impl Mode {
    /// What is tried before the last way, and the last.
    const fn attempts(self) -> (&'static [Way], Way) {
        match self {
            Self::Auto => (&[Way::Native, Way::Generic, Way::Tcx], Way::Clsact),
            Self::Native => (&[], Way::Native),
            Self::Generic => (&[], Way::Generic),
            Self::Tc => (&[Way::Tcx], Way::Clsact),
        }
    }
}

/// Attaches the program to an interface until the decapsulator is dropped.
///
/// # Errors
///
/// The interface is not there, or no way of the mode is possible: the reason why the last is not.
pub fn attach(decapsulator: &mut Decapsulator, interface: &str, mode: Mode) -> Result<Way, AttachError> {
    let missing = |_| AttachError::NoInterface(interface.to_owned());
    if_nametoindex(interface).map_err(missing)?;
    let (before, last) = mode.attempts();
    for way in before {
        match attach_by(decapsulator, interface, *way) {
            Ok(()) => return Ok(*way),
            Err(reason) => warn!(mode = %way, %reason, "this mode is refused, trying the next"),
        }
    }
    attach_by(decapsulator, interface, last)?;
    Ok(last)
}

/// Attaches the program in one way.
///
/// # Errors
///
/// The kernel refuses.
pub fn attach_by(decapsulator: &mut Decapsulator, interface: &str, way: Way) -> Result<(), AttachError> {
    match way {
        Way::Native => drop(kernel::attach_best(decapsulator.xdp()?, interface, XdpMode::Native)?),
        Way::Generic => drop(kernel::attach_best(decapsulator.xdp()?, interface, XdpMode::Generic)?),
        // First in line, so that other programs see inner packets.
        Way::Tcx => attach_to_tc(decapsulator, interface, TcAttachOptions::TcxOrder(LinkOrder::first()))?,
        Way::Clsact => {
            prepare_clsact(interface)
                .map_err(|source| AttachError::Clsact { interface: interface.to_owned(), source })?;
            attach_to_tc(decapsulator, interface, TcAttachOptions::Netlink(NlOptions::default()))?;
        }
    }
    Ok(())
}

fn attach_to_tc(
    decapsulator: &mut Decapsulator,
    interface: &str,
    options: TcAttachOptions,
) -> Result<(), AttachError> {
    let attached = decapsulator.tc()?.attach_with_options(interface, TcAttachType::Ingress, options);
    attached.map_err(|source| AttachError::Tc { interface: interface.to_owned(), source })?;
    Ok(())
}

/// Makes sure of the queueing discipline, which stays when this process ends since others may have come to use it, and
/// removes the program that a killed process left there.
fn prepare_clsact(interface: &str) -> Result<(), TcError> {
    let added = qdisc_add_clsact(interface);
    match qdisc_detach_program(interface, TcAttachType::Ingress, TC_PROGRAM) {
        Ok(()) => info!(interface, "removed the program of an earlier process"),
        Err(TcError::IoError(error)) if error.kind() == ErrorKind::NotFound => {}
        // Where the discipline is not, the reason why it could not be added says more.
        Err(error) => return added.and(Err(error)),
    }
    Ok(())
}
