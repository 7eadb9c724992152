//! The `dispod` program: parse the command, run it; an error is one line on standard error and its exit status.

use std::process::ExitCode;

use clap::Parser;
use dispod::cli::Cli;

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "one call into glibc that nothing safe wraps")]
mod malloc;
#[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
#[expect(unsafe_code, reason = "one call into glibc that nothing safe wraps")]
mod nss;

fn main() -> ExitCode {
    #[cfg(target_env = "gnu")]
    malloc::be_small();
    #[cfg(all(target_env = "gnu", target_feature = "crt-static"))]
    nss::use_files_and_dns();
    match Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dispod: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}
