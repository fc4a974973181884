//! What is said in the cluster when a server's address cannot be had and the process ends for it.

use crate::config::{Config, Source};
use crate::events::{self, Reporter};
use crate::watch;
use std::error::Error;
use tokio::runtime;

/// Says on the Node why the process ends. The API server may be away: the log has it in any case.
pub(super) fn say(config: &Config, reason: &str, error: &dyn Error) {
    let Source::ApiServer { kubeconfig, master } = &config.source else { return };
    let Ok(runtime) = runtime::Builder::new_current_thread().enable_all().build() else { return };
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    runtime.block_on(async {
        if let Ok(client) = watch::connect(kubeconfig.as_deref(), master.as_deref()).await {
            let by = Reporter::proxy(&config.node);
            events::post_failure(client, by, reason, &format!("{error}{cause}")).await;
        }
    });
}
