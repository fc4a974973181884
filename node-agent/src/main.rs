//! heddle-node's process: configuration, logging, run, exit code. Under the name heddle-proxy it is that program, so that an image
//! has both and what both are made of once.

use clap::Parser;
use heddle_netlink::nft::TableFamily;
use heddle_node::config::{Command, Config, Flags, Surroundings};
use heddle_node::{doctor, look, run};
use heddle_proxy::nft::probe;
use heddle_proxy::{causes, logging, memory, program};
use std::path::Path;
use std::process::ExitCode;
use tracing::{error, info};

fn main() -> ExitCode {
    let name = std::env::args_os().next().unwrap_or_default();
    if Path::new(&name).file_name() == Some("heddle-proxy".as_ref()) {
        return program::main();
    }
    memory::keep_little();
    let flags = Flags::parse();
    match &flags.command {
        Some(Command::Status(asked)) => return look::command::run(asked),
        Some(Command::Doctor(asked)) => return doctor::command::run(asked, surroundings()),
        None => {}
    }
    let config = flags.config(surroundings());
    logging::start(config.log_format, config.verbosity);
    match work(&config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            error!("{}", causes::line(&failure));
            ExitCode::FAILURE
        }
    }
}

fn work(config: &Config) -> Result<(), run::RunError> {
    if config.cleans_up {
        return run::clean_up(config);
    }
    run::run(config).inspect(|()| info!("stopped; routes and tables stay"))
}

fn surroundings() -> Surroundings {
    #[expect(clippy::disallowed_methods, reason = "Kubernetes tells a pod its node in no other way")]
    let node_name = std::env::var("NODE_NAME").ok();
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let has_ipv6 = probe::has_ipv6("/proc".as_ref());
    let families = TableFamily::ALL.into_iter().filter(|family| has_ipv6 || *family == TableFamily::Ip);
    // Where it is not known, the plugin's file is named by its flag.
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map(Path::to_owned).unwrap_or_default();
    Surroundings { node_name, host_name, beside, families: families.collect() }
}
