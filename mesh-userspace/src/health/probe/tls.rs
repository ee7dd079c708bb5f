//! TLS on a probe's connection.

use std::io;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Deadline, ProbeError, Target};
use crate::config::Tls;

/// Shakes hands, and checks the certificate.
pub(super) async fn wrap(
    stream: TcpStream,
    tls: &Tls,
    target: Target<'_>,
    deadline: Deadline,
) -> Result<TlsStream<TcpStream>, ProbeError> {
    let address = target.address;
    let name = tls.server_name().cloned().unwrap_or_else(|| ServerName::from(address.ip()));
    let handshake = TlsConnector::from(tls.client()).connect(name, stream);
    match deadline.meet(handshake).await {
        Some(Ok(stream)) => Ok(stream),
        Some(Err(error)) => Err(ProbeError::Tls { address, reason: reason(&error) }),
        None => Err(ProbeError::NoAnswer { request: format!("TLS with {address}"), after: deadline.after }),
    }
}

/// In rustls's words, without the times that some of them have.
fn reason(error: &io::Error) -> String {
    use rustls::{CertificateError, Error};
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::ExpiredContext { .. })) => {
            "the certificate has expired".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::NotValidYetContext { .. })) => {
            "the certificate is not valid yet".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "the certificate is from nobody that `ca_file` or this host trusts".to_owned()
        }
        Some(other) => other.to_string(),
        None => error.to_string(),
    }
}
