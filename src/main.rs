//! The `dispod` program.

fn main() {}
