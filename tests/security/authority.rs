//! A certificate authority for one test.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};

/// Issues certificates that lead to its own.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pem: String,
}

/// A certificate with its key, PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate");
        let pem = issuer.pem();
        Self { issuer, pem }
    }

    /// The certificate to trust.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// For a server of this name.
    pub fn issue(&self, host: &str) -> Issued {
        self.sign(CertificateParams::new(vec![host.to_owned()]).expect("a name"), host)
    }

    /// For a client of this name.
    pub fn issue_to(&self, name: &str) -> Issued {
        self.sign(CertificateParams::default(), name)
    }

    fn sign(&self, mut params: CertificateParams, name: &str) -> Issued {
        params.distinguished_name = named(name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
