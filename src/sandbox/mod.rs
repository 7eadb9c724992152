//! A stand-in CXone.
