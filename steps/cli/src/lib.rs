//! What the five command lines share.
