//! Everything dispod promises, proved from outside.
