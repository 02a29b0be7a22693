//! `network create`

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use clap::Args;
use ipnetwork::IpNetwork;
use minidocker::engine::networks::{Networks, Wish};

use crate::Context;
use crate::options::pairs;

/// Make a network, and print its id
///
/// Its containers reach each other, by their names too, and those of no other network. Nothing of
/// it is there before the first container comes.
#[derive(Debug, Args)]
#[command(after_help = "Example: minidocker network create --subnet 10.5.0.0/24 back")]
pub(crate) struct Create {
    /// What to call it
    name: String,
    /// Accepted: any container can be put into any network
    #[arg(long)]
    attachable: bool,
    /// An address that no container gets, and whose it is
    #[arg(long, value_name = "NAME=ADDRESS", value_parser = pairs::label)]
    aux_address: Vec<String>,
    /// How to make it: bridge
    #[arg(
        short,
        long,
        value_name = "DRIVER",
        default_value = "bridge",
        hide_default_value = true
    )]
    driver: String,
    /// The host's address there
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    gateway: Vec<String>,
    /// Let nothing out of it, and nothing in
    #[arg(long)]
    internal: bool,
    /// Give out addresses of this part of the subnet only
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    ip_range: Vec<String>,
    /// Also give out IPv6 addresses
    #[arg(long)]
    ipv6: bool,
    /// What to write on it
    #[arg(long, value_name = "KEY=VALUE", value_parser = pairs::label)]
    label: Vec<String>,
    /// Docker's options of a bridge: com.docker.network.bridge.name, com.docker.network.driver.mtu,
    /// com.docker.network.bridge.enable_icc and com.docker.network.bridge.host_binding_ipv4
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = pairs::label)]
    opt: Vec<String>,
    /// How far it reaches: local
    #[arg(long, value_name = "SCOPE", default_value = "local", hide_default_value = true, value_parser = ["local"])]
    scope: String,
    /// Its addresses, and once more for IPv6; without one, some that nobody has
    #[arg(long, value_name = "SUBNET", value_delimiter = ',')]
    subnet: Vec<String>,
}

impl Create {
    pub(crate) fn run(self, context: &Context) -> Result<u8> {
        let wish = Wish {
            name: self.name,
            driver: self.driver,
            subnets: subnets(&self.subnet)?,
            ranges: subnets(&self.ip_range)?,
            gateways: addresses(&self.gateway)?,
            six: self.ipv6,
            spared: spared(&self.aux_address)?,
            internal: self.internal,
            attachable: self.attachable,
            labels: pairs::labels(&[], &self.label)?,
            options: pairs::labels(&[], &self.opt)?,
        };
        let network = Networks::open(&context.dirs).create(wish)?;
        cli::say(&network.id)?;
        Ok(0)
    }
}

fn spared(texts: &[String]) -> Result<BTreeMap<String, IpAddr>> {
    let parse = |(name, text): (String, String)| {
        let parsed = text.parse();
        let address = parsed.with_context(|| format!("invalid aux-address address: {text}"))?;
        Ok((name, address))
    };
    pairs::labels(&[], texts)?.into_iter().map(parse).collect()
}

fn subnets(texts: &[String]) -> Result<Vec<IpNetwork>> {
    let parse = |text: &String| {
        let parsed = text.contains('/').then(|| text.parse().ok()).flatten();
        parsed.with_context(|| format!("invalid CIDR address: {text}"))
    };
    texts.iter().map(parse).collect()
}

fn addresses(texts: &[String]) -> Result<Vec<IpAddr>> {
    let parse = |text: &String| {
        let parsed = text.parse();
        parsed.with_context(|| format!("invalid gateway address: {text}"))
    };
    texts.iter().map(parse).collect()
}
