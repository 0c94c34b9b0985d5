//! No input may make a reader ask for more memory than its size explains.

use cap::Cap;
use peak_alloc::PeakAlloc;

/// What would take the machine's memory is refused, which ends the process: "memory allocation of … bytes failed".
#[global_allocator]
static ALLOCATOR: Cap<PeakAlloc> = Cap::new(PeakAlloc, 4 << 30);

/// Buffers and tables that are there for any input.
const ALLOWANCE: usize = 32 << 20;
/// Bytes for each byte of input: parsed trees are larger than their text.
const FACTOR: usize = 1024;

/// Does `work` on an input of so many bytes.
///
/// # Panics
/// If at any time in between it held more than such an input explains.
pub(crate) fn bounded<T>(input_bytes: usize, work: impl FnOnce() -> T) -> T {
    let most = ALLOWANCE + FACTOR * input_bytes;
    PeakAlloc.reset_peak_usage();
    let before = PeakAlloc.current_usage();
    let result = work();
    let held = PeakAlloc.peak_usage().saturating_sub(before);
    assert!(held <= most, "{held} bytes were held, expected at most {most}");
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_and_given_back_is_noticed() {
        let hold = |bytes: usize| std::panic::catch_unwind(|| bounded(0, || drop(vec![1_u8; bytes])));
        assert!(hold(ALLOWANCE / 2).is_ok());
        assert!(hold(ALLOWANCE * 2).is_err());
    }

    #[test]
    fn what_would_take_all_memory_is_refused() {
        assert!(Vec::<u8>::new().try_reserve(8 << 30).is_err());
        assert!(ALLOCATOR.limit() < 8 << 30);
    }
}
