//! Commands to try while everything is left running: exact, ready to be pasted into a shell.

use std::fmt::Display;
use std::path::Path;

use mesh_tests::Host;

use crate::stage::{METRICS, SERVICES, Stage};

/// Of the lines that are commands; comments have half of it.
const INDENT: &str = "    ";

/// All commands, each group with what it shows.
pub(crate) fn render(stage: &Stage) -> String {
    let groups = [
        ("who answers, over IPv4 and IPv6:", requests(stage)),
        (
            "what the agent says:",
            ["status", "services", "backends", "flows --limit 10"].map(|word| ask(stage, word)).into(),
        ),
        ("drain a backend, and end that:", ["drain", "undrain"].map(|word| order(stage, word)).into()),
        ("pull a backend's cable, and plug it in again:", cable(stage)),
        ("metrics, as Prometheus reads them:", vec![curl(stage.topology.balancer(), METRICS, "/metrics")]),
    ];
    let groups = groups.map(|(comment, commands)| group(comment, &commands));
    format!(
        "\nEverything keeps running, requests included; Ctrl-C removes it. In another terminal, as root:\n{}",
        groups.concat()
    )
}

fn group(comment: &str, commands: &[String]) -> String {
    let commands: String = commands.iter().map(|command| format!("{INDENT}{command}\n")).collect();
    format!("  # {comment}\n{commands}")
}

fn requests(stage: &Stage) -> Vec<String> {
    let client = stage.topology.client();
    SERVICES.iter().map(|service| curl(client, service.address(), "/")).collect()
}

fn curl(host: &Host, address: impl Display, path: &str) -> String {
    let url = format!("http://{address}{path}");
    format!("nsenter --net={} curl -sS {}", quoted_path(&host.namespace_path()), quoted(&url))
}

fn ask(stage: &Stage, words: &str) -> String {
    let (binary, socket) = (stage.agent.binary(), stage.agent.socket());
    format!("{} --socket {} {words}", quoted_path(binary), quoted_path(&socket))
}

fn order(stage: &Stage, word: &str) -> String {
    let [service, ..] = SERVICES;
    let backend = stage.topology.backends().first().map(|host| host.address_like(service.vip));
    ask(stage, &format!("{word} {} {}", service.name, backend.unwrap_or(service.vip)))
}

fn cable(stage: &Stage) -> Vec<String> {
    let switch = format!("{}-switch", stage.topology.name());
    ["down", "up"].map(|state| format!("ip -n {switch} link set backend-2 {state}")).into()
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// The word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-:=@%+,".contains(letter);
    if word.chars().all(is_plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_a_shell_would_misread_them() {
        assert_eq!(quoted("/run/netns/mlb-1-0-client"), "/run/netns/mlb-1-0-client");
        assert_eq!(quoted("http://[2001:db8::10]:80/"), "'http://[2001:db8::10]:80/'");
        assert_eq!(quoted("/it's here"), r"'/it'\''s here'");
    }
}
