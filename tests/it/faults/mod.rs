//! What a failing, full or lying disk can do, done on purpose: what was acknowledged is there afterwards, or the
//! start is refused with words.

mod damage;
mod keeper;
mod log;
mod shim;
mod space;
