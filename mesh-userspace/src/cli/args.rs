//! What may be written on the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ipnet::IpNet;
use mesh_common::encap::{GENEVE_PORT, GUE_PORT};
use mesh_common::outcome::{Outcome, Verdict};

use crate::agent::flows::{FlowKey, FlowState};
use crate::api::{DEFAULT_EVENTS, DEFAULT_FLOWS, MAX_FLOWS};
use crate::decap::Mode;
use crate::packet::{self, Flag, Proto};

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
    /// Check this host before the first run, without an agent. Exit status 3 where something does not work.
    Preflight(PreflightArgs),
    /// What a running agent is asked.
    #[command(flatten)]
    Ask(Ask),
    /// Remove the programs and maps of an agent that has stopped; packets are no longer balanced.
    Detach {
        /// Configuration file that names the pins; without it, those at the default path.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// On a backend: unwrap the packets that a balancer sends with forward = "ipip", "gue" or "geneve".
    Decap(DecapArgs),
    /// Write what helps to find a fault into an archive, without secrets; with an agent or without.
    Bundle(BundleArgs),
    /// Print what a shell needs to complete commands.
    Completions {
        /// Which.
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands.
    Man {
        /// Write a page for each command into this directory.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// What a host is checked against.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PreflightArgs {
    /// Configuration file; without it /etc/meshlb/meshlb.toml, and without that the host alone is checked.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also ask each backend: at its own address, and at the VIP by the way of packets of clients.
    #[arg(long)]
    pub probe: bool,
}

/// What is bundled, and where to.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct BundleArgs {
    /// The archive; without it meshlb-bundle-TIME.tar.gz in the current directory.
    #[arg(short, long, value_name = "FILE.tar.gz")]
    pub write: Option<PathBuf>,
    /// Replace the file if it is there.
    #[arg(long)]
    pub force: bool,
    /// Configuration file, if not /etc/meshlb/meshlb.toml.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What a running agent is asked.
#[derive(Debug, Subcommand)]
pub enum Ask {
    /// Show how the agent is, and its problems. Exit status 3 where there are any.
    Status,
    /// Watch services, backends and rates in a terminal; drain from there.
    Top,
    /// List services.
    Services,
    /// List backends.
    Backends {
        /// Only of this service.
        service: Option<String>,
    },
    /// List flows that have an entry in the flow table, or count them.
    Flows(FlowsArgs),
    /// Say what would become of a packet now, step by step, and why. Changes nothing.
    Explain(ExplainArgs),
    /// Show packets as they are balanced, and what becomes of them, until it is interrupted.
    Trace(TraceArgs),
    /// Show what happened, and why: what the agent and the operator did, and what became of backends.
    Events(EventsArgs),
    /// Have the agent read its configuration again; an invalid one changes nothing.
    Reload {
        /// Only say what that would do.
        #[arg(long)]
        dry_run: bool,
    },
    /// Give a backend no new flows; it keeps those it has. Survives restarts.
    Drain(DrainArgs),
    /// Give a drained backend new flows again.
    Undrain(BackendArgs),
    /// Give a backend another weight than the configuration. Survives restarts and reloads.
    Weight {
        /// Which.
        #[command(flatten)]
        of: BackendArgs,
        /// Share of new flows relative to the service's other backends; `config`: as configured.
        #[arg(value_name = "0-65535|config", value_parser = parse_weight)]
        weight: Weight,
    },
    /// Split a service's new flows otherwise between its groups. Survives restarts and reloads.
    Split {
        /// Name of the service.
        service: String,
        /// Shares of groups relative to each other; groups that are not named keep theirs.
        #[arg(value_name = "GROUP=0-65535", value_parser = parse_share)]
        #[arg(required_unless_present = "reset", conflicts_with = "reset")]
        shares: Vec<(String, u16)>,
        /// All shares as configured.
        #[arg(long)]
        reset: bool,
    },
    /// Say whom services serve: keep clients out, or let them in.
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Drain all backends of a host, for a while or until it is ended. Survives restarts.
    Maintenance(MaintenanceArgs),
    /// Report that a backend is well, or why it is not, to a service of kind = "heartbeat".
    Heartbeat {
        /// Which.
        #[command(flatten)]
        of: BackendArgs,
        /// The backend fails, for this reason.
        #[arg(long, value_name = "REASON")]
        failing: Option<String>,
        /// How loaded it is: 0 idle, 1 all that it can do.
        #[arg(long)]
        load: Option<f64>,
    },
}

/// A backend of a service.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// Name of the service; its beginning will do.
    pub service: String,
    /// Address of the backend; its end will do, such as .11 of 10.0.1.11.
    pub backend: Abbreviated,
}

/// The address of a backend, or how it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Abbreviated {
    /// All of it.
    Address(IpAddr),
    /// Its last parts.
    Ending(String),
}

impl FromStr for Abbreviated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
        match text.parse() {
            Ok(address) => Ok(Self::Address(address)),
            Err(_not_an_address) if !text.is_empty() && text.chars().all(is_part) => {
                Ok(Self::Ending(text.to_ascii_lowercase()))
            }
            Err(_not_an_address) => {
                Err("neither an address, such as 10.0.1.11, nor the end of one, such as .11".to_owned())
            }
        }
    }
}

/// Whose flows or packets.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Whose {
    /// Only of this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// Only from this client, or from clients in this prefix.
    #[arg(long, value_name = "ADDR|PREFIX", value_parser = parse_vip)]
    pub client: Option<IpNet>,
    /// Only at this backend.
    #[arg(long, value_name = "ADDR")]
    pub backend: Option<Abbreviated>,
}

/// Which flows, and whether they are counted.
#[derive(Debug, clap::Args)]
pub struct FlowsArgs {
    /// Whose.
    #[command(flatten)]
    pub of: Whose,
    /// Only in this state.
    #[arg(long, value_enum)]
    pub state: Option<FlowState>,
    /// Count them by this, most first, instead of listing them.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub by: Option<FlowKey>,
    /// Most lines to list.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_FLOWS, value_parser = parse_limit)]
    pub limit: usize,
}

/// Which packets are shown, and for how long.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TraceArgs {
    /// Whose.
    #[command(flatten)]
    pub of: Whose,
    /// Only with these outcomes, such as no_backend,too_big.
    #[arg(long, value_name = "OUTCOME", value_delimiter = ',', value_parser = parse_outcome)]
    pub outcome: Vec<Outcome>,
    /// Only packets that are dropped, for whatever reason.
    #[arg(long, conflicts_with = "outcome")]
    pub drops: bool,
    /// Only TCP segments with all of these flags.
    #[arg(long, value_enum, value_name = "FLAGS", value_delimiter = ',')]
    pub flags: Vec<Flag>,
    /// One of so many packets, by chance.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub sample: u32,
    /// End after so many packets.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this time, such as 10s.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub lasting: Option<Duration>,
    /// Write packets to a file that Wireshark opens, instead of showing them.
    #[arg(short, long, value_name = "FILE.pcapng")]
    pub write: Option<PathBuf>,
}

impl TraceArgs {
    /// The outcomes that are wanted; none: all.
    #[must_use]
    pub fn outcomes(&self) -> Vec<Outcome> {
        let is_drop = |outcome: &Outcome| self.drops && outcome.verdict() == Verdict::Drop;
        self.outcome.iter().copied().chain(Outcome::ALL.iter().copied().filter(is_drop)).collect()
    }
}

fn parse_outcome(text: &str) -> Result<Outcome, String> {
    let found = Outcome::ALL.iter().find(|outcome| outcome.label() == text);
    found.copied().ok_or_else(|| {
        let all: Vec<_> = Outcome::ALL.iter().map(|outcome| outcome.label()).collect();
        format!("none of the outcomes, which are {}", all.join(", "))
    })
}

/// A packet, and what may be otherwise.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ExplainArgs {
    /// The client, such as `198.51.100.7:40000` or `[2001:db8::7]:40000`; without ports, an address will do.
    #[arg(long, value_name = "ADDR:PORT", value_parser = packet::end)]
    #[arg(required_unless_present = "packet", requires = "to")]
    pub from: Option<SocketAddr>,
    /// Whom the packet is to, such as 203.0.113.10:80.
    #[arg(long, value_name = "ADDR:PORT", value_parser = packet::end)]
    #[arg(required_unless_present = "packet", requires = "from")]
    pub to: Option<SocketAddr>,
    /// The protocol; udp for QUIC.
    #[arg(long, value_name = "tcp|udp|NUMBER", default_value = "tcp")]
    pub proto: Proto,
    /// Flags of the TCP segment; without any, it is none of the first nor the last.
    #[arg(long, value_enum, value_name = "FLAGS", value_delimiter = ',', default_value = "syn")]
    pub flags: Vec<Flag>,
    /// Bytes of payload, of a packet that is not TCP.
    #[arg(long, value_name = "BYTES", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=9000))]
    pub payload: u16,
    /// The packet itself: hexadecimal digits from the Ethernet header on, or a capture (pcap, pcapng).
    #[arg(long, value_name = "HEX|FILE", conflicts_with_all = ["from", "to", "proto", "flags", "payload"])]
    pub packet: Option<String>,
    /// The interface that it comes in by, if not the first that is configured.
    #[arg(long, value_name = "NAME")]
    pub interface: Option<String>,
    /// Also say who would get the flow if this backend were down.
    #[arg(long, value_name = "BACKEND")]
    pub if_down: Vec<Abbreviated>,
    /// Also say who would get the flow if this backend had this weight.
    #[arg(long, value_name = "BACKEND=N", value_parser = parse_weighted)]
    pub if_weight: Vec<(IpAddr, u16)>,
}

fn parse_weighted(text: &str) -> Result<(IpAddr, u16), String> {
    let parts = text
        .split_once('=')
        .and_then(|(address, weight)| Some((address.parse().ok()?, weight.parse().ok()?)));
    parts.ok_or_else(|| "not the address of a backend and a weight, such as 10.0.1.1=50".to_owned())
}

/// A drain, and how long to watch it.
#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    /// Which.
    #[command(flatten)]
    pub of: BackendArgs,
    /// Wait until the backend has nothing left to do; a second such command goes on waiting.
    #[arg(long)]
    pub wait: bool,
    /// Wait no longer than this, such as 5m, and fail; the backend stays drained.
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = parse_time)]
    pub deadline: Option<Duration>,
    /// A backend has nothing left to do when it got no packet for so long.
    #[arg(long, value_name = "TIME", requires = "wait", default_value = "10s", value_parser = parse_time)]
    pub quiet: Duration,
}

/// Which events to show.
#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only of the last so long, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Duration>,
    /// Only about this service.
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// The last so many of them.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_EVENTS)]
    pub limit: usize,
    /// Go on with what happens from now on, until interrupted; with -o json, an object a line.
    #[arg(long, short)]
    pub follow: bool,
}

/// What is done with guards.
#[derive(Debug, Subcommand)]
pub enum GuardCommand {
    /// List whom guarded services serve.
    List {
        /// Only this service.
        service: Option<String>,
    },
    /// Keep clients out of a service, for a while or until it is taken back. Survives restarts and reloads.
    Add {
        /// Name of the service; its beginning will do.
        service: String,
        /// The client, or the prefix that clients are in.
        #[arg(value_name = "ADDR|PREFIX", value_parser = parse_vip)]
        clients: IpNet,
        /// Let them in instead, whatever shorter prefixes say.
        #[arg(long)]
        allow: bool,
        /// Until this has passed, such as 2h; without it, until it is taken back.
        #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
        lasting: Option<Duration>,
    },
    /// Treat clients as configured again.
    Del {
        /// Name of the service; its beginning will do.
        service: String,
        /// As it was added.
        #[arg(value_name = "ADDR|PREFIX", value_parser = parse_vip)]
        clients: IpNet,
    },
}

/// Work on a host.
#[derive(Debug, clap::Args)]
pub struct MaintenanceArgs {
    /// Address of the host's backends; its end will do.
    pub backend: Abbreviated,
    /// Until this has passed, such as 2h; without it, until it is ended.
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time, conflicts_with = "end")]
    pub lasting: Option<Duration>,
    /// Why, for whoever looks.
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "end")]
    pub reason: String,
    /// It is over.
    #[arg(long)]
    pub end: bool,
}

/// A weight, or `None` for that of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(pub Option<u16>);

fn parse_weight(text: &str) -> Result<Weight, String> {
    match text {
        "config" => Ok(Weight(None)),
        number => number
            .parse()
            .map(|weight| Weight(Some(weight)))
            .map_err(|_not_a_weight| "neither a number from 0 to 65535 nor config".to_owned()),
    }
}

fn parse_share(text: &str) -> Result<(String, u16), String> {
    let parts = text.split_once('=').filter(|(group, _)| !group.is_empty());
    let share = parts.and_then(|(group, share)| Some((group.to_owned(), share.parse().ok()?)));
    share.ok_or_else(|| "not a group and its share from 0 to 65535, such as canary=20".to_owned())
}

fn parse_time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .ok()
        .filter(|time| *time >= Duration::from_secs(1))
        .ok_or_else(|| "not a time of at least a second, such as 30s, 5m or 2h".to_owned())
}

/// What `meshlb decap` needs to know.
#[derive(Debug, clap::Args)]
pub struct DecapArgs {
    /// Interface on which the wrapped packets arrive.
    #[arg(long, value_name = "NAME")]
    pub interface: String,
    /// VIPs whose packets are unwrapped: addresses, or prefixes such as 203.0.113.0/24.
    #[arg(long = "vip", value_name = "ADDR", required = true, num_args = 1.., value_parser = parse_vip)]
    pub vips: Vec<IpNet>,
    /// How the program is attached; auto takes the first of the others that is possible, and says why.
    #[arg(long, visible_alias = "xdp-mode", value_enum, default_value_t)]
    #[arg(value_name = "auto|native|generic|tc", hide_possible_values = true)]
    pub mode: Mode,
    /// UDP ports at which GUE is unwrapped; 0: none.
    #[arg(long = "gue-port", value_name = "PORT", default_values_t = [GUE_PORT], num_args = 1..)]
    pub gue_ports: Vec<u16>,
    /// UDP ports at which Geneve is unwrapped; 0: none.
    #[arg(long = "geneve-port", value_name = "PORT", default_values_t = [GENEVE_PORT], num_args = 1..)]
    pub geneve_ports: Vec<u16>,
    /// Serve metrics at http://ADDR/metrics, such as 127.0.0.1:9441.
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
}

fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|limit| (1..=MAX_FLOWS).contains(limit))
        .ok_or_else(|| format!("not a number from 1 to {MAX_FLOWS}"))
}

/// An address, or a prefix with nothing behind it.
fn parse_vip(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_not_an_address) => text.parse().map_err(|_not_a_prefix| {
            "neither an address nor a prefix, such as 203.0.113.10 or 203.0.113.0/24".to_owned()
        })?,
    };
    if net == net.trunc() {
        Ok(net)
    } else {
        Err(format!("there are bits behind the prefix: write {}", net.trunc()))
    }
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
            "meshlb preflight",
            "meshlb preflight --config meshlb.toml --probe -o json",
            "meshlb bundle",
            "meshlb bundle -w a.tar.gz --force --config meshlb.toml --socket /tmp/s",
            "meshlb status -o json",
            "meshlb -o json --socket /tmp/s status",
            "meshlb services --output table",
            "meshlb top",
            "meshlb backends",
            "meshlb backends web --socket /tmp/s",
            "meshlb flows --limit 5",
            "meshlb flows --service web --client 198.51.100.0/24 --backend .11 --state opening",
            "meshlb flows --by backend",
            "meshlb drain w .11",
            "meshlb undrain web :1a",
            "meshlb explain --from 198.51.100.7:40000 --to 203.0.113.10:80",
            "meshlb explain --from 2001:db8::7 --to 2001:db8::10 --proto 50 --payload 40 --interface eth0",
            "meshlb explain --from 198.51.100.7:40000 --to 203.0.113.10:53 --proto udp --if-down 10.0.1.1",
            "meshlb explain --from 1.1.1.1:1 --to 2.2.2.2:2 --flags ack,fin --if-weight 10.0.1.1=50",
            "meshlb explain --packet 00ff",
            "meshlb trace",
            "meshlb trace --service web --client 198.51.100.0/24 --backend 10.0.1.1 --flags syn,ack",
            "meshlb trace --drops --for 10s -w drops.pcapng",
            "meshlb trace --outcome no_backend,too_big --sample 100 --count 5",
            "meshlb events",
            "meshlb events --since 1h --service web --limit 5 --follow",
            "meshlb reload",
            "meshlb reload --dry-run",
            "meshlb drain web 10.0.0.1",
            "meshlb undrain web fd00::1",
            "meshlb drain web 10.0.0.1 --wait",
            "meshlb drain web 10.0.0.1 --deadline 5m --wait --quiet 30s",
            "meshlb weight web 10.0.0.1 50",
            "meshlb weight web 10.0.0.1 config",
            "meshlb split web canary=20",
            "meshlb split web canary=20 stable=80",
            "meshlb split web --reset",
            "meshlb guard list",
            "meshlb guard list web",
            "meshlb guard add web 198.51.100.7 --for 2h",
            "meshlb guard add web 2001:db8::/32 --allow",
            "meshlb guard del web 198.51.100.7",
            "meshlb maintenance 10.0.0.1 --for 2h --reason disk",
            "meshlb maintenance fd00::1 --end",
            "meshlb heartbeat web 10.0.0.1",
            "meshlb heartbeat web 10.0.0.1 --failing overload",
            "meshlb heartbeat web 10.0.0.1 --load 0.7",
            "meshlb completions bash",
            "meshlb man",
            "meshlb man --directory /usr/share/man/man1",
            "meshlb detach",
            "meshlb detach --config meshlb.toml",
            "meshlb decap --interface eth0 --vip 203.0.113.10 2001:db8::10 --xdp-mode generic",
            "meshlb decap --interface eth0 --vip 203.0.113.0/24 --mode tc --metrics 127.0.0.1:9441",
            "meshlb decap --interface eth0 --vip 203.0.113.10 --gue-port 6080 7000 --geneve-port 0",
        ] {
            parse(line).unwrap_or_else(|kind| panic!("{line}: {kind}"));
        }
    }

    #[test]
    fn bad_usage_is_refused() {
        for (line, kind) in [
            ("meshlb run", ErrorKind::MissingRequiredArgument),
            ("meshlb bundle a.tar.gz", ErrorKind::UnknownArgument),
            ("meshlb preflight meshlb.toml", ErrorKind::UnknownArgument),
            ("meshlb status -o xml", ErrorKind::InvalidValue),
            ("meshlb events --since yesterday", ErrorKind::ValueValidation),
            ("meshlb flows --limit 0", ErrorKind::ValueValidation),
            ("meshlb flows --limit 100001", ErrorKind::ValueValidation),
            ("meshlb flows --by port", ErrorKind::InvalidValue),
            ("meshlb flows --state lost", ErrorKind::InvalidValue),
            ("meshlb drain web backend-1", ErrorKind::ValueValidation),
            ("meshlb drain web 10.0.0.1 --deadline 5m", ErrorKind::MissingRequiredArgument),
            ("meshlb drain web 10.0.0.1 --wait --deadline 5", ErrorKind::ValueValidation),
            ("meshlb drain web 10.0.0.1 --wait --quiet 10ms", ErrorKind::ValueValidation),
            ("meshlb weight web 10.0.0.1", ErrorKind::MissingRequiredArgument),
            ("meshlb weight web 10.0.0.1 65536", ErrorKind::ValueValidation),
            ("meshlb split web", ErrorKind::MissingRequiredArgument),
            ("meshlb split web canary", ErrorKind::ValueValidation),
            ("meshlb split web =5", ErrorKind::ValueValidation),
            ("meshlb split web canary=65536", ErrorKind::ValueValidation),
            ("meshlb split web canary=5 --reset", ErrorKind::ArgumentConflict),
            ("meshlb guard add web", ErrorKind::MissingRequiredArgument),
            ("meshlb guard add web 198.51.100.7/24", ErrorKind::ValueValidation),
            ("meshlb maintenance web", ErrorKind::ValueValidation),
            ("meshlb maintenance 10.0.0.1 --end --for 2h", ErrorKind::ArgumentConflict),
            ("meshlb heartbeat web", ErrorKind::MissingRequiredArgument),
            ("meshlb trace --outcome lost", ErrorKind::ValueValidation),
            ("meshlb trace --drops --outcome too_big", ErrorKind::ArgumentConflict),
            ("meshlb trace --sample 0", ErrorKind::ValueValidation),
            ("meshlb trace --client web", ErrorKind::ValueValidation),
            ("meshlb explain", ErrorKind::MissingRequiredArgument),
            ("meshlb explain --from 1.1.1.1:1", ErrorKind::MissingRequiredArgument),
            ("meshlb explain --from 1.1.1.1:1 --to web", ErrorKind::ValueValidation),
            ("meshlb explain --packet 00 --to 1.1.1.1:1", ErrorKind::ArgumentConflict),
            ("meshlb explain --from 1.1.1.1:1 --to 2.2.2.2:2 --proto sctp", ErrorKind::ValueValidation),
            ("meshlb explain --from 1.1.1.1:1 --to 2.2.2.2:2 --flags all", ErrorKind::InvalidValue),
            ("meshlb explain --packet 00 --if-weight 10.0.1.1", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0", ErrorKind::MissingRequiredArgument),
            ("meshlb decap --interface eth0 --vip 1.1.1.1 --mode fast", ErrorKind::InvalidValue),
            ("meshlb decap --interface eth0 --vip 1.1.1.1/24", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0 --vip one", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0 --vip 1.1.1.1 --gue-port 65536", ErrorKind::ValueValidation),
            ("meshlb decap --interface eth0 --vip 1.1.1.1 --metrics localhost", ErrorKind::ValueValidation),
            ("meshlb completions dos", ErrorKind::InvalidValue),
            ("meshlb tip", ErrorKind::InvalidSubcommand),
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
