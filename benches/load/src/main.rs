//! The two ends of every benchmark: an upstream that answers with fixed bytes at once, and clients
//! that count and time. Both speak raw HTTP/1.1 over TCP, so that as little as possible of what is
//! measured is theirs.

mod client;
mod upstream;

use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load generator and fixed upstream.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers every request at once; prints its address.
    Upstream {
        /// Address and port; port 0 lets the kernel choose.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
    /// Sends requests and prints what it saw as JSON.
    Run(client::Plan),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let ended = match Arguments::parse().command {
        Command::Upstream { listen } => upstream::run(listen).await,
        Command::Run(plan) => client::run(plan).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            eprintln!("load: {cause}");
            ExitCode::FAILURE
        }
    }
}
