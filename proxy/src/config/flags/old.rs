//! kube-proxy's flags of dataplanes that are not here: read into the file's form, as it has fields for them.

use super::super::duration::GoDuration;
use super::super::file::File;
use super::put;
use clap::Args;

/// Accepted, without effect, and not in the help: flags of dataplanes that are not here.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Other dataplanes")]
pub(super) struct OldFlags {
    #[arg(long, hide = true, allow_negative_numbers = true)]
    iptables_masquerade_bit: Option<i32>,
    #[arg(long, hide = true)]
    iptables_localhost_nodeports: Option<bool>,
    #[arg(long, hide = true)]
    iptables_sync_period: Option<GoDuration>,
    #[arg(long, hide = true)]
    iptables_min_sync_period: Option<GoDuration>,
    #[arg(long, hide = true)]
    ipvs_sync_period: Option<GoDuration>,
    #[arg(long, hide = true)]
    ipvs_min_sync_period: Option<GoDuration>,
    #[arg(long, hide = true)]
    ipvs_scheduler: Option<String>,
    #[arg(long, hide = true, value_delimiter = ',')]
    ipvs_exclude_cidrs: Option<Vec<String>>,
    #[arg(long, hide = true)]
    ipvs_strict_arp: Option<bool>,
    #[arg(long, hide = true)]
    ipvs_tcp_timeout: Option<GoDuration>,
    #[arg(long, hide = true)]
    ipvs_tcpfin_timeout: Option<GoDuration>,
    #[arg(long, hide = true)]
    ipvs_udp_timeout: Option<GoDuration>,
    #[arg(long = "boot-id-file", hide = true)]
    _boot_id_file: Option<String>,
    #[arg(long = "machine-id-file", hide = true)]
    _machine_id_file: Option<String>,
}

impl OldFlags {
    pub(super) fn apply(&self, file: &mut File) {
        put(&mut file.iptables.masquerade_bit, self.iptables_masquerade_bit);
        put(&mut file.iptables.localhost_node_ports, self.iptables_localhost_nodeports);
        // There are no flags of nftables' own.
        let (period, least) = match file.mode.as_str() {
            "nftables" | "ebpf" => (&mut file.nftables.sync_period, &mut file.nftables.min_sync_period),
            _ => (&mut file.iptables.sync_period, &mut file.iptables.min_sync_period),
        };
        let is_ipvs = file.mode == "ipvs";
        put(period, self.iptables_sync_period.filter(|_| !is_ipvs));
        put(least, self.iptables_min_sync_period.filter(|_| !is_ipvs));
        let ipvs = &mut file.ipvs;
        put(&mut ipvs.sync_period, self.ipvs_sync_period.filter(|_| is_ipvs));
        put(&mut ipvs.min_sync_period, self.ipvs_min_sync_period.filter(|_| is_ipvs));
        put(&mut ipvs.scheduler, self.ipvs_scheduler.clone());
        put(&mut ipvs.strict_arp, self.ipvs_strict_arp);
        put(&mut ipvs.tcp_timeout, self.ipvs_tcp_timeout);
        put(&mut ipvs.tcp_fin_timeout, self.ipvs_tcpfin_timeout);
        put(&mut ipvs.udp_timeout, self.ipvs_udp_timeout);
        if self.ipvs_exclude_cidrs.is_some() {
            ipvs.exclude_cidrs.clone_from(&self.ipvs_exclude_cidrs);
        }
    }
}
