//! Reads `[api]`, `[metrics]`, `[web]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Spanned;

use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Api, Log, LogFormat, Metrics, Problem, Web};
use crate::logging;

/// `sun_path` (unix(7)) without the final NUL: bytes.
const SOCKET_PATH_BYTES: usize = 107;

pub(super) fn api(mut section: Section<'_, '_>) -> Api {
    let socket = section.or(Key("socket", "\"/run/meshlb/meshlb.sock\""), socket, Api::default().socket);
    section.finish();
    Api { socket }
}

fn socket(node: &Node<'_>) -> Read<PathBuf> {
    let path = value::absolute_path(node)?;
    let bytes = path.as_os_str().len();
    if bytes > SOCKET_PATH_BYTES {
        return Err(Problem::new(format!("the socket's path has {bytes} bytes"))
            .advise(format!("a unix socket's path has at most {SOCKET_PATH_BYTES} bytes")));
    }
    Ok(path)
}

pub(super) fn metrics(mut section: Section<'_, '_>) -> Metrics {
    let listen = section.or(Key("listen", "\"127.0.0.1:9440\""), listen(9440), Metrics::default().listen);
    section.finish();
    Metrics { listen }
}

pub(super) fn web(mut section: Section<'_, '_>) -> Web {
    let listen = section.optional(Key("listen", "\"127.0.0.1:9148\""), listen(9148));
    let token_file = section.optional(Key("token_file", "\"/etc/meshlb/web.token\""), value::absolute_path);
    let is_bare = !section.has("token_file");
    if let Some(problem) = listen.as_ref().filter(|_| is_bare).and_then(shown_to_everybody) {
        section.report().add(problem);
    }
    section.finish();
    Web { listen: listen.and_then(Spanned::into_inner), token_file: token_file.map(Spanned::into_inner) }
}

/// What is wrong with an address that other hosts reach, where no token says who may look.
fn shown_to_everybody(listen: &Spanned<Option<SocketAddr>>) -> Option<Problem> {
    let address = (*listen.get_ref()).filter(|address| !address.ip().is_loopback())?;
    Some(
        Problem::new(format!("other hosts reach {address}, and no `token_file` says who may look"))
            .advise(
                "name a file with a secret, such as `token_file = \"/etc/meshlb/web.token\"`, or listen on \
                 \"127.0.0.1:9148\"",
            )
            .at(listen.span()),
    )
}

/// An address to listen on; `port` is that of the example.
fn listen(port: u16) -> impl Fn(&Node<'_>) -> Read<Option<SocketAddr>> {
    move |node| {
        let written = value::text(node)?;
        if written == "off" {
            return Ok(None);
        }
        let address: Option<SocketAddr> = written.parse().ok();
        let address = address.filter(|address| address.port() != 0).ok_or_else(|| {
            Problem::new(format!("{written:?} is not an address to listen on")).advise(format!(
                "write an address and a port, such as \"127.0.0.1:{port}\" or \"[::1]:{port}\", or \"off\""
            ))
        })?;
        Ok(Some(address))
    }
}

pub(super) fn log(mut section: Section<'_, '_>) -> Log {
    let format = section.or(Key("format", "\"text\""), value::choice("log format"), LogFormat::default());
    let level = section.or(Key("level", "\"info\""), level, Log::LEVEL.to_owned());
    section.finish();
    Log { format, level }
}

fn level(node: &Node<'_>) -> Read<String> {
    let written = value::text(node)?;
    match logging::parse(written) {
        Ok(_filter) => Ok(written.to_owned()),
        Err(error) => Err(Problem::new(format!("the log level {written:?} cannot be used: {error}"))
            .advise("one of \"error\", \"warn\", \"info\", \"debug\", \"trace\", \"off\", or with modules: \"info,hyper=warn\"")),
    }
}
