//! The catalogue of bad requests, at the admin listener.
