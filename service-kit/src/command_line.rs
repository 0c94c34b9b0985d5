//! Arguments and exit codes that all command lines share.

use std::io::{self, ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::{ClientTls, ClientTlsSettings, Target, TlsError, healthcheck};

/// Arguments for calls to `https://` addresses.
#[derive(Debug, Clone, Default, Args)]
pub struct ClientTlsArgs {
    /// Trusted authorities for https addresses, a PEM file.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Client certificate for servers that require one, a PEM file.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Private key of the client certificate, a PEM file.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Name in the server's certificate, if it differs from the host of the address.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

impl ClientTlsArgs {
    /// Returns the TLS configuration for `target`, or `None` if it is not encrypted.
    pub fn for_target(&self, target: &Target) -> Result<Option<ClientTls>, TlsError> {
        if !target.is_encrypted() {
            return Ok(None);
        }
        ClientTls::new(&self.over(ClientTlsSettings::default())).map(Some)
    }

    /// Returns `settings` with what the arguments set.
    #[must_use]
    pub fn over(&self, settings: ClientTlsSettings) -> ClientTlsSettings {
        ClientTlsSettings {
            ca: self.ca.clone().or(settings.ca),
            certificate: self.certificate.clone().or(settings.certificate),
            key: self.key.clone().or(settings.key),
            server_name: self.server_name.clone().or(settings.server_name),
        }
    }
}

/// Arguments of `healthcheck`, without the address, whose default differs by service.
#[derive(Debug, Clone, Args)]
pub struct HealthcheckArgs {
    /// Retry for this many seconds before giving up.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
    #[command(flatten)]
    tls: ClientTlsArgs,
}

impl HealthcheckArgs {
    /// Checks the service at `address`.
    pub async fn run(&self, address: &str) -> anyhow::Result<()> {
        let tls = self.tls.for_target(&Target::parse(address)?)?;
        Ok(healthcheck(address, Duration::from_secs(self.wait), tls).await?)
    }
}

/// Runs a command on a new runtime. An error goes to standard error, with exit code 1.
pub fn run_command(command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    run_command_on(&mut tokio::runtime::Builder::new_multi_thread(), command)
}

/// Runs a command on a new runtime with `threads` threads. A single thread is the calling thread.
pub fn run_command_on_threads(threads: usize, command: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    match threads {
        // This runtime runs tasks first in, first out, so that several tasks' writes to one
        // connection share a system call.
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
        Err(error) => report(&error),
    }
}

/// Prints an error to standard error, and returns the exit code for it.
#[must_use]
pub fn report(error: &anyhow::Error) -> ExitCode {
    // `eprintln!` would panic if the reader of a pipe has left.
    let _ = writeln!(io::stderr(), "error: {}", describe_error(error));
    ExitCode::FAILURE
}

/// Prints a text and a line end to standard output. It is no error if the reader of the pipe has left,
/// as `head` does: `println!` would panic.
pub fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    until_reader_left(writeln!(stdout, "{text}").and_then(|()| stdout.flush())).map(|_| ())
}

/// Returns whether what was written has a reader: `false` if the reader of the pipe has left.
pub fn until_reader_left(written: io::Result<()>) -> io::Result<bool> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Describes an error and its causes. Skips a cause if an earlier message already includes it.
#[must_use]
fn describe_error(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_each_cause_once() {
        let io = || std::io::Error::other("no such thing");
        let repeated = anyhow::Error::from(io()).context("reading x: no such thing");
        assert_eq!(describe_error(&repeated), "reading x: no such thing");
        let separate = anyhow::Error::from(io()).context("reading x");
        assert_eq!(describe_error(&separate), "reading x: no such thing");
    }
}
