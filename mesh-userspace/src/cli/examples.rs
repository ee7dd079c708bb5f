//! Examples at the end of each command's help and manual page.

use clap::CommandFactory as _;

use super::args::Args;

/// Commands, and lines that show what they are for.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("run", &["meshlb run --config /etc/meshlb/meshlb.toml"]),
    ("check", &["meshlb check /etc/meshlb/meshlb.toml"]),
    (
        "preflight",
        &[
            "meshlb preflight",
            "meshlb preflight --config /etc/meshlb/meshlb.toml --probe",
            "meshlb preflight -o json",
        ],
    ),
    ("status", &["meshlb status", "meshlb -o json status"]),
    ("top", &["meshlb top"]),
    ("services", &["meshlb services"]),
    ("backends", &["meshlb backends", "meshlb backends web"]),
    (
        "flows",
        &[
            "meshlb flows --service web --state opening",
            "meshlb flows --client 198.51.100.0/24 --backend .11",
            "meshlb flows --by backend",
        ],
    ),
    (
        "explain",
        &[
            "meshlb explain --from 198.51.100.7:40000 --to 203.0.113.10:80",
            "meshlb explain --from 198.51.100.7:40000 --to 203.0.113.10:80 --if-down 10.0.1.11",
            "meshlb explain --packet suspect.pcap",
        ],
    ),
    (
        "trace",
        &[
            "meshlb trace --service web --flags syn --count 20",
            "meshlb trace --drops --for 10s",
            "meshlb trace --client 198.51.100.7 -w client.pcapng",
        ],
    ),
    ("events", &["meshlb events --since 1h", "meshlb events --service web --follow"]),
    ("reload", &["meshlb reload --dry-run", "meshlb reload"]),
    ("drain", &["meshlb drain web 10.0.1.11", "meshlb drain web .11 --wait --deadline 10m"]),
    ("undrain", &["meshlb undrain web 10.0.1.11"]),
    ("weight", &["meshlb weight web 10.0.1.11 50", "meshlb weight web 10.0.1.11 config"]),
    ("split", &["meshlb split web canary=20", "meshlb split web --reset"]),
    (
        "guard",
        &[
            "meshlb guard add web 198.51.100.7 --for 2h",
            "meshlb guard list",
            "meshlb guard del web 198.51.100.7",
        ],
    ),
    (
        "maintenance",
        &["meshlb maintenance 10.0.1.11 --for 2h --reason disk", "meshlb maintenance 10.0.1.11 --end"],
    ),
    ("heartbeat", &["meshlb heartbeat web 10.0.1.11", "meshlb heartbeat web 10.0.1.11 --failing overload"]),
    ("detach", &["meshlb detach"]),
    ("decap", &["meshlb decap --interface eth0 --vip 203.0.113.10 2001:db8::10"]),
    ("bundle", &["meshlb bundle", "meshlb bundle --config /etc/meshlb/meshlb.toml -w bundle.tar.gz --force"]),
    ("completions", &["meshlb completions bash"]),
    ("man", &["meshlb man", "meshlb man --directory /usr/local/share/man/man1"]),
];

/// The definition of the command line, with examples.
pub(super) fn command() -> clap::Command {
    EXAMPLES.iter().fold(Args::command(), |all, (name, lines)| {
        let examples = format!("Examples:\n  {}", lines.join("\n  "));
        all.mut_subcommand(name, |command| command.after_help(examples))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_command_has_examples_that_parse() {
        let all: BTreeSet<_> = Args::command().get_subcommands().map(|it| it.get_name().to_owned()).collect();
        let shown: BTreeSet<_> = EXAMPLES.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(shown, all);
        for (name, lines) in EXAMPLES {
            for line in *lines {
                let matches = command().try_get_matches_from(line.split(' ')).unwrap();
                assert_eq!(matches.subcommand_name(), Some(*name), "{line}");
            }
        }
    }
}
