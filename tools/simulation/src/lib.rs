//! The real classifier, encoders and trainer over a simulated network, in simulated time.
//!
//! A seed decides a [`plan`]: hosts, load, and faults with their times. [`run`](run::run) runs the
//! real services of [`hosts`] on turmoil's hosts, each with its own clock. The clients of [`load`]
//! compare every response with the [`truth`]: the one vector of a text, and the one result of a
//! model. The [`ledger`] records broken promises, and a hash over all events.
//!
//! Each seed runs in its own process (`simulate-one`), so that a run depends on the seed alone;
//! [`runner`] starts them. The simulated transport and the simulated model source are implemented
//! here, not in the services.

pub mod hosts;
pub mod ledger;
pub mod load;
pub mod network;
pub mod plan;
pub mod run;
pub mod runner;
pub mod sabotage;
mod task_queue;
pub mod truth;
pub mod world;
