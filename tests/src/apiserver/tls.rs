//! An authority and a server certificate, made at start and never written to disk.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The certificate could not be made.
    #[error("cannot make the server's certificate")]
    Certificate(#[source] rcgen::Error),
    /// rustls does not take what was made.
    #[error("cannot set up TLS")]
    Config(#[source] rustls::Error),
}

/// What the server shows, and what clients check it with.
pub(crate) struct Identity {
    pub(crate) config: Arc<ServerConfig>,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
}

/// Makes an identity for these names and addresses.
pub(crate) fn make(names: Vec<String>) -> Result<Identity, TlsError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "heddle-lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().map_err(TlsError::Certificate)?;
    let authority = CertifiedIssuer::self_signed(params, key).map_err(TlsError::Certificate)?;

    let mut params = CertificateParams::new(names).map_err(TlsError::Certificate)?;
    params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    let key = KeyPair::generate().map_err(TlsError::Certificate)?;
    let certificate = params.signed_by(&key, &authority).map_err(TlsError::Certificate)?;

    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Config)?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .map_err(TlsError::Config)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity { config: Arc::new(config), authority: authority.pem() })
}
