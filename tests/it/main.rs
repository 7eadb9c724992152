//! Everything dispod promises, proved from outside.
mod config;
