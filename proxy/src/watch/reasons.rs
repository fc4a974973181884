//! What went wrong with the API server, in one line that says what to look at.
//!
//! Pure: errors into text. Of what libraries wrap, the cause is what people can do something about.

use std::error::Error;

use kube::runtime::watcher;
use rustls::{AlertDescription, CertificateError};

use crate::causes;
use crate::model::Kind;

const REFUSED: &str = "it does not accept our client certificate";

/// What a server says of a certificate that it refuses.
const ALERTS: [(AlertDescription, &str); 8] = [
    (AlertDescription::CertificateExpired, "it says that our client certificate has expired"),
    (AlertDescription::UnknownCA, REFUSED),
    // An authority of the same name with another key.
    (AlertDescription::DecryptError, REFUSED),
    (AlertDescription::BadCertificate, REFUSED),
    (AlertDescription::CertificateRequired, REFUSED),
    (AlertDescription::CertificateRevoked, REFUSED),
    (AlertDescription::CertificateUnknown, REFUSED),
    (AlertDescription::UnsupportedCertificate, REFUSED),
];

/// The cause of a failed request, without its wrappings.
pub(super) fn of(error: &(dyn Error + 'static)) -> String {
    let tls = causes::chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>());
    tls.map_or_else(|| of_text(causes::line(error)), of_tls)
}

/// HTTP/2 keeps only the text of what ended its connection, and a server says late that it refuses a certificate.
fn of_text(line: String) -> String {
    let mut known = ALERTS.iter().map(|(alert, why)| (rustls::Error::AlertReceived(*alert).to_string(), why));
    known.find(|(text, _)| line.contains(text)).map_or(line, |(text, why)| format!("{why} ({text})"))
}

fn of_tls(error: &rustls::Error) -> String {
    let why = match error {
        rustls::Error::InvalidCertificate(wrong) => match wrong {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired, or this node's clock is wrong"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or this node's clock is wrong"
            }
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is not from the certificate authority that the credentials name"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is not for this address (tls-server-name in a kubeconfig gives the name to expect)"
            }
            _ => "its certificate is not accepted",
        },
        rustls::Error::AlertReceived(alert) => {
            ALERTS.iter().find(|(known, _)| known == alert).map_or("TLS failed", |(_, why)| why)
        }
        _ => "TLS failed",
    };
    format!("{why} ({error})")
}

/// Why a kind is not seen.
pub(super) fn of_watch(kind: Kind, error: &watcher::Error) -> String {
    let resource = match kind {
        Kind::Service => "services",
        Kind::Slice => "endpointslices.discovery.k8s.io",
        Kind::Node => "nodes",
        Kind::ServiceCidr => "servicecidrs.networking.k8s.io",
        Kind::Pod => "pods",
    };
    let (verb, error) = match error {
        watcher::Error::InitialListFailed(error) => ("list", error),
        watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => ("watch", error),
        other => return other.to_string(),
    };
    match error {
        kube::Error::Api(status) if status.code == 403 && kind == Kind::Pod => {
            format!("no right to {verb} {resource}: {}", status.message)
        }
        kube::Error::Api(status) if status.code == 403 => {
            format!(
                "no right to {verb} {resource} (the ClusterRole system:node-proxier has it): {}",
                status.message
            )
        }
        kube::Error::Api(status) if status.code == 404 => format!("the API server has no {resource}"),
        kube::Error::Api(status) if status.code == 401 => {
            "the API server does not accept our credentials (401); they are read again for each try"
                .to_owned()
        }
        kube::Error::Service(error) => of(&**error),
        other => of(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use kube::core::Status;

    use super::*;
    use crate::causes::tests::Wrapping;

    fn tls(wrong: CertificateError) -> String {
        // As hyper-rustls gives it: the kernel's kind of error twice around the library's.
        let error = io::Error::other(io::Error::other(rustls::Error::InvalidCertificate(wrong)));
        of(&Wrapping { text: "client error (Connect)", source: error })
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_first() {
        assert!(
            tls(CertificateError::Expired).starts_with("its certificate has expired, or this node's clock")
        );
        assert!(tls(CertificateError::NotValidYet).starts_with("its certificate is not valid yet"));
        assert!(
            tls(CertificateError::UnknownIssuer)
                .starts_with("its certificate is not from the certificate authority")
        );
        assert!(tls(CertificateError::NotValidForName).contains("tls-server-name"));
        assert!(tls(CertificateError::Revoked).starts_with("its certificate is not accepted"));
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateExpired);
        assert!(of(&alert).starts_with("it says that our client certificate has expired"));
        let text = io::Error::other(format!("connection error: {alert}"));
        let lost = Wrapping { text: "client error (SendRequest)", source: text };
        assert_eq!(of(&lost), of(&alert), "whether or not the type was kept");
    }

    #[test]
    fn the_right_that_is_missing_is_named() {
        let refused = |code| kube::Error::Api(Box::new(Status { code, ..Status::default() }));
        let list = of_watch(Kind::Slice, &watcher::Error::InitialListFailed(refused(403)));
        assert!(list.starts_with("no right to list endpointslices.discovery.k8s.io "), "{list}");
        let watch = of_watch(Kind::Service, &watcher::Error::WatchStartFailed(refused(403)));
        assert!(watch.starts_with("no right to watch services "), "{watch}");
        let unknown = of_watch(Kind::Service, &watcher::Error::WatchStartFailed(refused(401)));
        assert!(unknown.contains("(401)"), "{unknown}");
    }
}
