//! Which limits apply.
