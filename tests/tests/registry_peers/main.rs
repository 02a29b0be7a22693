//! Images, registries and everybody else who handles them: Debian's registry, skopeo,
//! podman and umoci.

mod servers;
