//! Reads `[api]`, `[metrics]` and `[log]`.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::{Api, Log, LogFormat, Metrics, Problem};
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
    let listen = section.or(Key("listen", "\"127.0.0.1:9440\""), listen, Metrics::default().listen);
    section.finish();
    Metrics { listen }
}

fn listen(node: &Node<'_>) -> Read<Option<SocketAddr>> {
    let written = value::text(node)?;
    if written == "off" {
        return Ok(None);
    }
    let address: Option<SocketAddr> = written.parse().ok();
    let address = address.filter(|address| address.port() != 0).ok_or_else(|| {
        Problem::new(format!("{written:?} is not an address to listen on"))
            .advise("write an address and a port, such as \"127.0.0.1:9440\" or \"[::1]:9440\", or \"off\"")
    })?;
    Ok(Some(address))
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
