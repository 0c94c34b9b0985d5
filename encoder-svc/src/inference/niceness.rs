//! The priority of single-core workers on the machine's cores.
//!
//! Single-core workers are niced, so that the kernel prefers the reserved worker, which runs a lone
//! online text, and the threads that serve calls. Therefore neither a lone online text nor a
//! rejection waits for bulk runs.

/// Lowers the priority of the calling thread by `niceness`; 0 leaves it as it is.
pub(crate) fn lower_priority(niceness: u8) {
    if niceness > 0
        && let Err(error) = nice(niceness.into())
    {
        tracing::warn!(%error, "cannot lower the priority of workers; online texts may wait for bulk texts");
    }
}

#[cfg(target_os = "linux")]
fn nice(niceness: i32) -> std::io::Result<()> {
    // On Linux these calls act on the calling thread rather than the process, see setpriority(2).
    let before = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, before + niceness)?)
}

/// Other systems can only set the priority of a whole process.
#[cfg(not(target_os = "linux"))]
fn nice(_niceness: i32) -> std::io::Result<()> {
    Ok(())
}
