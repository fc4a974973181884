//! Takes away what the plugin was supplied with.
//!
//! Invariant: the configuration goes first, so that no pod is made any more; the program goes last, and not while a pod has a
//! link of ours, since a runtime ends that pod with it.

use super::flags::Settings;
use heddle_cni::failure::Failure;
use heddle_cni::install::configurations::bring_others_back;
use heddle_cni::install::programs::remove_programs;
use heddle_cni::install::remove;
use heddle_cni::node::Node;
use std::path::Path;
use tracing::info;

/// Takes away what lies in the folders that are named. Leases stay: addresses of pods that run must not be given anew, should
/// the plugin come back.
///
/// # Errors
/// The first file that could not be taken away, or brought back.
pub fn clean_up(settings: &Settings) -> Result<(), Failure> {
    let gone = |path: &Path| info!("{} is removed", path.display());
    if let Some(list) = &settings.list {
        remove(&list.place())?.then(|| gone(&list.place()));
        let brought = bring_others_back(&list.folder)?;
        brought.iter().for_each(|path| info!("{} is brought back", path.display()));
    }
    if let Some(file) = &settings.heartbeat {
        remove(file)?.then(|| gone(file));
    }
    let Some(program) = &settings.program else { return Ok(()) };
    let pods = Node::open()?.attachments()?.len();
    if pods > 0 {
        info!(
            pods,
            "the plugin stays in {}: these pods still need it for their end. Clean up again when they are gone",
            program.folder.display()
        );
        return Ok(());
    }
    remove_programs(&program.folder)?.iter().for_each(|path| gone(path));
    Ok(())
}
