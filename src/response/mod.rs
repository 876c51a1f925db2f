//! What the caller sees.
