//! The limits of the two classes: how long their entries may take, and bulk's share of the runs.

use std::time::Duration;

use crate::scheduler::entry::PerClass;

/// While both classes wait, one run in this many is bulk. Online entries go first, and bulk never
/// starves.
pub const BULK_SHARE: u32 = 8;

/// The longest expected time, from arrival to vector, at which an entry of each class is still
/// admitted.
pub type QueueLimits = PerClass<Duration>;
