//! TLS on a probe's connection.

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{Deadline, ProbeError, Target};
use crate::config::Tls;
use crate::http::tls;

/// Shakes hands, and checks the certificate.
pub(super) async fn wrap(
    stream: TcpStream,
    tls: &Tls,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<TlsStream<TcpStream>, ProbeError> {
    let address = target.address;
    let handshake = tls::connect(stream, tls, ServerName::from(address.ip()));
    match deadline.meet(handshake).await {
        Some(shaken) => shaken.map_err(|reason| ProbeError::Tls { address, reason }),
        None => Err(ProbeError::NoAnswer { request: format!("TLS with {address}"), after: deadline.after }),
    }
}
