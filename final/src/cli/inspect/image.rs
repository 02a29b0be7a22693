//! What `inspect` shows of an image.

use anyhow::Result;
use images::Image;
use serde_json::{Map, Value, json};

/// An image as docker shows it, in docker's order.
pub(super) fn shown(image: &Image) -> Result<Value> {
    let mut known = serde_json::to_value(image)?;
    let document = image.document();
    let said = |key: &str| {
        document
            .extra
            .get(key)
            .cloned()
            .unwrap_or_else(|| "".into())
    };
    let last = document.history.last();
    let mut layers: Vec<_> = image
        .layers()
        .iter()
        .map(|it| it.display().to_string())
        .collect();
    // Docker names them from the top down.
    layers.reverse();
    let (upper, lower) = match layers.split_first() {
        Some((upper, lower)) => (upper.as_str(), lower.join(":")),
        None => ("", String::new()),
    };
    let others = [
        ("Parent", "".into()),
        (
            "Comment",
            last.map_or("", |last| last.comment.as_str()).into(),
        ),
        ("DockerVersion", said("docker_version")),
        ("Author", said("author")),
        ("Variant", said("variant")),
        (
            "GraphDriver",
            json!({ "Data": { "LowerDir": lower, "UpperDir": upper }, "Name": "overlay2" }),
        ),
        ("Metadata", json!({ "LastTagTime": "0001-01-01T00:00:00Z" })),
    ];
    let others: Map<String, Value> = others
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect();
    let mut shown = Map::new();
    for key in ORDER {
        let value = others
            .get(key)
            .cloned()
            .or_else(|| Some(known.get_mut(key)?.take()));
        let value = value.unwrap_or_default();
        // Most processors have no variants.
        if key != "Variant" || value != "" {
            shown.insert(key.to_owned(), value);
        }
    }
    Ok(shown.into())
}

const ORDER: [&str; 16] = [
    "Id",
    "RepoTags",
    "RepoDigests",
    "Parent",
    "Comment",
    "Created",
    "DockerVersion",
    "Author",
    "Config",
    "Architecture",
    "Variant",
    "Os",
    "Size",
    "GraphDriver",
    "RootFS",
    "Metadata",
];

/// What a template may ask for although an image does not say it.
pub(super) fn unsaid() -> Value {
    json!({
        "User": "", "WorkingDir": "", "StopSignal": "", "Variant": "",
        "ExposedPorts": null, "Env": null, "Entrypoint": null, "Cmd": null, "Volumes": null, "Labels": null,
        "OnBuild": null, "Healthcheck": null, "Shell": null,
    })
}
