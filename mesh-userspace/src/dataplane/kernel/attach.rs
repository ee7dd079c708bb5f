//! Attaching to interfaces through pinned links.

use super::{
    LoadError,
    pins::{PinError, Pins, escape, unescape},
};
use crate::config::XdpMode;
use aya::programs::{
    ProgramError, Xdp,
    links::{FdLink, LinkError, PinnedLink},
    xdp::{XdpLink, XdpLinkId, XdpMode as AyaMode},
};
use nix::net::if_::if_nametoindex;
use std::{fmt, path::Path};
use tracing::{info, warn};

/// Where XDP runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's network stack, after it made a buffer for the packet.
    Generic,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Native, Self::Generic];

    const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn aya(self) -> AyaMode {
        match self {
            Self::Native => AyaMode::Driver,
            Self::Generic => AyaMode::Skb,
        }
    }

    const fn is_allowed(self, wanted: XdpMode) -> bool {
        match wanted {
            XdpMode::Auto => true,
            XdpMode::Native => matches!(self, Self::Native),
            XdpMode::Generic => matches!(self, Self::Generic),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An interface that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// Where XDP runs there.
    pub mode: Mode,
    /// Why it is not native although it might be.
    pub reason: Option<String>,
}

/// Why a program cannot be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// No such interface.
    #[error("there is no interface {interface:?} here; see: ip link")]
    NoInterface {
        /// The name.
        interface: String,
    },
    /// Another XDP program is there.
    #[error("interface {interface} has another XDP program; see: ip link show {interface}; remove it first")]
    Busy {
        /// The name.
        interface: String,
    },
    /// The kernel refused.
    #[error("could not attach to {interface} in {mode} mode: {reason}")]
    Refused {
        /// The name.
        interface: String,
        /// The mode.
        mode: Mode,
        /// The reason.
        reason: String,
    },
    /// The link cannot be pinned.
    #[error("could not pin the link of {interface}: {reason}")]
    Pin {
        /// The name.
        interface: String,
        /// The reason.
        reason: String,
    },
    /// The program is not there.
    #[error(transparent)]
    Program(#[from] Box<LoadError>),
    /// The pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
}

pub(super) fn attach(
    program: &mut Xdp,
    pins: &Pins,
    interface: &str,
    wanted: XdpMode,
) -> Result<Attached, AttachError> {
    let missing = |_| AttachError::NoInterface { interface: interface.to_owned() };
    let ifindex = if_nametoindex(interface).map_err(missing)?;
    let attached = |mode, reason| Attached { interface: interface.to_owned(), ifindex, mode, reason };
    for mode in Mode::ALL {
        let path = pins.links().join(pin_name(interface, mode));
        if path.exists() && mode.is_allowed(wanted) && take_over(program, &path, interface) {
            return Ok(attached(mode, None));
        }
        pins.remove_link(&path)?;
    }
    let (link, mode, reason) = attach_best(program, interface, wanted)?;
    pin(program, link, &pins.links().join(pin_name(interface, mode)), interface)?;
    Ok(attached(mode, reason))
}

/// Attaches in the best mode that the configuration allows and the driver takes; says why it is not native where it
/// might be.
pub(crate) fn attach_best(
    program: &mut Xdp,
    interface: &str,
    wanted: XdpMode,
) -> Result<(XdpLinkId, Mode, Option<String>), AttachError> {
    let native = |program: &mut Xdp| attach_in(program, interface, Mode::Native);
    let generic = |program: &mut Xdp| attach_in(program, interface, Mode::Generic);
    match wanted {
        XdpMode::Native => Ok((native(program)?, Mode::Native, None)),
        XdpMode::Generic => Ok((generic(program)?, Mode::Generic, None)),
        XdpMode::Auto => match native(program) {
            Ok(link) => Ok((link, Mode::Native, None)),
            Err(AttachError::Refused { reason, .. }) => {
                warn!(interface, reason, "native XDP was refused, generic XDP is slower");
                Ok((generic(program)?, Mode::Generic, Some(reason)))
            }
            Err(error) => Err(error),
        },
    }
}

fn attach_in(program: &mut Xdp, interface: &str, mode: Mode) -> Result<XdpLinkId, AttachError> {
    program.attach(interface, mode.aya()).map_err(|error| refusal(interface, mode, &error))
}

/// Replaces the program behind a link that an earlier agent left, in one step. A link whose interface went away
/// cannot be taken over.
fn take_over(program: &mut Xdp, path: &Path, interface: &str) -> bool {
    let replaced = replace(program, path);
    match replaced {
        Ok(()) => {
            info!(interface, "took over the link of an earlier agent");
            true
        }
        Err(error) => {
            warn!(interface, error, "could not take over the link of an earlier agent, attaching anew");
            false
        }
    }
}

fn replace(program: &mut Xdp, path: &Path) -> Result<(), String> {
    let unusable = |error: LinkError| error.to_string();
    let link = FdLink::from(PinnedLink::from_pin(path).map_err(unusable)?);
    let link = XdpLink::try_from(link).map_err(unusable)?;
    let link = program.attach_to_link(link).map_err(|error| root_cause(&error).text)?;
    // The pin holds the link; the descriptor is closed.
    drop(program.take_link(link).map_err(|error| error.to_string())?);
    Ok(())
}

/// Replaces the program behind every pinned link. One whose interface went away is left out.
pub(super) fn replace_all(program: &mut Xdp, pins: &Pins) -> Result<(), String> {
    for name in pins.link_names().map_err(|error| error.to_string())? {
        let interface = name.rsplit_once('-').map_or(String::new(), |(interface, _)| unescape(interface));
        if if_nametoindex(interface.as_str()).is_ok() {
            replace(program, &pins.links().join(&name)).map_err(|reason| format!("{interface}: {reason}"))?;
        }
    }
    Ok(())
}

fn pin(program: &mut Xdp, link: XdpLinkId, path: &Path, interface: &str) -> Result<(), AttachError> {
    let unpinnable = |reason: String| AttachError::Pin { interface: interface.to_owned(), reason };
    let link = program.take_link(link).map_err(|error| unpinnable(error.to_string()))?;
    let link: FdLink = link.try_into().map_err(|error: LinkError| unpinnable(error.to_string()))?;
    link.pin(path).map_err(|error| unpinnable(error.to_string()))?;
    Ok(())
}

fn refusal(interface: &str, mode: Mode, error: &ProgramError) -> AttachError {
    let root = root_cause(error);
    let interface = interface.to_owned();
    match root.code {
        Some(code) if code == nix::libc::EBUSY || code == nix::libc::EEXIST => {
            AttachError::Busy { interface }
        }
        _ => AttachError::Refused { interface, mode, reason: root.text },
    }
}

struct Cause {
    text: String,
    code: Option<i32>,
}

/// The innermost error: what the kernel said.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> Cause {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let code = innermost.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    Cause { text: innermost.to_string(), code }
}

pub(super) fn keep_only(pins: &Pins, interfaces: &[String]) -> Result<(), PinError> {
    for name in pins.link_names()? {
        let interface = name.rsplit_once('-').map(|(interface, _)| unescape(interface));
        if interface.is_none_or(|interface| !interfaces.contains(&interface)) {
            pins.remove_link(&pins.links().join(&name))?;
            info!(link = name, "detached from an interface that is no longer configured");
        }
    }
    Ok(())
}

fn pin_name(interface: &str, mode: Mode) -> String {
    format!("{}-{mode}", escape(interface))
}
