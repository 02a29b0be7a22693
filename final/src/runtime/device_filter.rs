//! device_filter.
