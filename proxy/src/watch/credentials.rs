//! Where the API server is and who we are to it, from a kubeconfig file or from what a pod is given.
//!
//! Not a connection (that is [`connect`](mod@super::connect)). The files are rotated while we run, so they are read for each
//! request: there are few. Invariant: what was read holds all that a client needs; nobody opens a file later.

use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::Scheme;
use kube::Config;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use rustls::pki_types::UnixTime;
use serde_json::json;

use super::certificate;
use super::connect::ConnectError;

/// Where Kubernetes puts a pod's credentials.
const POD_FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where to read.
#[derive(Debug)]
pub(super) struct Credentials {
    source: Source,
    /// Addresses of API servers that count in place of the source's own.
    masters: Vec<Uri>,
}

#[derive(Debug)]
enum Source {
    Kubeconfig(PathBuf),
    Pod {
        folder: PathBuf,
        /// The Service of the API servers, by the environment.
        service: Option<String>,
    },
}

/// What was read.
#[derive(Debug)]
pub(super) struct Access {
    /// With every file's content in it.
    pub(super) config: Config,
    /// The API servers, the preferred first; at least one.
    pub(super) servers: Vec<Uri>,
    /// Whether the only address is the Service that we ourselves are to set up.
    pub(super) is_service: bool,
    /// What tells this reading from another.
    content: Vec<Vec<u8>>,
}

impl Access {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.content == other.content && self.config.root_cert == other.config.root_cert
    }
}

impl Credentials {
    /// `masters` are URLs separated by commas; `https` may be left out.
    pub(super) fn new(kubeconfig: Option<&Path>, masters: Option<&str>) -> Result<Self, ConnectError> {
        let masters = masters.unwrap_or_default().split(',').map(str::trim).filter(|it| !it.is_empty());
        let masters = masters.map(parse_server).collect::<Result<Vec<_>, _>>()?;
        let source = match kubeconfig {
            Some(path) => Source::Kubeconfig(path.to_owned()),
            None => Source::Pod { folder: POD_FOLDER.into(), service: service_of_environment() },
        };
        Ok(Self { source, masters })
    }

    /// Reads everything. It awaits nothing; kube's loader is only written so.
    pub(super) async fn read(&self) -> Result<Access, ConnectError> {
        let (mut content, kubeconfig) = self.read_source()?;
        let loaded = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let mut config = loaded.map_err(|error| self.unusable(error))?;
        self.refuse_unsupported(&config)?;
        content.extend(inline(&mut config.auth_info)?);
        self.refuse_expired(&config.auth_info)?;
        let is_service = self.masters.is_empty() && matches!(self.source, Source::Pod { .. });
        let servers =
            if self.masters.is_empty() { vec![config.cluster_url.clone()] } else { self.masters.clone() };
        Ok(Access { config, servers, is_service, content })
    }

    fn read_source(&self) -> Result<(Vec<Vec<u8>>, Kubeconfig), ConnectError> {
        match &self.source {
            Source::Kubeconfig(path) => {
                let mut kubeconfig = Kubeconfig::read_from(path).map_err(|error| self.unusable(error))?;
                self.supply_server(&mut kubeconfig);
                Ok((vec![read_file(path)?], kubeconfig))
            }
            Source::Pod { folder, service } => {
                let server = self.masters.first().map(Uri::to_string).or_else(|| service.clone());
                let server = server.ok_or(ConnectError::NotInPod)?;
                // As with kube-proxy, an address alone is enough for a server that asks for no credentials.
                let is_pod = self.masters.is_empty() || folder.is_dir();
                Ok((Vec::new(), pod_kubeconfig(&server, is_pod.then_some(folder))))
            }
        }
    }

    /// A kubeconfig without an address is whole with ours.
    fn supply_server(&self, kubeconfig: &mut Kubeconfig) {
        let Some(master) = self.masters.first() else { return };
        for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
            cluster.server = Some(master.to_string());
        }
    }

    fn refuse_unsupported(&self, config: &Config) -> Result<(), ConnectError> {
        let user = &config.auth_info;
        let fields = [
            (user.exec.is_some(), "exec"),
            (user.auth_provider.is_some(), "auth-provider"),
            (config.proxy_url.is_some(), "proxy-url"),
        ];
        let found = fields.into_iter().find(|(is_set, _)| *is_set);
        found.map_or(Ok(()), |(_, field)| Err(ConnectError::Unsupported { path: self.path(), field }))
    }

    fn refuse_expired(&self, user: &AuthInfo) -> Result<(), ConnectError> {
        let pem = user.client_certificate_data.as_ref().and_then(|data| STANDARD.decode(data).ok());
        let end = pem.and_then(|pem| certificate::expired(&pem, UnixTime::now()));
        end.map_or(Ok(()), |end| Err(ConnectError::Expired { path: self.path(), end }))
    }

    fn unusable(&self, error: kube::config::KubeconfigError) -> ConnectError {
        let (path, source) = (self.path(), Box::new(error));
        match self.source {
            Source::Kubeconfig(_) => ConnectError::Kubeconfig { path, source },
            Source::Pod { .. } => ConnectError::Pod { folder: path, source },
        }
    }

    fn path(&self) -> PathBuf {
        match &self.source {
            Source::Kubeconfig(path) | Source::Pod { folder: path, .. } => path.clone(),
        }
    }
}

fn parse_server(text: &str) -> Result<Uri, ConnectError> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let uri: Option<Uri> = whole.parse().ok();
    let is_http = |uri: &Uri| [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&uri.scheme());
    uri.filter(is_http).ok_or_else(|| ConnectError::Server { server: text.to_owned() })
}

/// Every container's environment names the Service `kubernetes`; IPv6 comes without brackets.
fn service_of_environment() -> Option<String> {
    #[expect(clippy::disallowed_methods, reason = "Kubernetes tells a pod in no other way")]
    let (host, port) =
        (std::env::var("KUBERNETES_SERVICE_HOST").ok()?, std::env::var("KUBERNETES_SERVICE_PORT").ok()?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Some(format!("https://{host}:{port}"))
}

fn pod_kubeconfig(server: &str, folder: Option<&PathBuf>) -> Kubeconfig {
    let (mut cluster, mut user) = (json!({"server": server}), json!({}));
    if let Some(folder) = folder {
        cluster["certificate-authority"] = json!(folder.join("ca.crt"));
        user["tokenFile"] = json!(folder.join("token"));
    }
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": cluster}],
        "users": [{"name": "pod", "user": user}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod"}}],
    });
    serde_json::from_value(config).expect("these fields have the shape of a kubeconfig")
}

/// Puts the content of the user's files in place of their names. Returns it.
fn inline(user: &mut AuthInfo) -> Result<Vec<Vec<u8>>, ConnectError> {
    let mut content = Vec::new();
    // As in client-go, data beats a file for certificates, and the file beats the data for tokens.
    if let Some(path) = user.client_certificate.take().filter(|_| user.client_certificate_data.is_none()) {
        let pem = read_file(Path::new(&path))?;
        user.client_certificate_data = Some(STANDARD.encode(&pem));
        content.push(pem);
    }
    if let Some(path) = user.client_key.take().filter(|_| user.client_key_data.is_none()) {
        let pem = read_file(Path::new(&path))?;
        user.client_key_data = Some(STANDARD.encode(&pem).into());
        content.push(pem);
    }
    if let Some(path) = mem::take(&mut user.token_file) {
        let bytes = read_file(Path::new(&path))?;
        user.token = Some(String::from_utf8_lossy(&bytes).trim().into());
        content.push(bytes);
    }
    Ok(content)
}

/// The file's content. An empty one is being written.
fn read_file(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let failed = |source| ConnectError::File { path: path.to_owned(), source };
    match fs::read(path).map_err(failed)? {
        bytes if bytes.iter().all(u8::is_ascii_whitespace) => {
            Err(failed(io::Error::new(io::ErrorKind::InvalidData, "it is empty")))
        }
        bytes => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn pod(folder: &TempDir, service: Option<&str>, masters: &str) -> Credentials {
        let mut credentials = Credentials::new(None, Some(masters)).unwrap();
        let (folder, service) = (folder.path().to_owned(), service.map(str::to_owned));
        credentials.source = Source::Pod { folder, service };
        credentials
    }

    fn user(folder: &TempDir, user: &str) -> Credentials {
        let path = folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
            clusters: [{{name: c, cluster: {{server: 'https://192.0.2.1'}}}}]\n\
            contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        );
        fs::write(&path, text).unwrap();
        Credentials::new(Some(&path), None).unwrap()
    }

    fn servers(access: &Access) -> Vec<String> {
        access.servers.iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn the_files_of_a_pod_are_read_anew_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = pod(&folder, Some("https://10.96.0.1:443"), "");
        assert!(matches!(credentials.read().await, Err(ConnectError::Pod { .. })));
        let authority = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap().cert.pem();
        fs::write(folder.path().join("ca.crt"), &authority).unwrap();
        fs::write(folder.path().join("token"), "first\n").unwrap();
        let first = credentials.read().await.unwrap();
        assert_eq!((servers(&first), first.is_service), (vec!["https://10.96.0.1:443/".to_owned()], true));
        assert!(first.is_same(&credentials.read().await.unwrap()));
        fs::write(folder.path().join("token"), "second").unwrap();
        let second = credentials.read().await.unwrap();
        assert!(!second.is_same(&first));
        let authority = rcgen::generate_simple_self_signed(["b".to_owned()]).unwrap().cert.pem();
        fs::write(folder.path().join("ca.crt"), &authority).unwrap();
        assert!(!credentials.read().await.unwrap().is_same(&second));
        fs::write(folder.path().join("token"), "").unwrap();
        assert!(matches!(credentials.read().await, Err(ConnectError::File { .. })));
    }

    #[tokio::test]
    async fn addresses_that_are_given_count_in_place_of_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let given = pod(&folder, None, "https://192.0.2.1:6443, [2001:db8::1]:6443,http://h:8080");
        fs::remove_dir(folder.path()).unwrap();
        let access = given.read().await.unwrap();
        let expected = ["https://192.0.2.1:6443/", "https://[2001:db8::1]:6443/", "http://h:8080/"];
        assert_eq!((servers(&access), access.is_service), (expected.map(str::to_owned).to_vec(), false));
        for wrong in ["not an address", "ftp://h", "https://"] {
            assert!(
                matches!(Credentials::new(None, Some(wrong)), Err(ConnectError::Server { .. })),
                "{wrong}"
            );
        }
        let nowhere = pod(&folder, None, "").read().await.unwrap_err();
        assert!(matches!(nowhere, ConnectError::NotInPod));
    }

    #[tokio::test]
    async fn certificates_are_read_from_the_files_that_a_kubeconfig_names() {
        let folder = tempfile::tempdir().unwrap();
        let credentials = user(&folder, "{client-certificate: pair.pem, client-key: pair.pem}");
        assert!(matches!(credentials.read().await, Err(ConnectError::File { .. })));
        fs::write(folder.path().join("pair.pem"), "one").unwrap();
        let first = credentials.read().await.unwrap();
        assert_eq!(first.config.auth_info.client_certificate_data, Some(STANDARD.encode("one")));
        fs::write(folder.path().join("pair.pem"), "two").unwrap();
        assert!(!credentials.read().await.unwrap().is_same(&first));
    }

    #[tokio::test]
    async fn credentials_that_would_start_a_program_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let exec = "{exec: {apiVersion: client.authentication.k8s.io/v1, command: touch, args: [started]}}";
        let provider = "{auth-provider: {name: gcp, config: {}}}";
        for (text, field) in [(exec, "exec"), (provider, "auth-provider")] {
            let error = user(&folder, text).read().await.unwrap_err().to_string();
            assert!(error.contains(&format!("kubeconfig: {field} is not supported")), "{error}");
        }
    }
}
