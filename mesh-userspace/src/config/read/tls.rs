//! Reads the keys of TLS, and the files that they name.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use toml::Spanned;

use super::section::{Key, Section};
use super::value::{self, Node, Read};
use crate::config::tls::{Identity, certificates, private_key, read_pem};
use crate::config::{Problem, Tls, TlsError, TlsProtocol};

/// The keys of TLS.
pub(super) const KEYS: &[&str] = &["ca_file", "certificate_file", "private_key_file", "server_name"];

/// TLS as the keys have it; `None` after a report. The host is the name that certificates must have, unless another
/// is written.
pub(super) fn tls(section: &mut Section<'_, '_>, protocol: TlsProtocol, host: Option<&str>) -> Option<Tls> {
    let has_ca = section.has("ca_file");
    let ca = section.optional(Key("ca_file", "\"/etc/meshlb/ca.pem\""), |node| pem(node, certificates));
    let identity = identity(section)?;
    let name = section.optional(Key("server_name", "\"api.example.com\""), server_name);
    let name = name.map(Spanned::into_inner).or_else(|| named(host?));
    if has_ca && ca.is_none() {
        return None;
    }
    let place = ca.as_ref().map_or_else(|| section.span(), Spanned::span);
    let made = Tls::new(protocol, ca.map(Spanned::into_inner), identity, name);
    made.map_err(|error| section.report().add(refused(&error).at(place))).ok()
}

fn refused(error: &TlsError) -> Problem {
    let advice = match error {
        TlsError::BadIdentity(_) => "give the certificate's own key, RSA, ECDSA or Ed25519",
        TlsError::NoAuthorities(_) => {
            "name the authority of the servers' certificates: `ca_file = \"/etc/meshlb/ca.pem\"`"
        }
        TlsError::NoPem(_) | TlsError::BadAuthority(_) | TlsError::NoVersion(_) => {
            "give the certificates of authorities, in PEM form"
        }
    };
    Problem::new(format!("there can be no TLS as configured: {error}")).advise(advice)
}

/// Whose certificate a host name means: that without the port.
fn named(host: &str) -> Option<ServerName<'static>> {
    let authority: hyper::http::uri::Authority = host.parse().ok()?;
    ServerName::try_from(authority.host().to_owned()).ok()
}

fn server_name(node: &Node<'_>) -> Read<ServerName<'static>> {
    let written = value::text(node)?;
    ServerName::try_from(written.to_owned())
        .map_err(|_not_a_name| Problem::new(format!("{written:?} is not a name that a certificate has")))
}

/// The client's certificate and key, if there are any; `None` after a report.
fn identity(section: &mut Section<'_, '_>) -> Option<Option<Identity>> {
    let places = [section.place_of("certificate_file"), section.place_of("private_key_file")];
    let chain = Key("certificate_file", "\"/etc/meshlb/client.pem\"");
    let chain = section.optional(chain, |node| pem(node, certificates));
    let key = Key("private_key_file", "\"/etc/meshlb/client.key\"");
    let key = section.optional(key, |node| pem(node, private_key));
    match (places, chain, key) {
        ([None, None], ..) => Some(None),
        ([Some(_), Some(_)], chain, key) => Some(Some((chain?.into_inner(), Arc::new(key?.into_inner())))),
        ([one, other], ..) => {
            let (has, lacks) = if one.is_some() {
                ("certificate_file", "private_key_file")
            } else {
                ("private_key_file", "certificate_file")
            };
            let problem = Problem::new(format!("`{has}` is written without `{lacks}`"))
                .advise("write both, or none: a client certificate needs its key");
            section.report().add(problem.at(one.or(other)?));
            None
        }
    }
}

/// What the file holds that a value names.
fn pem<T>(node: &Node<'_>, read: impl Fn(&[u8]) -> Result<T, TlsError>) -> Read<T> {
    let path: PathBuf = value::absolute_path(node)?;
    let name = path.display();
    let bytes = read_pem(&path).map_err(|error| {
        Problem::new(format!("the file {name} cannot be read: {error}"))
            .advise("give the path of a file that the agent may read")
    })?;
    read(&bytes).map_err(|error| Problem::new(format!("the file {name} is of no use: {error}")))
}
