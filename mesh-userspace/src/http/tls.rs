//! TLS on a client's connection.

use std::io;

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::Tls;

/// Shakes hands, and checks the certificate: it has to be of `peer`, unless another name is configured. The error says
/// what is wrong.
pub(crate) async fn connect(
    stream: TcpStream,
    tls: &Tls,
    peer: ServerName<'static>,
) -> Result<TlsStream<TcpStream>, String> {
    let name = tls.server_name().cloned().unwrap_or(peer);
    TlsConnector::from(tls.client()).connect(name, stream).await.map_err(|error| reason(&error))
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
