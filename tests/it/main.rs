//! Everything dispod promises, proved from outside.

mod catalogue;
mod door;
mod hostile;
mod webhook;
