//! heddle-bench: Service routing and the CNI plugin, measured in namespaces of its own.
//!
//! | module | what it is |
//! |---|---|
//! | [`flags`] | the command line |
//! | [`parts`] | the parts of a run |
//! | [`interrupt`] | the early end of a run |
//! | [`profile`] | how much of the control plane is measured |
//! | [`cluster`] | the Services and slices of a made-up cluster |
//! | [`api`] | an API server with that cluster |
//! | [`control`] | the control plane: how proxies start and follow a cluster
//! | [`run`] | the data plane: subjects in turn, round by round |
//! | [`subjects`] | what is compared: hosts between which connections are made, by a Service or not |
//! | [`kube_proxy`] | a real kube-proxy, where there is one |
//! | [`layout`] | rulesets in the layouts of kube-proxy's modes |
//! | [`workloads`] | what is asked of each subject |
//! | [`load`] | the load: connections, requests, bytes and packets, in CPU time |
//! | [`here`] | the Services of the cluster that the machine is in |
//! | [`cni`] | the CNI plugin: whole processes, beside the reference plugins |
//! | [`figure`] | what was measured, of whom, how often |
//! | [`regress`] | whether a report is worse than an older one |
//! | [`markdown`] | the report for pasting |
//! | [`html`] | the report as one page with plots |
//! | [`output`] | where a report goes, by flags |
//! | [`stats`] | medians, ratios, and whether a bound is held |
//! | [`report`] | what was found and what must hold of it, as a table and as JSON |
//! | [`progress`] | what is being done, and how long it may still take |
//!
//! Times are what this machine took in this run: nothing here asserts them. Invariant: the namespace in which the bench
//! was started sees neither a rule nor a packet, but for the connections that [`here`] is asked for.

pub mod api;
pub mod cluster;
pub mod cni;
pub mod control;
pub mod figure;
pub mod flags;
pub mod here;
pub mod html;
pub mod interrupt;
pub mod kube_proxy;
pub mod layout;
pub mod load;
pub mod markdown;
pub mod output;
pub mod parts;
pub mod profile;
pub mod progress;
pub mod regress;
pub mod report;
pub mod run;
pub mod stats;
pub mod subjects;
pub mod workloads;

/// Why something could not be measured.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
