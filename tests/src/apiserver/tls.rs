//! An authority with what it signs: the server's certificate and those of clients. The authority's own key is never written to disk.

use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::ApiServer;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// rustls does not take what was made.
    #[error("cannot set up TLS")]
    Config(#[from] rustls::Error),
    /// Clients could not be checked.
    #[error("cannot check clients' certificates")]
    Clients(#[from] rustls::server::VerifierBuilderError),
    /// The server was started without TLS.
    #[error("the server has no certificates")]
    Plain,
}

/// When a certificate counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Now, and for as long as a test can run.
    Present,
    /// It ended years ago.
    Past,
}

/// A client's certificate and its key, PEM.
#[derive(Clone, Debug)]
pub struct ClientPair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

/// Signs what servers and clients of one cluster show, and holds what its servers show now.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    names: Vec<String>,
    acceptor: Mutex<TlsAcceptor>,
}

impl Authority {
    /// One whose servers have these names and addresses.
    pub(crate) fn new(names: Vec<String>) -> Result<Self, TlsError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "heddle-lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let acceptor = Mutex::new(acceptor(&issuer, &names, Validity::Present)?);
        Ok(Self { issuer, names, acceptor })
    }

    /// Its own certificate, PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// What the next connection is met with.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn renew(&self, validity: Validity) -> Result<(), TlsError> {
        let next = acceptor(&self.issuer, &self.names, validity)?;
        *self.acceptor.lock().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

impl ApiServer {
    /// Shows a certificate of this validity to whoever connects from now on, at all servers of the cluster.
    ///
    /// # Errors
    /// When there is no TLS, or the certificate cannot be made.
    pub fn renew_certificate(&self, validity: Validity) -> Result<(), TlsError> {
        self.shared.authority.as_ref().ok_or(TlsError::Plain)?.renew(validity)
    }

    /// A certificate by which the servers of this cluster let a client in who has no token.
    ///
    /// # Errors
    /// When there is no TLS, or the certificate cannot be made.
    pub fn client_certificate(&self, validity: Validity) -> Result<ClientPair, TlsError> {
        let authority = self.shared.authority.as_ref().ok_or(TlsError::Plain)?;
        let (certificate, key) = sign(&authority.issuer, ("system:node-proxier", &[]), validity)?;
        Ok(ClientPair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn sign(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    (who, names): (&str, &[String]),
    validity: Validity,
) -> Result<(Certificate, KeyPair), TlsError> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, who);
    if validity == Validity::Past {
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
    }
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, issuer)?, key))
}

/// Clients may show a certificate; one that does not count ends the connection.
fn acceptor(
    issuer: &CertifiedIssuer<'static, KeyPair>,
    names: &[String],
    validity: Validity,
) -> Result<TlsAcceptor, TlsError> {
    let (certificate, key) = sign(issuer, ("kube-apiserver", names), validity)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone())?;
    let provider = Arc::new(ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients.allow_unauthenticated().build()?)
        .with_single_cert(vec![certificate.der().clone()], private)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
