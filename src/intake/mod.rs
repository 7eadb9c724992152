//! The door: HTTP in, submissions out.
