//! The built plugin on a real kernel: a node and its pods, each in a namespace of its own.

#[cfg(test)]
mod artifact;
#[cfg(test)]
mod attach;
#[cfg(test)]
mod bandwidth;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod crowd;
#[cfg(test)]
mod delegate;
#[cfg(test)]
mod detach;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostport;
#[cfg(test)]
mod hostport_owner;
#[cfg(test)]
mod install;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod leftovers;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod loopback;
#[cfg(test)]
mod maintain;
#[cfg(test)]
mod node;
#[cfg(test)]
mod output;
#[cfg(test)]
mod refuse;
#[cfg(test)]
mod routed;
#[cfg(test)]
mod site;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod vlan;
