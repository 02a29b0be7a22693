//! namespaces_of.
