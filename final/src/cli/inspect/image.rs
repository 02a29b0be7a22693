//! What `inspect` shows of an image.

use anyhow::Result;
use images::Image;
use serde_json::{Value, json};

use super::container::{NEVER, without_empty};

/// An image as docker shows it, in docker's order.
pub(super) fn shown(image: &Image) -> Result<Value> {
    let mut known = serde_json::to_value(image)?;
    let mut its = |key: &str| known.get_mut(key).map(Value::take).unwrap_or_default();
    let document = image.document();
    let said = |key: &str| document.extra.get(key).cloned().unwrap_or("".into());
    // Docker names the layers from the top down.
    let layers = image.layers().iter().rev();
    let mut layers = layers.map(|layer| layer.display().to_string());
    let upper = layers.next().unwrap_or_default();
    let shown = json!({
        "Id": its("Id"),
        "RepoTags": its("RepoTags"),
        "RepoDigests": its("RepoDigests"),
        "Parent": "",
        "Comment": document.history.last().map_or("", |last| last.comment.as_str()),
        "Created": its("Created"),
        "DockerVersion": said("docker_version"),
        "Author": said("author"),
        "Config": its("Config"),
        "Architecture": its("Architecture"),
        "Variant": said("variant"),
        "Os": its("Os"),
        "Size": its("Size"),
        "GraphDriver": {
            "Data": { "LowerDir": layers.collect::<Vec<_>>().join(":"), "UpperDir": upper },
            "Name": "overlay2",
        },
        "RootFS": its("RootFS"),
        "Metadata": { "LastTagTime": NEVER },
    });
    // Most processors have no variants.
    Ok(without_empty(shown, &["Variant"]))
}

/// What a template may ask for although an image does not say it.
pub(super) fn unsaid() -> Value {
    json!({
        "User": "", "WorkingDir": "", "StopSignal": "", "Variant": "",
        "ExposedPorts": null, "Env": null, "Entrypoint": null, "Cmd": null, "Volumes": null, "Labels": null,
        "OnBuild": null, "Healthcheck": null, "Shell": null,
    })
}
