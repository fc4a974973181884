//! The kinds that are served, one file each: names, columns, defaults, and what is refused.

pub(crate) mod configmap;
pub(crate) mod daemonset;
pub(crate) mod endpointslice;
pub(crate) mod event;
pub(crate) mod namespace;
pub(crate) mod networkpolicy;
pub(crate) mod node;
pub(crate) mod pod;
pub(crate) mod roles;
pub(crate) mod service;
mod service_addresses;
mod service_checks;
mod service_ports;
pub(crate) mod servicecidr;
