//! What may be written on the command line.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use ipnet::IpNet;

use crate::api::{DEFAULT_FLOWS, MAX_FLOWS};
use crate::config::XdpMode;

/// Layer-4 load balancer in XDP: the agent, and the commands that talk to it.
#[derive(Debug, Parser)]
#[command(name = "meshlb", version, propagate_version = true, arg_required_else_help = true)]
pub struct Args {
    /// How to print: tables for people, or JSON, the stable contract for programs.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    #[arg(value_name = "table|json", hide_possible_values = true)]
    pub output: Format,

    /// Socket of the agent, if not /run/meshlb/meshlb.sock.
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Table,
    /// JSON for programs; fields are added, never renamed.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent of this host until it is told to stop.
    Run {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration file, without an agent.
    Check {
        /// Configuration file.
        file: PathBuf,
    },
    /// What a running agent is asked.
    #[command(flatten)]
    Ask(Ask),
    /// Remove the programs and maps of an agent that has stopped; packets are no longer balanced.
    Detach {
        /// Configuration file that names the pins; without it, those at the default path.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// On a backend: unwrap the packets that a balancer sends with forward = "ipip".
    Decap(DecapArgs),
}

/// What a running agent is asked.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Show how the agent is, and its problems.
    Status,
    /// List services.
    Services,
    /// List backends.
    Backends {
        /// Only of this service.
        service: Option<String>,
    },
    /// List flows that have an entry in the flow table.
    Flows {
        /// Most flows to list.
        #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS, value_parser = parse_limit)]
        limit: usize,
    },
    /// Have the agent read its configuration again; an invalid one changes nothing.
    Reload,
    /// Give a backend no new flows; it keeps those it has.
    Drain(BackendArgs),
    /// Give a drained backend new flows again.
    Undrain(BackendArgs),
}

/// A backend of a service.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// Name of the service.
    pub service: String,
    /// Address of the backend.
    pub backend: IpAddr,
}

/// What `meshlb decap` needs to know.
#[derive(Debug, clap::Args)]
pub struct DecapArgs {
    /// Interface on which the wrapped packets arrive.
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// VIPs whose packets are unwrapped: addresses, or prefixes.
    #[arg(long = "vip", value_name = "ADDR", required = true, num_args = 1.., value_parser = parse_vip)]
    pub vips: Vec<IpNet>,
    /// How the program is attached.
    #[arg(long, value_name = "MODE", default_value = XdpMode::Auto.as_str(), value_parser = xdp_mode())]
    pub xdp_mode: XdpMode,
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_FLOWS).contains(limit))
        .ok_or_else(|| format!("not a number from 1 to {MAX_FLOWS}"))
}

fn parse_vip(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from).ok();
    let prefix: Option<IpNet> = address.or_else(|| text.parse().ok());
    let prefix = prefix.ok_or_else(|| "neither an address nor a prefix".to_owned())?;
    if prefix == prefix.trunc() {
        Ok(prefix)
    } else {
        Err(format!("bits are set behind the prefix: write {}, or {}", prefix.trunc(), prefix.addr()))
    }
}

fn xdp_mode() -> impl TypedValueParser<Value = XdpMode> {
    PossibleValuesParser::new(XdpMode::ALL.iter().map(|mode| mode.as_str()))
        .map(|text| XdpMode::ALL.iter().copied().find(|mode| mode.as_str() == text).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<Args, ErrorKind> {
        Args::try_parse_from(line.split(' ')).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_command_parses() {
        for line in [
            "meshlb run --config /etc/meshlb/meshlb.toml",
            "meshlb check meshlb.toml",
            "meshlb status -o json",
            "meshlb -o json --socket /tmp/s status",
            "meshlb services --output table",
            "meshlb backends",
            "meshlb backends web --socket /tmp/s",
            "meshlb flows --limit 5",
            "meshlb reload",
            "meshlb drain web 10.0.0.1",
            "meshlb undrain web fd00::1",
            "meshlb detach",
            "meshlb detach --config meshlb.toml",
            "meshlb decap --interface eth0 --vip 203.0.113.10 2001:db8::10 --xdp-mode generic",
            "meshlb decap --interface eth0 --vip 203.0.113.0/24 2001:db8::/64",
        ] {
            parse(line).unwrap_or_else(|kind| panic!("{line}: {kind}"));
        }
    }

    #[test]
    fn bad_usage_is_refused() {
        for (line, kind) in [
            ("meshlb run", ErrorKind::MissingRequiredArgument),
            ("meshlb status -o xml", ErrorKind::InvalidValue),
            ("meshlb flows --limit 0", ErrorKind::ValueValidation),
            ("meshlb flows --limit 100001", ErrorKind::ValueValidation),
            ("meshlb drain web backend-1", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0 --vip 203.0.113.1/24", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0 --vip web", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0", ErrorKind::MissingRequiredArgument),
            ("meshlb decap --interface eth0 --vip 1.1.1.1 --xdp-mode fast", ErrorKind::InvalidValue),
            ("meshlb top", ErrorKind::InvalidSubcommand),
        ] {
            assert_eq!(parse(line).err(), Some(kind), "{line}");
        }
    }

    #[test]
    fn several_vips_may_follow_one_flag_or_several() {
        let vips = |line| match parse(line).map(|args| args.command) {
            Ok(Command::Decap(decap)) => decap.vips,
            other => panic!("{other:?}"),
        };
        let once = vips("meshlb decap --interface eth0 --vip 203.0.113.10 2001:db8::10");
        let twice = vips("meshlb decap --interface eth0 --vip 203.0.113.10 --vip 2001:db8::10");
        assert_eq!(once, twice);
        assert_eq!(once.len(), 2);
    }
}
