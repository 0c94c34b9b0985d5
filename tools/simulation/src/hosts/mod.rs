//! The processes of a simulated run: the services and the trainer as they ship, on turmoil's hosts.
//!
//! Only the encoders' model is simulated. Faults, load and verdicts are in the folder above.

pub mod classifier_host;
pub mod encoder_host;
pub(crate) mod encoder_workers;
pub mod trainer_host;
