//! A limit on the memory that an input may make a reader allocate.

use cap::Cap;
use peak_alloc::PeakAlloc;

/// Fails allocations that would take the machine's memory. The process then aborts: "memory
/// allocation of … bytes failed".
#[global_allocator]
static ALLOCATOR: Cap<PeakAlloc> = Cap::new(PeakAlloc, 4 << 30);

/// Bytes that any input may allocate, for buffers and tables.
const ALLOWANCE: usize = 32 << 20;
/// Bytes per byte of input. A parsed tree is larger than its text.
const FACTOR: usize = 1024;

/// Runs `work` on an input of `input_bytes` bytes.
///
/// # Panics
/// If `work` held more memory at any time than such an input may allocate.
pub(crate) fn bounded<T>(input_bytes: usize, work: impl FnOnce() -> T) -> T {
    let limit = ALLOWANCE + FACTOR * input_bytes;
    PeakAlloc.reset_peak_usage();
    let before = PeakAlloc.current_usage();
    let result = work();
    let held = PeakAlloc.peak_usage().saturating_sub(before);
    assert!(
        held <= limit,
        "an input of {input_bytes} bytes allocated {held} bytes, expected at most {limit}"
    );
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_memory_that_was_freed_again() {
        let hold = |bytes: usize| std::panic::catch_unwind(|| bounded(0, || drop(vec![1_u8; bytes])));
        assert!(hold(ALLOWANCE / 2).is_ok());
        assert!(hold(ALLOWANCE * 2).is_err());
    }

    #[test]
    fn fails_an_allocation_that_would_take_all_memory() {
        assert!(Vec::<u8>::new().try_reserve(8 << 30).is_err());
        assert!(ALLOCATOR.limit() < 8 << 30);
    }
}
