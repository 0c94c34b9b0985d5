//! What the command lines of both services share.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::{ClientTls, ClientTlsSettings, Target, TlsError, healthcheck};

/// How to talk to an `https://` address.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientTlsArgs {
    /// For https addresses: the authorities to trust, a PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// For servers that ask for one: our certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key, a PEM file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host of the address.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

impl ClientTlsArgs {
    /// What `target` needs.
    pub fn for_target(&self, target: &Target) -> Result<Option<ClientTls>, TlsError> {
        if !target.is_encrypted() {
            return Ok(None);
        }
        let settings = ClientTlsSettings {
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            server_name: self.server_name.clone(),
        };
        ClientTls::new(&settings).map(Some)
    }
}

/// `healthcheck`, but for its address, whose default is the service's own.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckArgs {
    /// Ask again for so many seconds before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    tls: ClientTlsArgs,
}

impl HealthcheckArgs {
    /// Asks the service at `address`.
    pub async fn run(&self, address: &str) -> anyhow::Result<()> {
        let tls = self.tls.for_target(&Target::parse(address)?)?;
        Ok(healthcheck(address, Duration::from_secs(self.wait), tls).await?)
    }
}

/// Runs a command on a runtime of its own; what fails is said on standard error, with exit code 1.
pub fn run_command(command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run_command_on(&mut tokio::runtime::Builder::new_multi_thread(), command)
}

/// The same on a runtime of so many threads; of one, the calling one is it.
pub fn run_command_on_threads(threads: usize, command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    match threads {
        // First in, first out: what several tasks write to a connection leaves in one call of the system.
        1 => run_command_on(&mut tokio::runtime::Builder::new_current_thread(), command),
        _ => run_command_on(tokio::runtime::Builder::new_multi_thread().worker_threads(threads), command),
    }
}

fn run_command_on(
    builder: &mut tokio::runtime::Builder,
    command: impl Future<Output = anyhow::Result<()>>,
) -> ExitCode {
    let result = builder
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", in_words(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes, but for those that the message before has told already: many messages hold their cause's.
#[must_use]
pub fn in_words(error: &anyhow::Error) -> String {
    let mut words = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if words.is_empty() {
            words = cause;
        } else if !words.contains(&cause) {
            words = format!("{words}: {cause}");
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once() {
        let io = || std::io::Error::other("no such thing");
        let told = anyhow::Error::from(io()).context("reading x: no such thing");
        assert_eq!(in_words(&told), "reading x: no such thing");
        let untold = anyhow::Error::from(io()).context("reading x");
        assert_eq!(in_words(&untold), "reading x: no such thing");
    }
}
