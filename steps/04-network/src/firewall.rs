//! Firewalls of others that are in the way, and what to tell them.
//!
//! A packet passes each table's chain at the hook *forward*, and one verdict to drop is final: no rule
//! of ours can overrule it. So a person is told which chain it is, and the command that allows it. To
//! write into somebody else's table is theirs to do.

use std::fmt;

use anyhow::{Context, Result};

use crate::nft::{
    Line, NFTA_CHAIN_HOOK, NFTA_CHAIN_NAME, NFTA_CHAIN_POLICY, NFTA_CHAIN_TABLE, NFTA_HOOK_HOOKNUM,
    NFTA_RULE_TABLE, find, text,
};

/// A chain of another table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    family: &'static str,
    table: String,
    name: String,
    /// What of forwarded packets no rule of it takes is dropped.
    drops: bool,
}

/// The chains that drop what is forwarded, in tables that have no rule about this link.
pub(crate) fn in_the_way(line: &Line, link: &str) -> Result<Vec<Blocked>> {
    let mut chains = Vec::new();
    let take = |family, attributes: &[u8]| chains.extend(Chain::read(family, attributes));
    line.dump(libc::NFT_MSG_GETCHAIN, take)
        .context("NFT_MSG_GETCHAIN")?;
    let (mut dropping, others): (Vec<_>, Vec<_>) = chains.into_iter().partition(|one| one.drops);
    if dropping.is_empty() {
        return Ok(Vec::new());
    }
    // To its end: iptables compares no more than that.
    let name = format!("{link}\0").into_bytes();
    let take = |family, attributes: &[u8]| {
        let table = text(attributes, NFTA_RULE_TABLE).unwrap_or_default();
        if attributes.windows(name.len()).any(|bytes| bytes == name) {
            dropping.retain(|chain| {
                (family_name(family), &table) != (Some(chain.family), &chain.table)
            });
        }
    };
    line.dump(libc::NFT_MSG_GETRULE, take)
        .context("NFT_MSG_GETRULE")?;
    let blocked = |chain: Chain| {
        let beside = others.iter().filter(|one| one.table == chain.table);
        let beside = beside.map(|one| one.name.clone()).collect();
        Blocked { chain, beside }
    };
    Ok(dropping.into_iter().map(blocked).collect())
}

/// A chain that is in the way.
pub(crate) struct Blocked {
    chain: Chain,
    /// What other chains its table has, by which one knows who wrote it.
    beside: Vec<String>,
}

impl Blocked {
    /// What allows a link's packets, as its owner would say it.
    pub fn remedy(&self, link: &str) -> String {
        let Chain {
            family,
            table,
            name,
            ..
        } = &self.chain;
        let has = |wanted: &str| self.beside.iter().any(|name| name.starts_with(wanted));
        let iptables = if *family == "ip6" {
            "ip6tables"
        } else {
            "iptables"
        };
        match () {
            () if table == "firewalld" => {
                format!("`firewall-cmd --zone=trusted --add-interface={link}`")
            }
            () if has("ufw") => {
                format!("`ufw route allow in on {link}` and `ufw route allow out on {link}`")
            }
            () if has("DOCKER-USER") => format!(
                "`{iptables} -I DOCKER-USER -i {link} -j ACCEPT` and \
                 `{iptables} -I DOCKER-USER -o {link} -j ACCEPT`"
            ),
            () => format!(
                "`nft insert rule {family} {table} {name} iifname {link} accept` and \
                 `nft insert rule {family} {table} {name} oifname {link} accept`"
            ),
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chain {
            family,
            table,
            name,
            ..
        } = &self.chain;
        write!(f, "{family} {table} {name}")
    }
}

impl Chain {
    fn read(family: i32, attributes: &[u8]) -> Option<Self> {
        let table = text(attributes, NFTA_CHAIN_TABLE)?;
        let is = |value: Option<&[u8]>, number: i32| {
            value == Some((number as u32).to_be_bytes().as_slice())
        };
        let hook = find(attributes, NFTA_CHAIN_HOOK).and_then(|hook| find(hook, NFTA_HOOK_HOOKNUM));
        let rejects = table == "firewalld"; // by its last rule, and not by policy
        Some(Self {
            family: family_name(family)?,
            name: text(attributes, NFTA_CHAIN_NAME)?,
            drops: is(hook, libc::NF_INET_FORWARD)
                && (rejects || is(find(attributes, NFTA_CHAIN_POLICY), libc::NF_DROP)),
            table,
        })
    }
}

/// The families whose chains see packets of IP, as nft(8) calls them.
fn family_name(family: i32) -> Option<&'static str> {
    match family {
        libc::NFPROTO_IPV4 => Some("ip"),
        libc::NFPROTO_IPV6 => Some("ip6"),
        libc::NFPROTO_INET => Some("inet"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::Attributes;

    fn chain(table: &str, policy: i32, hook: i32) -> Option<Chain> {
        let mut attributes = Attributes::default();
        attributes.text(NFTA_CHAIN_TABLE, table);
        attributes.text(NFTA_CHAIN_NAME, "FORWARD");
        attributes.nest(NFTA_CHAIN_HOOK, |inner| {
            inner.number(NFTA_HOOK_HOOKNUM, hook);
        });
        attributes.number(NFTA_CHAIN_POLICY, policy);
        Chain::read(libc::NFPROTO_IPV4, &attributes.0)
    }

    #[test]
    fn a_foreign_chain_that_drops_forwarded_packets_is_recognised() {
        let drops = |table, policy, hook| chain(table, policy, hook).is_some_and(|one| one.drops);
        let forward = libc::NF_INET_FORWARD;
        assert!(drops("filter", libc::NF_DROP, forward));
        assert!(!drops("filter", libc::NF_ACCEPT, forward));
        assert!(!drops("filter", libc::NF_DROP, libc::NF_INET_LOCAL_IN));
        assert!(drops("firewalld", libc::NF_ACCEPT, forward));
        assert_eq!(Chain::read(libc::NFPROTO_IPV4, &[0; 7]), None);
        assert_eq!(Chain::read(libc::NFPROTO_BRIDGE, &[]), None);
    }

    #[test]
    fn the_remedy_is_in_its_owners_words() {
        let remedy = |table, beside: &str| {
            let chain = chain(table, libc::NF_DROP, libc::NF_INET_FORWARD);
            let beside = vec![beside.to_owned()];
            let blocked = chain.map(|chain| Blocked { chain, beside });
            blocked.map(|one| one.remedy("mini0")).unwrap_or_default()
        };
        assert!(remedy("filter", "DOCKER-USER").contains("iptables -I DOCKER-USER -o mini0"));
        assert!(remedy("filter", "ufw-user-forward").contains("ufw route allow in on mini0"));
        assert!(remedy("firewalld", "").contains("--add-interface=mini0"));
        let plain = remedy("mine", "x");
        assert!(plain.contains("nft insert rule ip mine FORWARD iifname mini0 accept"));
    }
}
