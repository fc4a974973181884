//! Whether a certificate that we would show has expired. A server that refuses it says so late and in few words, or not at all.
//!
//! Pure: it is told the time. Whether anybody would accept the certificate otherwise is the server's to say.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, Error, RootCertStore};

/// When the first certificate of a PEM text expired, if it has by now. Of what is no certificate, nothing is known.
pub(super) fn expired(pem: &[u8], now: UnixTime) -> Option<Timestamp> {
    let certificate = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    // Trusted for the purpose: its times are looked at before everything else.
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).ok()?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    match verifier.verify_client_cert(&certificate, &[], now) {
        Err(Error::InvalidCertificate(CertificateError::ExpiredContext { not_after, .. })) => {
            Timestamp::from_second(i64::try_from(not_after.as_secs()).ok()?).ok()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn pem() -> String {
        let mut params = CertificateParams::new(["node".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn at(text: &str) -> UnixTime {
        let second = text.parse::<Timestamp>().unwrap().as_second();
        UnixTime::since_unix_epoch(Duration::from_secs(second.try_into().unwrap()))
    }

    #[test]
    fn a_certificate_has_expired_once_its_time_is_over_and_not_before_it_begins() {
        let pem = pem();
        let end: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(expired(pem.as_bytes(), at("2020-01-01T00:00:01Z")), Some(end));
        assert_eq!(expired(pem.as_bytes(), at("2019-12-31T23:59:59Z")), None);
        assert_eq!(expired(pem.as_bytes(), at("1970-01-02T00:00:00Z")), None);
    }

    #[test]
    fn of_what_is_no_certificate_nothing_is_known() {
        let now = at("2030-01-01T00:00:00Z");
        let broken = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        for text in ["", "one", broken] {
            assert_eq!(expired(text.as_bytes(), now), None, "{text}");
        }
    }
}
