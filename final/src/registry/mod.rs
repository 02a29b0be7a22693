//! The client's side of the OCI distribution-spec.
