//! A client for the API server, from a kubeconfig file or the pod's own credentials.
//!
//! Not a connection: nothing is sent before the first request. Invariant: no request waits for a silent server for ever.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use thiserror::Error;

/// How long a connection may be silent. A watch is never: the server ends it after 290 s, kube's default.
const SILENCE: Duration = Duration::from_secs(300);

/// Why there is no client for the API server.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The kubeconfig file is of no use.
    #[error("cannot use the kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// There is no kubeconfig file, and we are not in a pod.
    #[error("cannot use the credentials of the pod (and no kubeconfig is given)")]
    InCluster(#[source] Box<InClusterError>),
    /// The server's address is of no use.
    #[error("{server:?} is not the address of an API server")]
    Server {
        /// What was given.
        server: String,
        /// What is wrong with it.
        #[source]
        source: Box<KubeconfigError>,
    },
    /// No client could be made of it.
    #[error("cannot make a client for the API server")]
    Client(#[source] Box<kube::Error>),
}

/// Makes a client from a kubeconfig file, or without one from the pod's own credentials. Nothing is sent yet. `server`
/// replaces the server's address: a proxy must not reach the API server through the Service that it is to set up.
///
/// # Errors
/// When file, credentials or address are of no use.
pub async fn connect(kubeconfig: Option<&Path>, server: Option<&str>) -> Result<Client, ConnectError> {
    let mut config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => Config::incluster().map_err(|source| ConnectError::InCluster(Box::new(source)))?,
    };
    if let Some(server) = server {
        config.cluster_url = server.parse().map_err(|source| ConnectError::Server {
            server: server.to_owned(),
            source: Box::new(KubeconfigError::ParseClusterUrl(source)),
        })?;
    }
    config.read_timeout = Some(SILENCE);
    Client::try_from(config).map_err(|source| ConnectError::Client(Box::new(source)))
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let error = |source| ConnectError::Kubeconfig { path: path.to_owned(), source: Box::new(source) };
    let kubeconfig = Kubeconfig::read_from(path).map_err(error)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(error)
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn a_kubeconfig_that_is_of_no_use_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        for text in [None, Some("clusters: 7"), Some("apiVersion: v1\nkind: Config\n")] {
            if let Some(text) = text {
                fs::write(&path, text).unwrap();
            }
            let error = connect(Some(&path), None).await.err().unwrap();
            assert_eq!(error.to_string(), format!("cannot use the kubeconfig {}", path.display()));
            assert!(error.source().is_some());
        }
    }

    #[tokio::test]
    async fn the_address_of_the_server_can_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
            clusters: [{name: c, cluster: {server: 'http://192.0.2.1'}}]\n\
            contexts: [{name: c, context: {cluster: c, user: u}}]\nusers: [{name: u, user: {}}]\n";
        fs::write(&path, text).unwrap();
        assert!(connect(Some(&path), Some("https://192.0.2.2:6443")).await.is_ok());
        let error = connect(Some(&path), Some("not an address")).await.err().unwrap();
        assert_eq!(error.to_string(), "\"not an address\" is not the address of an API server");
    }
}
