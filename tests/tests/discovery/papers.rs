//! Certificates, in files as servers and the agent read them.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};

/// An authority, and the file with its certificate.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Papers {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Puts the file into the directory.
    pub(crate) fn new(directory: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = directory.join(format!("{name}.pem"));
        fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// Papers for a host, name or address.
    pub(crate) fn issue(&self, host: &str) -> Papers {
        self.sign(host, CertificateParams::new(vec![host.to_owned()]).unwrap())
    }

    /// The same, which have expired long ago.
    pub(crate) fn issue_expired(&self, host: &str) -> Papers {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        (params.not_before, params.not_after) =
            (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2020, 2, 1));
        self.sign(&format!("expired-{host}"), params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Papers {
        // etcd takes a name for that of a user.
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |ending: &str| self.file.with_extension(format!("{name}.{ending}"));
        let papers = Papers { certificate: file("pem"), key: file("key") };
        fs::write(&papers.certificate, certificate.pem()).unwrap();
        fs::write(&papers.key, key.serialize_pem()).unwrap();
        papers
    }
}

impl Papers {
    /// The keys of the configuration by which the agent shows them.
    pub(crate) fn shown(&self) -> String {
        format!("certificate_file = {:?}\nprivate_key_file = {:?}\n", self.certificate, self.key)
    }
}
