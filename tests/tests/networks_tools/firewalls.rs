//! Others' firewalls.
