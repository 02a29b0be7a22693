//! What `inspect` shows of a network: docker's document, in docker's order.

use anyhow::Result;
use ipnetwork::IpNetwork;
use minidocker::engine::networks::Networks;
use minidocker::state::{Container, Endpoint, Network};
use serde_json::{Map, Value, json};

use super::container::{NEVER, endpoint_id, text, without_empty};

/// A network as docker shows it, with the containers that are in it.
pub(super) fn shown(networks: &Networks, network: &Network) -> Result<Value> {
    let members = networks.members(network)?;
    let created = match network.is_predefined() {
        true => NEVER.to_owned(),
        false => network.created.to_string(),
    };
    let containers: Map<String, Value> = members
        .iter()
        .map(|it| (it.id.clone(), member(it, network)))
        .collect();
    Ok(json!({
        "Name": network.name,
        "Id": network.id,
        "Created": created,
        "Scope": "local",
        "Driver": network.driver(),
        "EnableIPv6": network.subnet6.is_some(),
        "IPAM": {
            "Driver": "default",
            "Options": if network.is_predefined() { Value::Null } else { json!({}) },
            "Config": pools(network),
        },
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": containers,
        "Options": options(network),
        "Labels": network.labels,
    }))
}

fn pools(network: &Network) -> Value {
    let pool = |subnet: IpNetwork, range: String, gateway: String| {
        let mut spared = network.spared.clone();
        spared.retain(|_, address| subnet.contains(*address));
        let mut pool = json!({ "Subnet": subnet, "IPRange": range, "Gateway": gateway });
        if !spared.is_empty() {
            pool["AuxiliaryAddresses"] = json!(spared);
        }
        without_empty(pool, &["IPRange"])
    };
    let four = network.subnet.map(|subnet| {
        let (range, gateway) = (text(network.range), text(network.gateway));
        pool(subnet.into(), range, gateway)
    });
    let six = network.subnet6.map(|subnet| {
        let (range, gateway) = (text(network.range6), text(network.gateway6));
        pool(subnet.into(), range, gateway)
    });
    [four, six].into_iter().flatten().collect()
}

fn options(network: &Network) -> Value {
    match network.name.as_str() {
        Network::DEFAULT => json!({
            "com.docker.network.bridge.default_bridge": "true",
            (Network::BRIDGE_NAME): network.link(),
        }),
        _ => json!(network.options),
    }
}

/// A container in it.
fn member(container: &Container, network: &Network) -> Value {
    let none = Endpoint::default();
    let endpoint = container.life.networks.get(&network.name).unwrap_or(&none);
    let with = |address: Option<String>, prefix: u8| {
        address.map_or_else(String::new, |address| format!("{address}/{prefix}"))
    };
    json!({
        "Name": container.name,
        "EndpointID": endpoint_id(container, network),
        "MacAddress": endpoint.mac,
        "IPv4Address": with(endpoint.address.map(|it| it.to_string()), endpoint.prefix),
        "IPv6Address": with(endpoint.six.map(|it| it.to_string()), endpoint.prefix6),
    })
}
