//! Build-time only: one feature set for third-party crates whatever package is selected.
