//! The whole network: nodes with heddle-node, heddle-proxy and pods, fed by one API server. Every story is told on every
//! network, so a test is called `NETWORK::STORY`.

#[path = "network/bulk.rs"]
mod bulk;
#[path = "network/control.rs"]
mod control;
#[path = "network/nodes.rs"]
mod nodes;
#[path = "network/pods.rs"]
mod pods;
#[path = "network/services.rs"]
mod services;
#[path = "network/size.rs"]
mod size;
#[path = "network/stage.rs"]
mod stage;

use heddle_tests::lab::{Families, Underlay};
use libtest_mimic::{Arguments, Failed, Trial};
use stage::{Network, Stage};
use std::error::Error;
use std::process::ExitCode;

type Outcomes = Result<(), Box<dyn Error>>;
type Story = fn(&mut Stage) -> Outcomes;

const ON_ONE_SUBNET: &[&[&str]] = &[&["node-1", "node-2", "node-3"]];

/// With a router between, which drops what has a pod's address.
const ON_TWO_SUBNETS: &[&[&str]] = &[&["node-1", "node-2"], &["node-3"]];

/// What pods' packets may travel over.
const NETWORKS: [Network; 7] = [
    Network {
        name: "routes",
        subnets: ON_ONE_SUBNET,
        families: Families::Both,
        pods: Families::Both,
        mode: "routes",
    },
    Network {
        name: "routes-ipv4",
        subnets: ON_ONE_SUBNET,
        families: Families::Ipv4,
        pods: Families::Ipv4,
        mode: "auto",
    },
    Network {
        name: "routes-ipv6",
        subnets: ON_ONE_SUBNET,
        families: Families::Ipv6,
        pods: Families::Ipv6,
        mode: "auto",
    },
    Network {
        name: "router",
        subnets: ON_TWO_SUBNETS,
        families: Families::Both,
        pods: Families::Both,
        mode: "auto",
    },
    Network {
        name: "vxlan",
        subnets: ON_ONE_SUBNET,
        families: Families::Both,
        pods: Families::Both,
        mode: "vxlan",
    },
    Network {
        name: "vxlan-over-ipv4",
        subnets: ON_TWO_SUBNETS,
        families: Families::Ipv4,
        pods: Families::Both,
        mode: "vxlan",
    },
    Network {
        name: "vxlan-over-ipv6",
        subnets: ON_TWO_SUBNETS,
        families: Families::Ipv6,
        pods: Families::Both,
        mode: "auto",
    },
];

const STORIES: [(&str, Story); 12] = [
    ("pods_of_all_nodes_reach_each_other_and_are_seen_themselves", pods::reach_each_other),
    ("nodes_reach_every_pod_and_pods_every_node", pods::and_nodes),
    ("what_leaves_the_cluster_has_the_nodes_address", pods::leave_the_cluster),
    ("a_service_is_served_by_pods_of_other_nodes_who_see_the_client", services::of_other_nodes),
    ("a_node_port_is_served_from_any_node_and_with_policy_local_shows_the_client", services::node_ports),
    ("packets_of_full_size_arrive_whole", size::whole_packets),
    ("a_bulk_transfer_through_a_service_arrives_whole", bulk::arrives_whole),
    ("a_node_that_leaves_and_joins_is_followed", nodes::leave_and_join),
    ("a_node_that_gets_other_ranges_is_followed", nodes::get_other_ranges),
    ("a_node_that_is_rebooted_comes_back_and_nobody_else_notices", nodes::reboot),
    ("agents_that_are_killed_are_missed_by_no_packet", control::agents_are_killed),
    ("without_the_api_server_traffic_goes_on_and_changes_come_after", control::api_server_is_away),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let told = |network: &'static Network, (name, story): (&str, Story)| {
        Trial::test(format!("{}::{name}", network.name), move || tell(network, story))
    };
    let trials = NETWORKS.iter().flat_map(|network| STORIES.map(|story| told(network, story)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

/// Tells a story on a network of its own; with what the programs logged if it is not true.
fn tell(network: &'static Network, story: Story) -> Result<(), Failed> {
    let mut stage = Stage::build(network)?;
    story(&mut stage).map_err(|error| Failed::from(format!("{error}\n{}", stage.cluster.log())))
}

impl Network {
    fn underlay(&self) -> Underlay {
        Underlay::routed(self.subnets).carrying(self.families).with_pods_of(self.pods)
    }
}
