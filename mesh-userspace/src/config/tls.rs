//! TLS of probes and of registries' clients: whom they trust, and who they are.
//!
//! Invariant: what is configured was tried: a [`Tls`] is ready for use, and none of its errors waits for a connection.

use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// What is spoken inside (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// TLS of a client.
#[derive(Clone)]
pub struct Tls {
    client: Arc<ClientConfig>,
    /// What it was made of, which is compared.
    ca: Option<Vec<CertificateDer<'static>>>,
    identity: Option<Identity>,
    server_name: Option<ServerName<'static>>,
}

/// A client's certificate, its chain behind it, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, Arc<PrivateKeyDer<'static>>);

/// Why there can be no TLS as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No PEM, or the wrong one.
    #[error("it holds no {0} in PEM form")]
    NoPem(&'static str),
    /// A certificate that nobody can be trusted by.
    #[error("one of its certificates is no authority's: {0}")]
    BadAuthority(rustls::Error),
    /// The host trusts nobody.
    #[error("this host has no certificates of authorities: {0}")]
    NoAuthorities(String),
    /// Certificate and key do not belong together, or are of an unknown kind.
    #[error("the client certificate cannot be used with its key: {0}")]
    BadIdentity(rustls::Error),
    /// Should not happen.
    #[error("the cryptographic library has no common version of TLS: {0}")]
    NoVersion(rustls::Error),
}

impl Tls {
    /// Trusts `ca`, or whom the host trusts.
    ///
    /// # Errors
    /// There is nobody to trust, or the identity is unusable.
    pub fn new(
        protocol: Protocol,
        ca: Option<Vec<CertificateDer<'static>>>,
        identity: Option<Identity>,
        server_name: Option<ServerName<'static>>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::NoVersion)?
            .with_root_certificates(roots(ca.as_deref())?);
        let mut client = match &identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(TlsError::BadIdentity)?,
        };
        client.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        // Every probe tells of a whole handshake, and registries are seldom connected to.
        client.resumption = rustls::client::Resumption::disabled();
        Ok(Self { client: Arc::new(client), ca, identity, server_name })
    }

    /// What a connection is made with.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    /// Whose name the server's certificate must have, if it is not the one that is connected to.
    #[must_use]
    pub const fn server_name(&self) -> Option<&ServerName<'static>> {
        self.server_name.as_ref()
    }
}

fn roots(ca: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = ca else {
        let found = rustls_native_certs::load_native_certs();
        let (usable, _) = roots.add_parsable_certificates(found.certs);
        let reason = || found.errors.first().map_or_else(|| "none was found".to_owned(), ToString::to_string);
        return if usable > 0 { Ok(roots) } else { Err(TlsError::NoAuthorities(reason())) };
    };
    ca.iter().try_for_each(|certificate| roots.add(certificate.clone())).map_err(TlsError::BadAuthority)?;
    Ok(roots)
}

/// All certificates of a PEM file.
///
/// # Errors
/// There is none.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    all.ok().filter(|all| !all.is_empty()).ok_or(TlsError::NoPem("certificate"))
}

/// The private key of a PEM file.
///
/// # Errors
/// There is none.
pub(crate) fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_not_a_key| TlsError::NoPem("private key"))
}

/// Reads a whole file that is as small as certificates and keys are.
///
/// # Errors
/// It cannot be read, or is large.
pub(crate) fn read_pem(path: &std::path::Path) -> io::Result<Vec<u8>> {
    /// More than the authorities of the whole world take: bytes.
    const MOST: u64 = 4 << 20;
    let mut pem = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, MOST), &mut pem)?;
    Ok(pem)
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        let parts = |tls: &Self| (tls.client.alpn_protocols.clone(), tls.ca.clone(), tls.server_name.clone());
        parts(self) == parts(other) && self.identity == other.identity
    }
}

impl Eq for Tls {}

/// Without the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_ca", &self.ca.is_some())
            .field("has_identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish_non_exhaustive()
    }
}
