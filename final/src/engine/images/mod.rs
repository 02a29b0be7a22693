//! The images at hand.
