//! Everything dispod promises, proved from outside.

mod sandbox;
mod support;
