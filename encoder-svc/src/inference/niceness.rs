//! The priority of single-core workers on the machine's cores.
//!
//! Single-core workers are niced, so that the kernel gives the cores first to the all-core worker,
//! which runs a lone online text, and to the threads that serve calls. Then neither a lone online
//! text nor a rejection waits for bulk runs.

/// Lowers the priority of the calling thread by `niceness`; 0 leaves it as it is.
pub(crate) fn lower_priority(niceness: u8) {
    if niceness > 0
        && let Err(error) = nice(niceness.into())
    {
        tracing::warn!(%error, "workers keep their priority, so online texts may wait for bulk texts");
    }
}

#[cfg(target_os = "linux")]
fn nice(niceness: i32) -> std::io::Result<()> {
    // On Linux these calls act on the calling thread rather than the process, see setpriority(2).
    let before = rustix::process::getpriority_process(None)?;
    Ok(rustix::process::setpriority_process(None, before + niceness)?)
}

/// Other systems have priorities of whole processes only.
#[cfg(not(target_os = "linux"))]
fn nice(_niceness: i32) -> std::io::Result<()> {
    Ok(())
}
