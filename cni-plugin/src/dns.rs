//! Name servers that a result reports. The plugin configures none: the runtime writes the pod's `resolv.conf`.

use serde::{Deserialize, Serialize};

/// The `dns` object of configurations and results.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of name servers, in the order in which they are asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Domains that short names are looked up in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options for the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// True when there is nothing to report.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the text of a `resolv.conf`; lines that it does not know are skipped, as resolvers do.
    pub fn from_resolv_conf(text: &str) -> Self {
        let mut dns = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            let words = words.map(str::to_owned);
            match key {
                "nameserver" => dns.nameservers.extend(words.take(1)),
                "domain" => dns.domain = words.take(1).collect(),
                "search" => dns.search.extend(words),
                "options" => dns.options.extend(words),
                _ => {}
            }
        }
        dns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolv_conf_is_read() {
        let text = "# made by hand\nnameserver 10.96.0.10\nnameserver fd00::a\nsearch a.b c.d\ndomain x\noptions ndots:5\n";
        let dns = Dns::from_resolv_conf(text);
        assert_eq!(dns.nameservers, ["10.96.0.10", "fd00::a"]);
        assert_eq!((&*dns.domain, dns.search.len(), dns.options.len()), ("x", 2, 1));
        assert!(Dns::from_resolv_conf("").is_empty());
    }
}
