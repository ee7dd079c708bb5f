//! Reads `[[service.quic]]` and the server ids of backends, and checks them against each other.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read as _};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use mesh_common::quic::{Key as AesKey, LONGEST_BLOCK, LONGEST_SERVER_ID, NONCES, Parameters, ROTATIONS};
use toml::Spanned;

use super::report::Report;
use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Backend, Problem, Protocol, Quic, ServerId};

/// Longer files hold no key: bytes.
const LONGEST_KEY_FILE: u64 = 4096;

/// The server ids of a backend, as they are written.
pub(super) enum ServerIds {
    /// The same in every configuration.
    One(ServerId),
    /// By rotation.
    Each(BTreeMap<u8, ServerId>),
}

/// A backend, and its server ids if any are written; `Some(None)` if they could not be read.
pub(super) type Member = (Spanned<Backend>, Option<Option<Spanned<ServerIds>>>);

/// A configuration, placed where its rotation is written.
pub(super) fn config(mut section: Section<'_, '_>) -> Option<Spanned<Quic>> {
    let rotation = section.required(Key("rotation", "0"), value::number("the rotation", 0..=ROTATIONS - 1));
    let length = value::number("the length", 1..=LONGEST_SERVER_ID);
    let server_id_length = section.required(Key("server_id_length", "3"), length);
    let nonce_length = section.required(Key("nonce_length", "13"), value::number("the length", NONCES));
    let key = key_of(&mut section);
    check_lengths(server_id_length.as_ref(), nonce_length.as_ref(), section.report());
    section.finish();
    let (server_id_length, nonce_length) = (server_id_length?.into_inner(), nonce_length?.into_inner());
    let parameters = Parameters { server_id_length, nonce_length, key: key? };
    let rotation = rotation?;
    let quic = Quic { rotation: *rotation.get_ref(), parameters, server_ids: BTreeMap::new() };
    Some(Spanned::new(rotation.span(), quic))
}

/// The key, from here or from its file, if there is any; `None` after a report.
fn key_of(section: &mut Section<'_, '_>) -> Option<Option<AesKey>> {
    let written = [section.has("key"), section.has("key_file")];
    let key = section.optional(Key("key", "\"00112233445566778899aabbccddeeff\""), key);
    let from_file = section.optional(Key("key_file", "\"/etc/meshlb/quic.key\""), key_file);
    match (written, key, from_file) {
        ([false, false], ..) => Some(None),
        ([true, true], _, from_file) => {
            let place = from_file.map_or_else(|| section.span(), |it| it.span());
            let problem = Problem::new("both `key` and `key_file` are written");
            section.report().add(problem.advise("leave one of the two away").at(place));
            None
        }
        (_, key, from_file) => key.or(from_file).map(|key| Some(key.into_inner())),
    }
}

/// What is written is never part of a message: it may be all of a key but one digit.
fn key(node: &Node<'_>) -> Read<AesKey> {
    aes_key(value::text(node)?).ok_or_else(|| {
        Problem::new("the key is not 32 hexadecimal digits")
            .advise("write what `openssl rand -hex 16` prints, and the same at the servers")
    })
}

fn key_file(node: &Node<'_>) -> Read<AesKey> {
    let path = value::absolute_path(node)?;
    let name = path.display();
    let text = read_file(&path).map_err(|error| {
        Problem::new(format!("the key file {name} cannot be read: {error}"))
            .advise("give the path of a file that the agent may read")
    })?;
    aes_key(text.trim()).ok_or_else(|| {
        Problem::new(format!("the key file {name} does not hold 32 hexadecimal digits"))
            .advise("write the file with `openssl rand -hex 16`, and the same at the servers")
    })
}

fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LONGEST_KEY_FILE).read_to_string(&mut text)?;
    Ok(text)
}

fn aes_key(digits: &str) -> Option<AesKey> {
    Some(AesKey(bytes(digits)?.try_into().ok()?))
}

/// The bytes that pairs of hexadecimal digits stand for.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pair = |pair: &[u8]| {
        let [high, low] = *pair else { return None };
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        Some(digit(high)? << 4 | digit(low)?)
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

fn check_lengths(server_id: Option<&Spanned<u8>>, nonce: Option<&Spanned<u8>>, report: &mut Report) {
    let (Some(server_id), Some(nonce)) = (server_id, nonce) else { return };
    let sum = server_id.get_ref() + nonce.get_ref();
    if sum > LONGEST_BLOCK {
        let message =
            format!("server id and nonce have {sum} bytes, a connection id has room for {LONGEST_BLOCK}");
        let problem = Problem::new(message).advise("write lengths with a smaller sum; 16 is read fastest");
        report.add(problem.at(nonce.span()).beside(server_id.span(), "with this"));
    }
}

/// One server id, or a table of them by rotation.
pub(super) fn server_ids(node: &Node<'_>) -> Read<ServerIds> {
    let Some(table) = node.get_ref().as_table() else {
        return server_id(node).map(ServerIds::One);
    };
    let each = table.iter().map(|(key, id)| {
        let id = server_id(id).map_err(|problem| problem.complete(&id.span(), server_id_advice))?;
        Ok((rotation(key.get_ref()).map_err(|problem| problem.at(key.span()))?, id))
    });
    each.collect::<Read<_>>().map(ServerIds::Each)
}

fn server_id(node: &Node<'_>) -> Read<ServerId> {
    let written = value::text(node)?;
    let id = bytes(written).filter(|id| (1..=usize::from(LONGEST_SERVER_ID)).contains(&id.len()));
    id.map(ServerId)
        .ok_or_else(|| Problem::new(format!("{written:?} is not a server id")).advise(server_id_advice()))
}

fn server_id_advice() -> String {
    format!("write two hexadecimal digits for each of 1 to {LONGEST_SERVER_ID} bytes, such as \"0a1b2c\"")
}

fn rotation(written: &str) -> Read<u8> {
    let known = (0..ROTATIONS).find(|rotation| rotation.to_string() == written);
    known.ok_or_else(|| {
        Problem::new(format!("{written:?} is not a rotation")).advise(format!(
            "write server ids by rotation as {{ 0 = \"0a1b2c\" }}; rotations go up to {}",
            ROTATIONS - 1
        ))
    })
}

/// What a service says of QUIC, as far as it could be read.
pub(super) struct Said<'a> {
    pub(super) protocol: Option<&'a Spanned<Protocol>>,
    /// Where the service begins.
    pub(super) header: Range<usize>,
    /// Every configuration; `None` for those that could not be read.
    pub(super) configs: Vec<Option<Spanned<Quic>>>,
    pub(super) members: &'a [Member],
}

/// The configurations with everybody's server ids in them, after reporting what does not fit together.
pub(super) fn assigned(said: Said<'_>, report: &mut Report) -> Vec<Quic> {
    let is_quic = said.protocol.map(|protocol| *protocol.get_ref() == Protocol::Quic);
    match is_quic {
        Some(true) if said.configs.is_empty() => report.add(unconfigured(said.header)),
        Some(false) => return report_strangers(&said, report),
        Some(true) | None => {}
    }
    let written = said.configs.len();
    let mut configs: Vec<_> = said.configs.into_iter().flatten().collect();
    // Where one is missing or stands twice, everybody's server ids would be wrong.
    let is_whole = check_rotations(&configs, report) && configs.len() == written;
    if is_quic == Some(true) && is_whole {
        said.members.iter().for_each(|member| assign(member, &mut configs, report));
        check_secrecy(&configs, report);
    }
    configs.into_iter().map(Spanned::into_inner).collect()
}

fn unconfigured(header: Range<usize>) -> Problem {
    Problem::new("the QUIC service has no [[service.quic]]")
        .advise(
            "add one, such as\n[[service.quic]]\nrotation = 0\nserver_id_length = 3\nnonce_length = 13\n\
             or write `protocol = \"udp\"` to balance without connection ids",
        )
        .at(header)
}

/// What only QUIC services have.
fn report_strangers(said: &Said<'_>, report: &mut Report) -> Vec<Quic> {
    let configs = said.configs.iter().flatten().map(|config| ("[[service.quic]]", config.span()));
    let ids = said.members.iter().filter_map(|(_, ids)| Some(("server_id", ids.as_ref()?.as_ref()?.span())));
    for (what, span) in configs.chain(ids) {
        let problem = Problem::new(format!("`{what}` has no meaning for a service that is not QUIC"));
        report.add(problem.advise("leave it away, or write `protocol = \"quic\"`").at(span));
    }
    Vec::new()
}

/// Whether no rotation stands twice.
fn check_rotations(configs: &[Spanned<Quic>], report: &mut Report) -> bool {
    let mut seen = HashMap::new();
    for config in configs {
        let rotation = config.get_ref().rotation;
        if let Some(first) = seen.insert(rotation, config.span()) {
            let line = report.line(first.start, config.span().start);
            let message = format!("rotation {rotation} is already in line {line}");
            let problem = Problem::new(message).advise("give every [[service.quic]] a rotation of its own");
            report.add(problem.at(config.span()).beside(first, "first here"));
        }
    }
    seen.len() == configs.len()
}

/// Puts a backend's server ids into the configurations; the first that does not fit is reported.
fn assign((backend, ids): &Member, configs: &mut [Spanned<Quic>], report: &mut Report) {
    let address = backend.get_ref().address;
    let ids = match ids {
        Some(Some(ids)) => ids,
        Some(None) => return,
        None => {
            let problem = Problem::new(format!("the backend {address} of a QUIC service has no `server_id`"));
            return report.add(problem.advise("add for example `server_id = \"0a1b2c\"`").at(backend.span()));
        }
    };
    let done = check_known(ids.get_ref(), configs)
        .and_then(|()| configs.iter_mut().try_for_each(|config| enter(address, ids.get_ref(), config)));
    if let Err(problem) = done {
        report.add(problem.at(ids.span()));
    }
}

/// Whether every rotation of a table is one of the service's.
fn check_known(ids: &ServerIds, configs: &[Spanned<Quic>]) -> Result<(), Problem> {
    let ServerIds::Each(ids) = ids else { return Ok(()) };
    let stands = |rotation: &u8| configs.iter().any(|config| config.get_ref().rotation == *rotation);
    match ids.keys().find(|rotation| !stands(rotation)) {
        None => Ok(()),
        Some(rotation) => {
            Err(Problem::new(format!("the service has no [[service.quic]] with rotation {rotation}"))
                .advise("leave the server id away, or add the configuration"))
        }
    }
}

fn enter(address: IpAddr, ids: &ServerIds, config: &mut Spanned<Quic>) -> Result<(), Problem> {
    let Quic { rotation, parameters, server_ids } = config.get_mut();
    let id = match ids {
        ServerIds::One(id) => id,
        ServerIds::Each(ids) => ids.get(rotation).ok_or_else(|| {
            Problem::new(format!("the backend {address} has no server id for rotation {rotation}"))
                .advise(format!("add it, such as `{rotation} = \"0a1b2c\"`"))
        })?,
    };
    let (length, wanted) = (id.0.len(), usize::from(parameters.server_id_length));
    if length != wanted {
        let message =
            format!("the server id {id} has {length} bytes, those of rotation {rotation} have {wanted}");
        return Err(Problem::new(message).advise(
            "change it, or `server_id_length`; where lengths differ, write { 0 = \"0a1b2c\", 1 = \"0a1b\" }",
        ));
    }
    match server_ids.insert(id.clone(), address) {
        Some(other) if other != address => {
            let message =
                format!("the server id {id} of rotation {rotation} is already that of backend {other}");
            Err(Problem::new(message).advise("give every backend a server id of its own"))
        }
        _ => Ok(()),
    }
}

/// Who sees a server id in plain must not see it encrypted: it would help to find the key (draft §8.7).
fn check_secrecy(configs: &[Spanned<Quic>], report: &mut Report) {
    let [plain, secret] = [false, true].map(|secret| {
        configs.iter().filter(move |config| config.get_ref().parameters.key.is_some() == secret)
    });
    let pairs = plain.flat_map(|plain| secret.clone().map(move |secret| (plain, secret)));
    for (plain, secret) in pairs {
        let ids = &plain.get_ref().server_ids;
        let Some(id) = secret.get_ref().server_ids.keys().find(|id| ids.contains_key(id)) else { continue };
        let [open, hidden] = [plain, secret].map(|config| config.get_ref().rotation);
        let message = format!(
            "the server id {id} is sent in plain by rotation {open} and encrypted by rotation {hidden}"
        );
        let advice = format!(
            "give every backend one for each: server_id = {{ {open} = \"0a1b2c\", {hidden} = \"3d4e5f\" }}"
        );
        report.add(
            Problem::new(message).advise(advice).at(secret.span()).beside(plain.span(), "in plain here"),
        );
    }
}
