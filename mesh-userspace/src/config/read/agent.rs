//! Reads `[agent]`.

use std::collections::HashMap;

use toml::Spanned;

use super::outer_source;
use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Agent, OnExit, OuterSource, Problem, XdpMode};

/// The kernel's `IFNAMSIZ` without the final NUL: bytes.
const INTERFACE_NAME_BYTES: usize = 15;

pub(super) fn agent(mut section: Section<'_, '_>) -> Option<Agent> {
    let names = section.required(Key("interfaces", "[\"eth0\"]"), interfaces);
    let xdp_mode = section.or(Key("xdp_mode", "\"auto\""), value::choice("XDP mode"), XdpMode::default());
    let on_exit = section.or(Key("on_exit", "\"keep\""), value::choice("way to exit"), OnExit::default());
    let pin_path = Key("pin_path", "\"/sys/fs/bpf/meshlb\"");
    let pin_path = section.or(pin_path, value::absolute_path, Agent::PIN_PATH.into());
    let state_directory = Key("state_directory", "\"/var/lib/meshlb\"");
    let state_directory = section.or(state_directory, value::absolute_path, Agent::STATE_DIRECTORY.into());
    let watch_config = section.or(Key("watch_config", "true"), value::boolean, Agent::WATCH_CONFIG);
    let seed = section.optional(Key("seed", "\"0123456789abcdef\""), seed).map(Spanned::into_inner);
    let outer_source = Key("outer_source", "[\"10.255.0.0/16\", \"fd00:1::/64\"]");
    let outer_source = section.or(outer_source, outer_source::read, OuterSource::default());
    let answer_echo = section.or(Key("answer_echo", "true"), value::boolean, Agent::ANSWER_ECHO);
    let next_program = Key("next_program", "\"/sys/fs/bpf/other\"");
    let next_program = section.optional(next_program, value::absolute_path).map(Spanned::into_inner);
    section.finish();
    Some(Agent {
        interfaces: names?.into_inner(),
        xdp_mode,
        on_exit,
        pin_path,
        state_directory,
        watch_config,
        seed,
        outer_source,
        answer_echo,
        next_program,
    })
}

fn interfaces(node: &Node<'_>) -> Read<Vec<String>> {
    let names = value::items(node, interface)?;
    if names.is_empty() {
        return Err(Problem::new("no interface is named")
            .advise("name those where clients' packets arrive: [\"eth0\"]"));
    }
    let mut seen = HashMap::new();
    for name in &names {
        if let Some(first) = seen.insert(name.get_ref(), name) {
            return Err(listed_twice(first, name));
        }
    }
    Ok(names.into_iter().map(Spanned::into_inner).collect())
}

fn listed_twice(first: &Spanned<String>, second: &Spanned<String>) -> Problem {
    Problem::new(format!("interface {:?} is listed twice", second.get_ref()))
        .advise("list every interface once")
        .at(second.span())
        .beside(first.span(), "first here")
}

/// A name that the kernel would accept (`dev_valid_name` in net/core/dev.c).
fn interface(node: &Node<'_>) -> Read<String> {
    let name = value::text(node)?;
    let refused = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    let reason = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > INTERFACE_NAME_BYTES {
        format!("has {} bytes", name.len())
    } else if let Some(c) = name.chars().find(|&c| refused(c)) {
        format!("contains {c:?}")
    } else if matches!(name, "." | "..") {
        "is a directory's".to_owned()
    } else {
        return Ok(name.to_owned());
    };
    Err(Problem::new(format!("the interface name {name:?} {reason}"))
        .advise("write 1 to 15 bytes without '/', ':' and spaces, as `ip link` shows it"))
}

fn seed(node: &Node<'_>) -> Read<u64> {
    let written = value::text(node)?;
    let digits = written.len() == 16 && written.bytes().all(|byte| byte.is_ascii_hexdigit());
    let seed = u64::from_str_radix(written, 16).ok().filter(|_| digits);
    seed.ok_or_else(|| {
        Problem::new(format!("the seed {written:?} is not 16 hexadecimal digits"))
            .advise("write 16 digits from 0-9a-f, as `openssl rand -hex 8` prints them; the same on the whole cluster")
    })
}
