//! The cluster IPs and families of a Service: which it wants, which it gets.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::claims::Claims;
use super::super::paths::{set, text, texts};
use super::super::refusal::Cause;
use super::super::resource::{Admission, Claim};
use super::service::{is_headless, set_cluster_ips};

/// Completes `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`.
pub(super) fn allocate(admission: &mut Admission<'_>) -> Vec<Cause> {
    if text(admission.object, "spec.type") == "ExternalName" {
        return Vec::new();
    }
    if let Err(cause) = agree_on_wanted(admission) {
        return vec![cause];
    }
    let families = match choose_families(admission.object, admission.claims) {
        Ok(families) => families,
        Err(cause) => return vec![cause],
    };
    let policy = text(admission.object, "spec.ipFamilyPolicy");
    let policy = if policy.is_empty() { "SingleStack" } else { policy }.to_owned();
    set(admission.object, "spec.ipFamilyPolicy", policy);
    set(admission.object, "spec.ipFamilies", json!(families));
    if is_headless(admission.object) {
        set_cluster_ips(admission.object, &["None".to_owned()]);
        return Vec::new();
    }
    match choose_addresses(admission, &families) {
        Ok(addresses) => set_cluster_ips(admission.object, &addresses),
        Err(cause) => return vec![cause],
    }
    Vec::new()
}

/// Makes the list of wanted addresses out of either form, and refuses to change the first once it is set.
fn agree_on_wanted(admission: &mut Admission<'_>) -> Result<(), Cause> {
    let single = text(admission.object, "spec.clusterIP").to_owned();
    let mut wanted: Vec<String> =
        texts(admission.object, "spec.clusterIPs").into_iter().map(str::to_owned).collect();
    if wanted.is_empty() && !single.is_empty() {
        wanted.push(single.clone());
    }
    // A client that only knows the singular form changes it alone; the other form is then a leftover.
    let old = admission.old.map(|old| text(old, "spec.clusterIP")).unwrap_or_default();
    let was_set = !old.is_empty() && admission.old.is_some_and(|it| text(it, "spec.type") != "ExternalName");
    let first = wanted.first().cloned().unwrap_or_default();
    if was_set && (first != old || (!single.is_empty() && single != old)) {
        let shown = if first == old { single } else { first };
        return Err(Cause::invalid("spec.clusterIPs[0]", &json!([shown]), "may not change once set"));
    }
    if !single.is_empty() && single != first {
        let why = "first value must match `clusterIP`";
        return Err(Cause::invalid("spec.clusterIPs", &json!(wanted), why));
    }
    if !wanted.is_empty() {
        set_cluster_ips(admission.object, &wanted);
    }
    Ok(())
}

/// The families in the Service's order: those of its addresses, those it names, then the cluster's.
fn choose_families(service: &Value, claims: &Claims) -> Result<Vec<String>, Cause> {
    let mut families: Vec<String> = Vec::new();
    let of_addresses = texts(service, "spec.clusterIPs").into_iter().filter_map(family_of).map(str::to_owned);
    let named = texts(service, "spec.ipFamilies").into_iter().map(str::to_owned);
    for family in of_addresses.chain(named) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    for (index, family) in families.iter().enumerate() {
        if claims.network(family).is_none() && !is_headless(service) {
            let why = "not configured on this cluster";
            return Err(Cause::invalid(format!("spec.ipFamilies[{index}]"), &json!(family), why));
        }
    }
    let policy = text(service, "spec.ipFamilyPolicy");
    for family in claims.families() {
        if !families.iter().any(|it| it == family) {
            families.push(family.to_owned());
        }
    }
    if policy == "RequireDualStack" && families.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        return Err(Cause::invalid("spec.ipFamilyPolicy", &json!(policy), why));
    }
    families.truncate(if ["PreferDualStack", "RequireDualStack"].contains(&policy) { 2 } else { 1 });
    Ok(families)
}

fn choose_addresses(admission: &Admission<'_>, families: &[String]) -> Result<Vec<String>, Cause> {
    let wanted = texts(admission.object, "spec.clusterIPs");
    let mut addresses = Vec::new();
    for (index, family) in families.iter().enumerate() {
        addresses.push(match wanted.get(index) {
            Some(address) => check_wanted(admission, index, address)?,
            None => admission.claims.find_free_address(family).map(|it| it.to_string()).ok_or_else(|| {
                let why = format!("failed to allocate a serviceIP: the {family} range is full");
                Cause::invalid("spec.clusterIPs", &json!([]), &why)
            })?,
        });
    }
    Ok(addresses)
}

fn check_wanted(admission: &Admission<'_>, index: usize, address: &str) -> Result<String, Cause> {
    let field = format!("spec.clusterIPs[{index}]");
    let value = json!([address]);
    let Ok(parsed) = address.parse::<IpAddr>() else {
        return Err(Cause::invalid(
            field,
            &json!(address),
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    };
    let already_ours = admission.old.is_some_and(|old| texts(old, "spec.clusterIPs").contains(&address));
    if already_ours {
        return Ok(address.to_owned());
    }
    let network = admission.claims.network(family_of(address).unwrap_or_default());
    if let Some(network) = network.filter(|network| !network.contains(parsed)) {
        let why = format!(
            "failed to allocate IP {address}: the provided IP is not in the valid range. The range of valid IPs is {network}"
        );
        return Err(Cause::invalid(field, &value, &why));
    }
    if admission.claims.holder(Claim::Address(parsed)).is_some() {
        let why = format!("failed to allocate IP {address}: provided IP is already allocated");
        return Err(Cause::invalid(field, &value, &why));
    }
    Ok(address.to_owned())
}

fn family_of(address: &str) -> Option<&'static str> {
    match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(_) => Some("IPv4"),
        IpAddr::V6(_) => Some("IPv6"),
    }
}
